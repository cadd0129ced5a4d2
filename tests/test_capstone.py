"""The capstone: the engine that many requests share, and the server over it, asked by a client of OpenAI."""

import asyncio
import json
import random
import socket
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import openai
import pytest
import torch
from torch import Tensor

from agents.capstone.assistant import Assistant, Cancelled, citations
from agents.capstone.engine import Engine, EngineBusy, EngineClosed, Request
from agents.capstone.openai_api import MODEL
from agents.capstone.serve import listen, server_of
from agents.capstone.server import MOST_BYTES
from agents.tool_agent.loop import Limits
from agents.tool_agent.trace import Step, Trace
from llmm.errors import UserError
from llmm.training.lora.chat import Message
from llmm.transformers.gpt import GPT, GPTConfig
from llmm.transformers.gpt.generate import generate
from llmm.transformers.gpt.sampling import Sampler
from tests import tiny_agent

VOCABULARY = 60


@pytest.fixture(scope="module")
def model() -> GPT:
    """Grouped heads, normalised queries and keys, a short context, and double precision: ties are none by rounding."""
    made = GPT(GPTConfig(VOCABULARY, 2, 4, 2, 32, 48, context_len=48)).double().eval()
    made.init_weights(torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    return made


@pytest.fixture
def engine(model: GPT) -> Iterator[Engine]:
    made = Engine(model, rows=3, most_waiting=50)
    yield made
    made.close()


def requests(count: int, seed: int) -> list[Request]:
    rng = random.Random(seed)
    return [
        Request(
            [rng.randrange(VOCABULARY) for _ in range(rng.randint(1, 40))],
            rng.randint(1, 40),
            frozenset(rng.sample(range(VOCABULARY), 2)),
        )
        for _ in range(count)
    ]


def alone(model: GPT, request: Request) -> list[int]:
    return generate(model, [list(request.prompt)], request.max_new_tokens, list(request.stop_ids), request.sampler)[0]


# --- the engine -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_a_request_is_answered_as_if_it_were_alone(model: GPT, engine: Engine, seed: int) -> None:
    asked = requests(14, seed)
    tickets = [engine.submit(request) for request in asked]  # rows join and leave at all ages, and the block fills up
    assert [list(ticket) for ticket in tickets] == [alone(model, request) for request in asked]
    assert engine.load == (0, 0)


def test_requests_that_come_one_after_the_other_reuse_the_rows(model: GPT, engine: Engine) -> None:
    for request in requests(9, 9):
        assert list(engine.submit(request)) == alone(model, request)


def test_a_prompt_longer_than_what_runs_moves_it(model: GPT) -> None:
    engine = Engine(model, rows=2)
    short, long = Request([1, 2], 40), Request(list(range(30)), 10)
    first = engine.submit(short)
    tokens = iter(first)
    begun = [next(tokens)]
    second = engine.submit(long)
    assert list(second) == alone(model, long)
    assert [*begun, *tokens] == alone(model, short)
    engine.close()


def test_draws_depend_on_the_seed_and_on_nobody_else(engine: Engine) -> None:
    request = Request([3, 4, 5], 20, sampler=Sampler(1.0), seed=7)
    first = list(engine.submit(request))
    others = [engine.submit(one) for one in requests(6, 3)]
    again = engine.submit(request)
    assert list(again) == first
    assert list(engine.submit(Request([3, 4, 5], 20, sampler=Sampler(1.0), seed=8))) != first
    for ticket in others:
        list(ticket)


def test_the_longest_is_waited_for_by_nobody(model: GPT) -> None:
    engine = Engine(model, rows=2)
    gate, reached = threading.Event(), threading.Event()

    def slow(rows: Sequence[int], generated: list[list[int]], logits: Tensor) -> Tensor:
        if len(generated[0]) == 30:
            reached.set()
            gate.wait(60)
        return logits

    long = engine.submit(Request([1], 40, processor=slow))
    short = [engine.submit(Request([i], 3)) for i in range(2, 8)]
    assert [len(list(ticket)) for ticket in short] == [3] * 6
    assert reached.wait(60) and len(long.generated) == 30
    gate.set()
    assert len(list(long)) == 40
    engine.close()


def test_one_fault_is_one_request_s(model: GPT, engine: Engine) -> None:
    def broken(rows: Sequence[int], generated: list[list[int]], logits: Tensor) -> Tensor:
        if len(generated[0]) == 2:
            raise ZeroDivisionError("in a processor")
        return logits

    good, bad = requests(1, 5)[0], engine.submit(Request([1, 2], 30, processor=broken))
    beside = engine.submit(good)
    with pytest.raises(ZeroDivisionError):
        list(bad)
    assert list(beside) == alone(model, good)


def test_a_fault_of_the_model_ends_what_runs_and_not_the_engine(
    model: GPT, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(engine.step, "join", lambda row, prompt: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            list(engine.submit(Request([1], 5)))
    request = requests(1, 6)[0]
    assert list(engine.submit(request)) == alone(model, request)


def test_a_cancelled_request_frees_its_row(model: GPT) -> None:
    engine = Engine(model, rows=1)
    running = engine.submit(Request([1], 40))
    next(iter(running))
    waiting = engine.submit(Request([2], 5))
    never = engine.submit(Request([3], 5))
    running.cancel()
    never.cancel()
    assert len(list(waiting)) == 5 and list(never) == []
    engine.close()


def test_who_comes_too_late_is_told(model: GPT) -> None:
    engine, gate = Engine(model, rows=1, most_waiting=2), threading.Event()

    def wait(rows: Sequence[int], generated: list[list[int]], logits: Tensor) -> Tensor:
        gate.wait(60)
        return logits

    first = engine.submit(Request([1], 2, processor=wait))
    while engine.load != (1, 0):
        pass
    waiting = [engine.submit(Request([1], 2)) for _ in range(2)]
    with pytest.raises(EngineBusy):
        engine.submit(Request([1], 2))
    gate.set()
    assert [len(list(ticket)) for ticket in (first, *waiting)] == [2, 2, 2]
    engine.close()
    with pytest.raises(EngineClosed):
        engine.submit(Request([1], 2))


def test_an_engine_that_closes_ends_its_requests(model: GPT) -> None:
    engine = Engine(model, rows=1)
    tickets = [engine.submit(Request([1], 40, processor=lambda r, g, logits: logits)) for _ in range(3)]
    engine.close()
    for ticket in tickets[1:]:
        with pytest.raises(EngineClosed):
            list(ticket)


@pytest.mark.parametrize("prompt", [[], [VOCABULARY], list(range(48))])
def test_a_prompt_that_cannot_be_read_is_refused(engine: Engine, prompt: list[int]) -> None:
    with pytest.raises(UserError):
        engine.submit(Request(prompt, 4))


def test_an_engine_needs_a_row_and_a_model_that_it_can_step(model: GPT) -> None:
    with pytest.raises(ValueError, match="rows"):
        Engine(model, rows=0)
    with pytest.raises(UserError, match="build"):
        Engine(GPT(GPTConfig(VOCABULARY, 1, 2, 2, 16, 32, context_len=16, norm="layer")), rows=1)


# --- the server -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def assistant() -> Iterator[Assistant]:
    """Random weights under the grammar: their calls are valid, and nothing else is known of them."""
    engine = Engine(tiny_agent.gpt(), rows=4, most_waiting=3)
    yield Assistant(engine, tiny_agent.codec(), tiny_agent.toolbox())
    engine.close()


@pytest.fixture(scope="module")
def address(assistant: Assistant) -> Iterator[str]:
    listening = listen("127.0.0.1", 0)
    server = server_of(assistant, "c0ffee")
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join(30)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def client(address: str) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{address}/v1", api_key="none", max_retries=0, http_client=openai.DefaultHttpxClient(trust_env=False)
    )


def ask(client: openai.OpenAI, **body: Any) -> Any:
    """What `body`, checked by nobody on its way, is answered with."""
    create: Any = client.chat.completions.create
    return create(**{"model": MODEL, "messages": QUESTION, **body})


QUESTION = [{"role": "user", "content": "what is 12 times 7?"}]


def reference(assistant: Assistant, text: str) -> Trace:
    policy = assistant.policy(lambda event: None)
    return assistant.answer(policy, [Message("user", text)], Limits())


def test_a_client_of_openai_is_answered(client: openai.OpenAI, assistant: Assistant) -> None:
    answer = ask(client)
    trace = Trace.from_json(answer.trace)
    assert trace == reference(assistant, QUESTION[0]["content"])
    assert answer.choices[0].message.content == trace.answer
    assert answer.usage.completion_tokens == trace.tokens
    assert [one.id for one in client.models.list()] == [MODEL]


def test_a_stream_is_the_answer_in_pieces(client: openai.OpenAI) -> None:
    stops = set()
    for seed in range(24):  # random weights answer or call as they like, and seldom end
        body = {"temperature": 1, "seed": seed}
        chunks = list(ask(client, stream=True, stream_options={"include_usage": True}, **body))
        assert chunks[-1].usage.completion_tokens > 0 and not chunks[-1].choices
        trace = Trace.from_json(chunks[-2].trace)
        whole = ask(client, **body)
        assert whole.trace == chunks[-2].trace and whole.usage == chunks[-1].usage
        written = "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
        assert whole.choices[0].message.content == written
        if trace.stop == "answer":
            assert written == trace.answer.rstrip("\ufffd")
        told = [chunk.event for chunk in chunks if getattr(chunk, "event", None)]
        carried_out = [step for step in trace.steps if step.role == "tool_call"]
        if trace.stop == "loop":
            carried_out.pop()
        told_calls = [event["text"] for event in told if event["kind"] == "call"]
        told_results = [event["text"] for event in told if event["kind"] == "result"]
        assert (told_calls, told_results) == ([s.text for s in carried_out], [s.result for s in carried_out])
        stops.add(trace.stop)
    assert {"answer", "unfinished"} <= stops


def test_many_at_once_are_answered_as_one_by_one(address: str, assistant: Assistant) -> None:
    questions = [f"what is {i} times {i + 3}?" for i in range(7)]

    async def ask_all() -> list[Trace]:
        http = openai.DefaultAsyncHttpxClient(trust_env=False)
        async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="none", http_client=http) as client:
            answers = await asyncio.gather(
                *(
                    client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": text}])
                    for text in questions
                )
            )
        return [Trace.from_json(answer.trace) for answer in answers]  # type: ignore[attr-defined]

    # the same numbers up to rounding; float32 logits of random weights have no ties within it
    assert asyncio.run(ask_all()) == [reference(assistant, text) for text in questions]


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"model": "gpt-5"}, 404, "no model"),
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "assistant", "content": "hello"}]}, 400, "user"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, 400, "text"),
        ({"temperature": 3}, 400, "temperature"),
        ({"n": 2}, 400, "n"),
        ({"tools": [{"type": "function"}]}, 400, "tools"),
        ({"messages": [{"role": "user", "content": "word " * 3000}]}, 400, "tokens"),
        ({"messages": [{"role": "user", "content": "x" * (MOST_BYTES + 1)}]}, 413, "bytes"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_wrong_request_is_one_line_and_the_right_status(
    client: openai.OpenAI, change: dict[str, object], status: int, said: str, stream: bool
) -> None:
    with pytest.raises(openai.APIStatusError, match=said) as caught:
        ask(client, stream=stream, **change)
    assert caught.value.status_code == status
    assert "\n" not in caught.value.body["message"]  # type: ignore[index]


def test_parts_of_text_are_text(client: openai.OpenAI, assistant: Assistant) -> None:
    parts = [{"type": "text", "text": "what is "}, {"type": "text", "text": "12 times 7?"}]
    answer = ask(client, messages=[{"role": "user", "content": parts}])
    assert Trace.from_json(answer.trace) == reference(assistant, QUESTION[0]["content"])


def test_few_tokens_are_few(client: openai.OpenAI) -> None:
    answer = ask(client, max_completion_tokens=2)
    assert answer.usage.completion_tokens == 2 and answer.choices[0].finish_reason == "length"


def test_the_page_is_whole_and_may_load_nothing(address: str) -> None:
    with httpx.Client(base_url=address, trust_env=False) as http:
        page = http.get("/")
        assert page.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "innerHTML" not in page.text and "http://" not in page.text and "https://" not in page.text
        assert http.get("/health").json() == {"status": "ok", "running": 0, "waiting": 0, "weights": "c0ffee"}
        assert http.get("/nowhere").json()["error"]["type"] == "invalid_request_error"


def test_other_pages_and_other_names_are_turned_away(address: str) -> None:
    body = {"model": MODEL, "messages": QUESTION}
    with httpx.Client(base_url=address, trust_env=False) as http:
        assert http.post("/v1/chat/completions", json=body, headers={"Origin": "http://evil.test"}).status_code == 403
        assert http.get("/", headers={"Host": "evil.test"}).status_code == 400
        unsized = http.post("/v1/chat/completions", content=iter([json.dumps(body).encode()]))
        assert unsized.status_code == 411
        own = http.post("/v1/chat/completions", json=body, headers={"Origin": address})
        assert own.status_code == 200


def test_a_client_that_leaves_frees_its_row(address: str, assistant: Assistant) -> None:
    where = httpx.URL(address)
    body = json.dumps({"model": MODEL, "messages": QUESTION, "stream": True}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {where.host}:{where.port}\r\nContent-Type: application/json\r\n"
    )
    with socket.create_connection((where.host, where.port)) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        connection.recv(16)
    deadline = threading.Event()
    for _ in range(600):
        if assistant.engine.load == (0, 0):
            return
        deadline.wait(0.1)
    pytest.fail("the row of a client that has left is not free after a minute")


def test_a_cancelled_answer_ends(assistant: Assistant) -> None:
    policy = assistant.policy(lambda event: policy.cancel())
    policy.cancel()
    with pytest.raises(Cancelled):
        assistant.answer(policy, [Message("user", "hello")], Limits())


def test_a_port_that_is_taken_is_one_line() -> None:
    taken = listen("127.0.0.1", 0)
    with taken, pytest.raises(UserError, match="choose another"):
        listen("127.0.0.1", taken.getsockname()[1])


def test_citations_are_what_searches_brought() -> None:
    call = '{"name":"search_docs","arguments":{"query":"json"}}'
    found = "[1] json: reads files\n[2] csv: rows\n[3] json: again"
    steps = [Step("tool_call", call, 9, found, True), Step("tool_call", call, 9, "[1] no: search failed", False)]
    assert citations(Trace("", "", steps=steps)) == [
        {"source": "json", "text": "reads files"},
        {"source": "csv", "text": "rows"},
    ]
