"""What the server does under load: answers a second and waiting times, many rows against one, over HTTP."""

import asyncio
import json
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
from rich.console import Console
from rich.table import Table

from agents.capstone.openai_api import MODEL
from agents.capstone.serve import listen, load_assistant, server_of
from agents.tool_agent.evaluation import hand_written

CONCURRENCY = (1, 2, 4, 8)
WARM_UP = 4


def bench_serve(requests: int, rows: int, repeats: int = 3) -> dict[str, Any]:
    """Ask `requests` hand-written tasks of a server with one row and of one with `rows`, 1, 2, 4 and 8 at a time.

    Each point is the run with the median throughput of `repeats`, the two servers in turn. Seconds; tokens are written
    ones. `batching_gain` is the throughput of many rows over that of one row with eight users.
    """
    prompts = [task.prompt for task in hand_written()]
    asked = [prompts[i % len(prompts)] for i in range(requests)]
    names = {f"rows {count}": count for count in (1, rows)}
    found: dict[str, dict[str, list[dict[str, float]]]] = {name: {} for name in names}
    for _ in range(repeats):
        for name, count in names.items():
            with _serving(count) as address:
                asyncio.run(_load(address, asked[:WARM_UP], WARM_UP))
                for users in CONCURRENCY:
                    point = asyncio.run(_load(address, asked, users))
                    found[name].setdefault(f"users {users}", []).append(point)
    middle = {
        name: {users: sorted(points, key=_throughput)[len(points) // 2] for users, points in of.items()}
        for name, of in found.items()
    }
    most = f"users {CONCURRENCY[-1]}"
    gain = _throughput(middle[f"rows {rows}"][most]) / _throughput(middle["rows 1"][most])
    return {"requests": requests, "repeats": repeats, **middle, "batching_gain": round(gain, 2)}


def render(result: dict[str, Any]) -> None:
    """Print the result as a table."""
    table = Table("server", "at a time", "answers/s", "tokens/s", "first token p50", "p95", "whole answer p50", "p95")
    for server, of in result.items():
        if isinstance(of, dict):
            for users, point in of.items():
                times = [f"{point[key]:.2f} s" for key in ("first_p50", "first_p95", "whole_p50", "whole_p95")]
                rates = [f"{point[key]:.1f}" for key in ("answers_per_second", "tokens_per_second")]
                table.add_row(server, users.removeprefix("users "), *rates, *times)
    console = Console()
    console.print(table)
    console.print(f"many rows over one, eight at a time: {result['batching_gain']} times the answers a second")


@contextmanager
def _serving(rows: int) -> Iterator[str]:
    assistant, _ = load_assistant(rows)
    listening = listen("127.0.0.1", 0)
    server = server_of(assistant)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join()


async def _load(address: str, asked: Sequence[str], users: int) -> dict[str, float]:
    """`users` ask at the same time, each the next question as soon as it has an answer."""
    todo = iter(asked)
    spans: list[tuple[float, float, int]] = []

    async def user(http: httpx.AsyncClient) -> None:
        for text in todo:
            spans.append(await _ask(http, text))

    start = time.perf_counter()
    async with httpx.AsyncClient(base_url=address, timeout=600, trust_env=False) as http:
        await asyncio.gather(*(user(http) for _ in range(users)))
    seconds = time.perf_counter() - start
    first, whole, tokens = zip(*spans, strict=True)
    return {
        "answers_per_second": round(len(spans) / seconds, 2),
        "tokens_per_second": round(sum(tokens) / seconds, 1),
        **{f"first_p{p}": round(float(np.percentile(first, p)), 3) for p in (50, 95)},
        **{f"whole_p{p}": round(float(np.percentile(whole, p)), 3) for p in (50, 95)},
        "tokens_an_answer": round(statistics.fmean(tokens), 1),
    }


async def _ask(http: httpx.AsyncClient, text: str) -> tuple[float, float, int]:
    """Seconds to the first thing that a user sees, a call or a piece of text; to the end; and tokens written."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": text}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    start, first, tokens = time.perf_counter(), 0.0, 0
    async with http.stream("POST", "/v1/chat/completions", json=body) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line.removeprefix("data: "))
            if "error" in chunk:
                raise RuntimeError(chunk["error"]["message"])
            seen = "event" in chunk or any(choice["delta"].get("content") for choice in chunk["choices"])
            first = first or (time.perf_counter() - start if seen else 0.0)
            tokens = chunk.get("usage", {}).get("completion_tokens", tokens)
    end = time.perf_counter() - start
    return first or end, end, tokens


def _throughput(point: dict[str, float]) -> float:
    return point["answers_per_second"]
