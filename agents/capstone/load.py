"""How much the server answers, and how long one waits for it, when several people ask at the same time.

Two servers answer the same questions in turn, several rounds of it, so that a busy minute of the machine falls on both:
one that batches, and one that writes a single answer at a time. Both are processes of their own, as is whoever asks.
No server is asked anything twice, so that no answer is remembered, only beginnings that prompts share. Answers of one
round wait for each other, and the interval of a p95 is made for such as do not: the true one is wider.
"""

import contextlib
import http.client
import json
import math
import os
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

from agents.capstone.engine import ROWS
from agents.capstone.quantiles import interval, quantile
from agents.tool_agent.development import KINDS
from agents.tool_agent.tasks import Maker
from agents.tool_agent.values import collect_values
from llmm import paths
from llmm.corpus import load_documents, load_objects
from llmm.errors import UserError


@dataclass(frozen=True)
class Answered:
    """One answer: seconds to its first text (None where there was no text) and to its end, and its tokens."""

    first: float | None
    whole: float
    tokens: int


@dataclass(frozen=True)
class Round:
    """All questions asked once, and the seconds that it took."""

    seconds: float
    answers: list[Answered]


def bench_serve(requests: int, concurrency: Sequence[int], rounds: int = 3) -> dict[str, Any]:
    """Ask `requests` new questions in each of `rounds` rounds at each concurrency, of servers with ROWS rows and one.

    Raises UserError where a server does not start or refuses a question.
    """
    new = questions()
    levels: dict[str, Any] = {}
    with server(ROWS) as batched, server(1) as single:
        for address in (batched, single):
            ask_all(address, list(islice(new, 8)), 1)  # warm-up
        for at_once in concurrency:
            asked = [list(islice(new, requests)) for _ in range(rounds)]
            taken = [(ask_all(batched, tasks, at_once), ask_all(single, tasks, at_once)) for tasks in asked]
            ours, alone = (summary(list(of_one)) for of_one in zip(*taken, strict=True))
            ratios = [one.seconds / many.seconds for many, one in taken]  # both write the same tokens, but for rounding
            levels[str(at_once)] = {
                "batched": ours,
                "one_at_a_time": alone,
                "throughput_ratio": round(statistics.median(ratios), 2),
                "of_each_round": [round(ratio, 2) for ratio in ratios],
            }
    return {"requests": requests, "rounds": rounds, "rows": ROWS, "cores": os.cpu_count(), "concurrency": levels}


def questions() -> Iterator[str]:
    """Questions without end and without repetition, for each tool in turn, with values of the validation split."""
    objects = load_objects(paths.CORPUS)
    of_split = [item for item in objects if item.split == "val"]
    values = collect_values(load_documents(paths.CORPUS, "val"), of_split, objects)
    maker, rng, before = Maker("TRAIN", values, "DEV"), random.Random(0), set[str]()
    for kind in cycle(KINDS):
        task = getattr(maker, kind)(rng).prompt
        if task not in before:
            before.add(task)
            yield task


@contextlib.contextmanager
def server(rows: int) -> Iterator[str]:
    """`llmm serve` in a process of its own: its host and port. Raises UserError where it does not start."""
    command = [sys.executable, "-m", "llmm.cli", "serve", "--port", "0", "--rows", str(rows)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            address = re.match(r"http://(\S+)", process.stdout.readline())
            if address is None:
                raise UserError(process.stderr.read().strip().removeprefix("llmm: ") or "the server did not start")
            yield address[1]
        finally:
            process.terminate()


def ask_all(address: str, tasks: Sequence[str], at_once: int) -> Round:
    """Ask all `tasks`, always `at_once` of them at a time. Raises UserError where one is refused."""
    started = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        answers = list(pool.map(lambda task: ask(address, task), tasks))
    return Round(time.perf_counter() - started, answers)


def summary(rounds: Sequence[Round]) -> dict[str, Any]:
    """Throughput over all rounds, and quantiles of all answers."""
    seconds = sum(one.seconds for one in rounds)
    answers = [answer for one in rounds for answer in one.answers]
    return {
        "requests_per_second": round(len(answers) / seconds, 2),
        "tokens": sum(answer.tokens for answer in answers),
        "seconds_to_first_text": _p50_p95([answer.first for answer in answers if answer.first is not None]),
        "seconds_to_end": _p50_p95([answer.whole for answer in answers]),
    }


def ask(address: str, task: str) -> Answered:
    """One question to the assistant at `address`, its answer read as it comes. Raises UserError where it is refused."""
    body = {"model": "assistant", "stream": True, "stream_options": {"include_usage": True}}
    connection = http.client.HTTPConnection(address, timeout=600)
    started = time.perf_counter()
    first, tokens = None, 0
    with contextlib.closing(connection):
        content = json.dumps({**body, "messages": [{"role": "user", "content": task}]})
        connection.request("POST", "/v1/chat/completions", content, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise UserError(f"the server refuses {task[:60]!r} ({answer.status}): {answer.read(300)!r}")
        for line in answer:
            if not line.startswith(b"data: {"):
                continue
            chunk = json.loads(line.removeprefix(b"data: "))
            if "error" in chunk:
                raise UserError(f"the server gave up {task[:60]!r}: {chunk['error']['message']}")
            if first is None and chunk["choices"] and chunk["choices"][0]["delta"].get("content"):
                first = time.perf_counter() - started
            tokens = chunk.get("usage", {}).get("completion_tokens", tokens)
    return Answered(first, time.perf_counter() - started, tokens)


def _p50_p95(seconds: Sequence[float]) -> dict[str, float | None] | None:
    """Median and p95, with the interval of the p95 (None: too few answers to know that end); None where nobody had
    to wait for anything."""
    if not seconds:
        return None
    low, high = interval(seconds, 0.95)
    found = {"p50": quantile(seconds, 0.5), "p95": quantile(seconds, 0.95), "p95_low": low, "p95_high": high}
    return {name: round(value, 4) if math.isfinite(value) else None for name, value in found.items()}


def render(result: dict[str, Any]) -> None:
    """Print the result as a table."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("at once", "server", "answers/s", "first text p50", "p95", "whole p50", "p95"):
        table.add_column(column, justify="left" if column == "server" else "right")
    for at_once, level in result["concurrency"].items():
        for name, row in (("batched", level["batched"]), ("one by one", level["one_at_a_time"])):
            both = (row["seconds_to_first_text"], row["seconds_to_end"])
            times = (f"{of[name]:.2f} s" if of else "" for of in both for name in ("p50", "p95"))
            table.add_row(at_once, name, f"{row['requests_per_second']:.1f}", *times)
    console.print(table)
    ratios = ", ".join(f"{level['throughput_ratio']:.2f} at {n}" for n, level in result["concurrency"].items())
    console.print(f"batching answers so many times as much: {ratios} at once (median of {result['rounds']} rounds)")
    console.print(f"{result['requests']} questions a round, {result['rows']} rows, {result['cores']} cores")
