"""The capstone's engine, its agents in threads, and the server, asked by OpenAI's own client."""

import asyncio
import functools
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import openai
import pytest
import torch
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st
from openai.types.completion_usage import PromptTokensDetails
from pydantic import Field
from torch import Tensor

from agents.capstone import load
from agents.capstone.batched_policy import BatchedPolicy
from agents.capstone.chat_protocol import ApiError, read_request
from agents.capstone.engine import Cancelled, Engine, EngineClosed, Generation, QueueFull, Request
from agents.capstone.prefix_cache import PrefixCache
from agents.capstone.server import Server, is_loopback, listen, run
from agents.capstone.service import Service
from agents.capstone.text_stream import TextStream
from agents.tool_agent.assistant_tools import assistant_toolbox
from agents.tool_agent.grammar import CallGrammar, GrammarMasks
from agents.tool_agent.loop import run_tasks
from agents.tool_agent.policy import ModelPolicy, Turn
from agents.tool_agent.tools import Arguments, Tool, Toolbox
from llmm import cli
from llmm.errors import UserError
from llmm.training.lora.chat import Conversation, Message, call_text
from llmm.training.lora.spaced import SpacedCodec
from llmm.transformers.gpt import GPT, GPTConfig
from llmm.transformers.gpt.decode import lean
from llmm.transformers.gpt.generate import LogitsProcessor, generate
from llmm.transformers.gpt.sampling import GREEDY, Sampler
from tests.tiny_agent import OBJECTS, codec, gpt, toolbox

ROOT = Path(__file__).parents[1]
CONTEXT, VOCABULARY = 40, 24
PATIENCE = 60  # seconds until a test gives up


@functools.cache
def small(build: str) -> GPT:
    """A model with a short context, in double precision: rounding decides no token."""
    other: dict[str, Any] = {"positions": "learned", "norm": "layer", "feed_forward": "gelu", "bias": True}
    model = GPT(GPTConfig(VOCABULARY, 2, 4, 2, 16, 32, CONTEXT, **(other if build == "plain" else {})))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3, generator=generator)
    assert lean(model) == (build == "lean")
    return model.double().eval()


# (prompt, most tokens, after how many tokens of which earlier request it arrives, seed of the draw or None for greedy)
Arrival = tuple[list[int], int, tuple[int, int] | None, int | None]


@st.composite
def arrivals(draw: st.DrawFn) -> list[Arrival]:
    made: list[Arrival] = []
    for number in range(draw(st.integers(1, 9))):
        prompt = draw(st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=CONTEXT - 1))
        after = (draw(st.integers(0, number - 1)), draw(st.integers(0, 3))) if number and draw(st.booleans()) else None
        made.append((prompt, draw(st.integers(1, CONTEXT)), after, draw(st.none() | st.integers(0, 99))))
    return made


def seeded(seed: int | None) -> tuple[Sampler, torch.Generator | None]:
    return (GREEDY, None) if seed is None else (Sampler(temperature=1.0), torch.Generator().manual_seed(seed))


sequences = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=5), max_size=12)


@given(sequences, st.lists(st.integers(0, 2), max_size=6), st.integers(0, 20))
def test_the_longest_beginning_that_is_kept_is_found(kept: list[list[int]], asked: list[int], most: int) -> None:
    cache, held = PrefixCache(most), list[tuple[int, ...]]()
    for sequence in map(tuple, kept):  # the newest ones, none of which begins another one, within the budget
        cache.keep(sequence, torch.tensor(sequence).double()[None, None, None, :, None].expand(2, 1, 1, -1, 1))
        if len(sequence) <= most and not any(one[: len(sequence)] == sequence for one in held):
            held = [*(one for one in held if sequence[: len(one)] != one), sequence]
            while sum(map(len, held)) > most:
                held.pop(0)
        assert cache.tokens == sum(map(len, held))
    found = cache.longest(asked)
    expected = max((n for one in held for n in range(1, len(asked) + 1) if list(one[:n]) == asked[:n]), default=0)
    assert (found is None) == (expected == 0)
    if found is not None:
        assert found[0, 0, 0, :, 0].tolist() == asked[:expected]


def test_what_is_used_stays() -> None:
    cache, nothing = PrefixCache(4), torch.zeros(2, 1, 1, 2, 1)
    cache.keep([1, 2], nothing)
    cache.keep([3, 4], nothing)
    assert cache.longest([1, 2, 3]) is not None
    cache.keep([5, 6], nothing)
    assert cache.longest([3]) is None and cache.longest([1]) is not None and cache.longest([5]) is not None


@pytest.mark.parametrize("build", ["lean", "plain"])
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_who_goes_on_reads_what_is_new_alone_and_writes_the_same(build: str, data: st.DataObject) -> None:
    """A chat: each prompt is what was said before or a beginning of it, and more."""
    model, said, held = small(build), [1, 2, 3], list[list[int]]()
    with Engine(model, data.draw(st.integers(1, 3))) as engine:
        for _ in range(3):
            generation = engine.submit(Request(said, 5))
            assert [generation.result()] == generate(model, [said], 5)
            beginnings = {n for one in held for n in range(len(said)) if one[:n] == said[:n]}
            assert generation.cached == max(beginnings, default=0)
            held.append([*said, *generation.tokens][:-1])  # the last token was drawn and never read
            kept = data.draw(st.integers(1, len(held[-1])))
            more = data.draw(st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=3))
            said = held[-1][:kept] + more


@pytest.mark.parametrize("build", ["lean", "plain"])
@settings(max_examples=60, deadline=None)
@given(arrivals(), st.integers(1, 4), st.sets(st.integers(0, VOCABULARY - 1), max_size=2))
def test_company_changes_no_token(build: str, arriving: list[Arrival], rows: int, stops: set[int]) -> None:
    """Requests come between any two steps of others, wait for rows, and write what each would write alone."""
    model, started = small(build), {}
    with Engine(model, rows) as engine:

        def start(number: int) -> None:
            prompt, most, _, seed = arriving[number]

            def others_arrive(rows: Sequence[int], generated: list[list[int]], logits: Tensor) -> Tensor:
                for later, (_, _, after, _) in enumerate(arriving):
                    if after == (number, len(generated[0])):
                        start(later)
                return logits

            request = Request(prompt, most, sorted(stops), *seeded(seed), others_arrive)
            started[number] = engine.submit(request)

        for number, (_, _, after, _) in enumerate(arriving):
            if after is None:
                start(number)
        written: dict[int, list[int]] = {}
        while len(written) < len(started):  # whoever started another had it started before its own last token came
            number = min(started.keys() - written.keys())
            written[number] = started[number].result()
    for number, tokens in written.items():
        prompt, most, _, seed = arriving[number]
        assert [tokens] == generate(model, [prompt], most, sorted(stops), *seeded(seed))


def at_token(number: int, act: Callable[[], object]) -> LogitsProcessor:
    """A processor that acts, in the engine's thread, when so many tokens are written."""

    def process(rows: Sequence[int], generated: list[list[int]], logits: Tensor) -> Tensor:
        if len(generated[0]) == number:
            act()
        return logits

    return process


def test_a_fault_of_one_request_leaves_the_others_alone() -> None:
    def fault() -> None:
        raise ZeroDivisionError("mine")

    model, prompts = small("lean"), [[1, 2, 3], [4], [5] * 9, [6, 7]]
    with Engine(model, 3) as engine:
        made = [engine.submit(Request(p, 20, processor=at_token(7, fault) if p == [4] else None)) for p in prompts]
        with pytest.raises(ZeroDivisionError, match="mine"):
            made[1].result()
        assert made[1].tokens == generate(model, [[4]], 7)[0]
        for prompt, generation in zip(prompts, made, strict=True):
            if prompt != [4]:
                assert [generation.result()] == generate(model, [prompt], 20)


def test_a_cancelled_request_frees_its_row_or_its_place() -> None:
    made: list[Generation] = []
    with Engine(small("lean"), 1) as engine:
        ready = threading.Event()
        made.append(engine.submit(Request([1], 30, processor=at_token(0, lambda: ready.wait(PATIENCE)))))
        made.append(engine.submit(Request([2], 30)))  # waits, and is cancelled as it does
        made.append(engine.submit(Request([3], 5)))
        made[1].cancel()
        ready.set()
        with pytest.raises(Cancelled):
            made[1].result()
        assert not made[1].tokens and len(made[0].result()) == 30 and len(made[2].result()) == 5

        held = threading.Event()
        made.append(engine.submit(Request([1], 30, processor=at_token(4, lambda: held.wait(PATIENCE)))))
        last = engine.submit(Request([3], 5))
        seen = [token for _, token in zip(range(4), made[3], strict=False)]  # and no fifth, which is held
        made[3].cancel()
        held.set()
        with pytest.raises(Cancelled):
            made[3].result()
        assert len(made[3].tokens) <= 5 and made[3].tokens[:4] == seen and len(last.result()) == 5


def test_the_queue_has_an_end_and_so_has_the_engine() -> None:
    running, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        running.set()
        go_on.wait(PATIENCE)

    with Engine(small("lean"), 1, most_waiting=1) as engine:
        first = engine.submit(Request([1], 9, processor=at_token(3, hold)))
        assert running.wait(PATIENCE)
        second = engine.submit(Request([2], 9))
        assert engine.load == (1, 1)
        with pytest.raises(QueueFull):
            engine.submit(Request([3], 9))
        engine.close()
        go_on.set()
        for generation in (first, second):
            with pytest.raises(EngineClosed):
                generation.result()
        with pytest.raises(EngineClosed):
            engine.submit(Request([3], 9))


@pytest.mark.parametrize(
    ("prompt", "tokens", "fault"),
    [
        ([], 1, "empty"),
        ([1] * CONTEXT, 1, "takes 40"),
        ([VOCABULARY], 1, "wrong tokenizer"),
        ([1], 0, "max_tokens = 0"),
    ],
)
def test_a_request_that_cannot_be_is_refused_at_once(prompt: list[int], tokens: int, fault: str) -> None:
    with Engine(small("lean"), 1) as engine, pytest.raises(UserError, match=fault):
        engine.submit(Request(prompt, tokens))


def ends_for_all(engine: Engine, made: list[Generation]) -> None:
    """Whoever waits is told of the fault, and the engine is closed."""
    for generation in made:
        with pytest.raises(MemoryError):
            generation.result()
    engine.join()
    assert engine.closed


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_when_the_engine_fails_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    with Engine(small("lean"), 1) as engine:

        def no_memory(ids: Tensor) -> Tensor:
            raise MemoryError

        monkeypatch.setattr(engine._rows, "step", no_memory)
        go_on = threading.Event()
        made = [engine.submit(Request([1], 9, processor=at_token(0, lambda: go_on.wait(PATIENCE)))) for _ in range(2)]
        go_on.set()
        ends_for_all(engine, made)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_fault_while_prompts_are_read_ends_all_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    with Engine(small("lean"), 3) as engine:
        go_on = threading.Event()
        made = [engine.submit(Request([1], 9, processor=at_token(0, lambda: go_on.wait(PATIENCE))))]
        made += [engine.submit(Request([n], 9)) for n in range(4)]

        def no_memory(prompt: list[int]) -> tuple[Tensor, int]:
            raise MemoryError

        monkeypatch.setattr(engine._rows, "join", no_memory)
        go_on.set()
        ends_for_all(engine, made)


texts = st.text(st.sampled_from("ab é☃🙂\n")) | st.text(max_size=12)


@example("aba", ["b", "aba"])
@example("ab", ["b", "ab"])
@given(texts, st.lists(st.text(st.sampled_from("ab é☃"), min_size=1, max_size=3), max_size=2))
def test_text_comes_in_whole_characters_and_ends_before_a_stop_string(text: str, stop: list[str]) -> None:
    stream = TextStream(codec(), stop)
    ids = codec().text_ids(text)
    whole = codec().tokenizer.decode(ids, skip_special_tokens=False)
    parts = [stream.feed(token) for token in ids]
    parts.append(stream.flush())
    expected = whole
    for end in range(len(whole) + 1):  # sign by sign: the first stop string to be complete ends the text
        if complete := [one for one in stop if whole[:end].endswith(one)]:
            expected = whole[: end - max(map(len, complete))]
            break
    assert "".join(parts) == stream.text == expected
    assert stream.stopped == any(one in whole for one in stop)
    if "\ufffd" not in text:
        assert all("\ufffd" not in part for part in parts)


def test_a_stop_string_inside_of_a_token_is_found_as_if_its_signs_came_one_by_one() -> None:
    tokenizer = codec().tokenizer
    long = [index for index in range(tokenizer.get_vocab_size()) if tokenizer.decode([index]).isalpha()]
    long = [index for index in long if len(set(tokenizer.decode([index]))) == len(tokenizer.decode([index])) > 2]
    assert long
    for index in long:
        word = tokenizer.decode([index])
        stream = TextStream(codec(), (word[1], word))
        assert stream.feed(index) == word[0] and stream.stopped


@given(st.lists(st.integers(0, 399), max_size=20), st.booleans())
def test_text_of_any_tokens_is_that_of_all_together(ids: list[int], spaced: bool) -> None:
    stream = TextStream(SpacedCodec(codec().tokenizer) if spaced else codec())
    written = "".join([*(stream.feed(token) for token in ids), stream.flush()])
    whole = codec().tokenizer.decode(ids, skip_special_tokens=False)
    assert written == (whole.removeprefix(" ") if spaced else whole)


def test_agents_that_share_the_batch_do_what_each_does_alone() -> None:
    tools, model = toolbox(), gpt(5)
    tasks = ["jay.loads", "sum of two numbers 3 4", "search json files", "loads", "what is 12*7?", "print(1)"]
    alone = run_tasks([(task, ()) for task in tasks], ModelPolicy(model, codec(), list(tools.tools.values())), tools)
    with Engine(model, 4) as engine:
        grammar = CallGrammar(codec(), list(tools.tools.values()))
        traces: dict[str, Any] = {}

        def work(task: str) -> None:
            (traces[task],) = run_tasks([(task, ())], BatchedPolicy(engine, grammar, 600), tools)

        threads = [threading.Thread(target=work, args=(task,)) for task in tasks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    assert [traces[task].to_json() for task in tasks] == [trace.to_json() for trace in alone]
    assert len({trace.stop for trace in alone}) > 1 and any(trace.calls for trace in alone)


def test_an_answer_that_is_certain_takes_two_steps_and_is_said_whole() -> None:
    tools, model = assistant_toolbox(None, OBJECTS), gpt(5)
    asked = [Message("user", "what is 12*7?"), Message("tool_call", call_text("calculator", {"expression": "12*7"}))]
    asked.append(Message("tool_result", "84"))
    answer = codec().turn(Message("assistant", "The answer is 84."))
    said: list[str] = []
    with Engine(model, 4) as engine:
        grammar = CallGrammar(codec(), list(tools.tools.values()))
        grammar.first[codec().role_ids["tool_call"]] = -torch.inf
        policy = BatchedPolicy(engine, grammar, 100, say=said.append)
        (turn,) = policy.turns([asked], 100)
        assert turn == Turn(Message("assistant", "The answer is 84."), len(answer))
        assert "".join(said) == "The answer is 84." and policy.written == len(answer)
        assert policy._generation is not None and policy._generation.tokens == [answer[0], answer[-1]]
        (cut,) = BatchedPolicy(engine, grammar, 5).turns([asked], 100)
        assert cut == Turn(None, 5)
        (stopped,) = BatchedPolicy(engine, grammar, 100, stop=[" is"]).turns([asked], 100)
        assert stopped.message == Message("assistant", "The answer")


# What the assistant of these tests has learnt by heart


class PayArguments(Arguments):
    """Whom to pay."""

    to: Annotated[str, Field(pattern=r"^[a-z]+$", max_length=20)]


PAID: list[str] = []
PAY = Tool("pay", "Pay someone.", PayArguments, lambda arguments: PAID.append(arguments.to) or "paid")  # type: ignore[func-returns-value]
COUNT = ", ".join(map(str, range(1, 40)))
FOUND = "[1] jay: Parse a JSON document."
SCRIPT = [
    [Message("user", "hello"), Message("assistant", "Grüße ☃, and goodbye.")],
    [Message("user", "count"), Message("assistant", COUNT)],
    [
        Message("user", "what is 12*7?"),
        Message("tool_call", call_text("calculator", {"expression": "12*7"})),
        Message("tool_result", "84"),
        Message("assistant", "The answer is 84."),
    ],
    [
        Message("user", "search json files"),
        Message("tool_call", call_text("search_docs", {"query": "json files"})),
        Message("tool_result", FOUND),
        Message("assistant", "Parse a JSON document."),
    ],
    [
        Message("user", "pay ann"),
        Message("tool_call", call_text("pay", {"to": "ann"})),
        Message("tool_result", "error: not approved"),
        Message("assistant", "I may not."),
    ],
]


@functools.lru_cache(maxsize=1)
def tuned() -> GPT:
    """A model that says what SCRIPT has."""
    model = gpt().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    examples = [codec().example(conversation) for conversation in SCRIPT]
    for step in range(200):
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * (1 - step / 200)
        optimizer.zero_grad()
        for ids, weights in examples:
            taught = torch.tensor(weights[1:]) > 0
            hidden_TD = model.hidden(torch.tensor([ids[:-1]]))[0]
            model.loss(hidden_TD[taught], torch.tensor(ids[1:])[taught]).backward()
        optimizer.step()
    return model.eval()


def tools_with_pay() -> Toolbox:
    return Toolbox([*toolbox().tools.values(), PAY])


class Running:
    """A server in a thread, and a client of it."""

    def __init__(self, rows: int = 4, most_waiting: int = 8, host: str = "127.0.0.1") -> None:
        self.service = Service(tuned(), codec(), tools_with_pay(), rows, most_waiting)
        self.socket = listen("127.0.0.1", 0)
        self.port = self.socket.getsockname()[1]
        self.server = Server(self.service, host)
        self.thread = threading.Thread(target=self.server.run, args=([self.socket],))
        self.thread.start()  # the socket listens already: requests wait until the server is there
        url = f"http://127.0.0.1:{self.port}/v1"
        self.client = openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=PATIENCE)

    def ask(self, text: str, model: str = "assistant", **more: Any) -> Any:
        messages: Any = [{"role": "user", "content": text}]
        return self.client.chat.completions.create(model=model, messages=messages, **more)

    def raw(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        got = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        connection.close()
        return got

    def hold(self, until: Callable[[Generation], object]) -> threading.Event:
        """Hold every generation at its fourth token until `until` has seen it; the event tells that one is held."""
        served, holding, engine = self.service.served["assistant"], threading.Event(), self.service.engine

        class Holding(CallGrammar):
            def processor(self, conversations: Sequence[Conversation]) -> GrammarMasks:
                return HoldingMasks(self, conversations)

        class HoldingMasks(GrammarMasks):
            def __call__(self, rows: Sequence[int], generated: list[list[int]], logits: Tensor) -> Tensor:
                if len(generated[0]) == 4:
                    holding.set()
                    until(next(g for g in engine._running if g.tokens is generated[0]))
                return super().__call__(rows, generated, logits)

        grammar = Holding(codec(), list(served.tools.tools.values()))
        self.service.served["assistant"] = replace(served, grammar=grammar)
        return holding

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        self.client.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    running = Running()
    yield running
    running.stop()


@pytest.fixture
def own() -> Iterator[Callable[..., Running]]:
    """Servers of a test's own."""
    made: list[Running] = []

    def start(**how: Any) -> Running:
        made.append(Running(**how))
        return made[-1]

    yield start
    for running in made:
        running.stop()


def test_the_models_are_listed(server: Running) -> None:
    assert [model.id for model in server.client.models.list()] == ["assistant", "chat"]
    assert server.client.models.retrieve("chat").owned_by == "llm-engineering-mastery"
    with pytest.raises(openai.NotFoundError, match="no model 'gpt'"):
        server.client.models.retrieve("gpt")


def test_an_answer_with_a_call_of_a_tool(server: Running) -> None:
    answer = server.ask("what is 12*7?")
    assert answer.choices[0].message.content == "The answer is 84."
    assert answer.choices[0].finish_reason == "stop" and answer.object == "chat.completion"
    call = {"number": 1, "call": SCRIPT[2][1].text, "result": "84", "ok": True}
    assert answer.trace == [call] and answer.citations == [] and answer.ended == "answer"
    read = [codec().prompt(SCRIPT[2][:n]) for n in (1, 3)]
    assert answer.usage.prompt_tokens == sum(map(len, read))
    assert answer.usage.completion_tokens == sum(len(codec().turn(SCRIPT[2][n])) for n in (1, 3))
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_streamed_answer_says_the_same_as_it_comes(server: Running) -> None:
    whole = server.ask("search json files")
    chunks = list(server.ask("search json files", stream=True, stream_options={"include_usage": True}))
    assert len({chunk.id for chunk in chunks}) == 1 and {c.object for c in chunks} == {"chat.completion.chunk"}
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert deltas[0].role == "assistant" and sum(bool(delta.content) for delta in deltas) > 3
    assert "".join(delta.content or "" for delta in deltas) == whole.choices[0].message.content == SCRIPT[3][3].text
    calls = [call for chunk in chunks for call in getattr(chunk, "trace", [])]
    assert calls == [{**whole.trace[0], "result": None, "ok": None}, *whole.trace]
    last, usage = chunks[-2:]
    assert last.choices[0].finish_reason == "stop" and not usage.choices
    # asked again, of each turn's prompt the last token alone is read
    known = sum(len(codec().prompt(SCRIPT[3][:n])) - 1 for n in (1, 3))
    again = whole.usage.model_copy(update={"prompt_tokens_details": PromptTokensDetails(cached_tokens=known)})
    assert usage.usage == again
    assert last.citations == whole.citations == [{"source": "jay", "quote": "Parse a JSON document."}]


def test_a_call_that_needs_a_yes_is_not_carried_out(server: Running) -> None:
    answer = server.ask("pay ann")
    assert answer.trace[0]["call"] == SCRIPT[4][1].text and answer.trace[0]["result"] == "error: not approved"
    assert answer.choices[0].message.content == "I may not." and not PAID


def test_the_other_model_has_no_tools(server: Running) -> None:
    answer = server.ask("what is 12*7?", model="chat", max_tokens=30)
    assert answer.trace == [] and answer.model == "chat"
    assert server.ask("hello", model="chat").choices[0].message.content == SCRIPT[0][1].text


def test_many_ask_at_once(server: Running) -> None:
    asked = [conversation[0].text for conversation in SCRIPT] * 2
    got: dict[int, str] = {}

    def one(number: int) -> None:
        got[number] = server.ask(asked[number]).choices[0].message.content

    threads = [threading.Thread(target=one, args=(number,)) for number in range(len(asked))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert [got[number] for number in range(len(asked))] == [conversation[-1].text for conversation in SCRIPT] * 2


def test_limits_stop_strings_and_draws(server: Running) -> None:
    cut = server.ask("count", max_completion_tokens=8)
    assert cut.choices[0].finish_reason == "length" and cut.ended == "unfinished" and cut.usage.completion_tokens == 8
    assert cut.choices[0].message.content and COUNT.startswith(cut.choices[0].message.content)
    tools_too = server.ask("what is 12*7?", max_tokens=len(codec().turn(SCRIPT[2][1])))
    assert tools_too.ended == "tokens" and tools_too.trace and not tools_too.choices[0].message.content
    stopped = server.ask("count", stop=[", 7", "nowhere"])
    assert stopped.choices[0].message.content == "1, 2, 3, 4, 5, 6" and stopped.choices[0].finish_reason == "stop"
    drawn = [server.ask("hello", temperature=2.0, seed=seed, max_tokens=20) for seed in (1, 1, 2)]
    texts = [answer.choices[0].message.content for answer in drawn]
    assert texts[0] == texts[1] != texts[2]
    assert server.ask("hello", temperature=2.0, top_p=1e-9).choices[0].message.content == SCRIPT[0][1].text


def test_what_was_said_before_is_read(server: Running) -> None:
    messages: list[Any] = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]},
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": "count"},
    ]
    answer = server.client.chat.completions.create(model="chat", messages=messages, max_tokens=5)
    told = [Message("system", "Be brief."), Message("user", "hello"), Message("assistant", "Hi.")]
    assert answer.usage and answer.usage.prompt_tokens == len(codec().prompt([*told, Message("user", "count")]))

    said = server.ask("what is 12*7?")
    back = {"role": "assistant", "content": said.choices[0].message.content, "trace": said.trace}
    follow_up = {"role": "user", "content": "count"}
    body = json.dumps({"model": "chat", "messages": [{"role": "user", "content": "what is 12*7?"}, back, follow_up]})
    assert read_request(body.encode()).history == SCRIPT[2]


USER = '{"role":"user","content":"x"}'


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ("", None),
        ("{", None),
        ("[]", None),
        ("[" * 100_000, None),
        (f'{{"messages":[{USER}]}}', "model"),
        ('{"model":"chat","messages":[]}', "messages"),
        ('{"model":"chat","messages":[{"role":"user","content":" "}]}', "messages"),
        (f'{{"model":"chat","messages":[{USER},{{"role":"assistant","content":"y"}}]}}', "messages"),
        ('{"model":"chat","messages":[{"role":"tool","content":"x"}]}', "messages.0.role"),
        (f'{{"model":"chat","messages":[{USER}],"temperature":-1}}', "temperature"),
        (f'{{"model":"chat","messages":[{USER}],"temperature":NaN}}', "temperature"),
        (f'{{"model":"chat","messages":[{USER}],"top_p":0}}', "top_p"),
        (f'{{"model":"chat","messages":[{USER}],"max_tokens":0}}', "max_tokens"),
        (
            json.dumps(
                {
                    "model": "assistant",
                    "messages": [
                        {
                            "role": "assistant",
                            "content": "x",
                            "trace": [{"call": '{"name":5,"arguments":{"a":"b"}}', "result": "r"}],
                        },
                        {"role": "user", "content": "x"},
                    ],
                }
            ),
            "messages.0.trace.0.call",
        ),
        (f'{{"model":"chat","messages":[{USER}],"seed":{2**63}}}', "seed"),
        (f'{{"model":"chat","messages":[{USER}],"stop":[""]}}', "stop"),
        (f'{{"model":"chat","messages":[{USER}],"n":2}}', "n"),
        (f'{{"model":"chat","messages":[{USER}],"tools":[{{}}]}}', "tools"),
        (f'{{"model":"chat","messages":[{USER}],"response_format":{{"type":"json_object"}}}}', "response_format"),
    ],
)
def test_a_request_that_is_none_is_refused_by_parameter(server: Running, body: str, param: str | None) -> None:
    status, _, answer = server.raw("POST", "/v1/chat/completions", body.encode(), Content_Type="application/json")
    error = json.loads(answer)["error"]
    assert (status, error["param"], error["type"]) == (400, param, "invalid_request_error")
    assert error["message"].isprintable() and len(error["message"]) < 300


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(ApiError) as refused:
        read_request(b'{"model":"chat","messages":[{"role":"user","content":"\\ud800"}]}')
    assert refused.value.status == 400


def test_errors_have_the_status_that_clients_expect(server: Running) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        server.ask("hello", model="gpt-4")
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.APIStatusError) as long:
        server.ask("count " * 800)
    assert (long.value.status_code, long.value.code) == (413, "context_length_exceeded")
    with pytest.raises(openai.APIStatusError) as huge:
        server.ask("x" * 300_000)
    assert (huge.value.status_code, huge.value.code) == (413, "body_too_long")
    assert server.raw("POST", "/v1/chat/completions", b"{}", Content_Type="text/plain")[0] == 415
    for method, path, status in (("GET", "/v1/nothing", 404), ("GET", "/v1/chat/completions", 405), ("PUT", "/", 405)):
        got, _, body = server.raw(method, path)
        assert got == status and json.loads(body)["error"]["message"].startswith(f"{method} {path}")
    assert server.raw("GET", "/docs")[0] == server.raw("GET", "/openapi.json")[0] == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost"}, 200),
        ({"Host": "LOCALHOST:80"}, 200),
        ({"Host": "[::1]:9"}, 200),
        ({"Host": "127.0.0.1:9", "Origin": "http://127.0.0.1:9"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example:80"}, 403),
        ({"Host": "localhost:80@evil.example"}, 403),
        ({"Host": ""}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "localhost:9", "Origin": "http://localhost:8"}, 403),
    ],
)
def test_other_sites_are_refused(server: Running, headers: dict[str, Any], status: int) -> None:
    got, answered, _ = server.raw("GET", "/v1/models", **headers)
    assert got == status and "access-control-allow-origin" not in answered


def test_a_server_for_others_goes_by_any_name(own: Callable[..., Running]) -> None:
    open_ = own(host="0.0.0.0")
    assert open_.raw("GET", "/v1/models", Host="box.example")[0] == 200
    assert open_.raw("GET", "/v1/models", Host="box.example", Origin="http://evil.example")[0] == 403
    assert [is_loopback(h) for h in ("127.0.0.9", "::1", "localhost", "0.0.0.0", "::", "box")] == [True] * 3 + [
        False
    ] * 3


def test_the_page_keeps_to_itself(server: Running) -> None:
    status, headers, body = server.raw("GET", "/")
    page = body.decode()
    assert status == 200 and headers["content-type"] == "text/html; charset=utf-8"
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; connect-src 'self';") and policy.count("'sha256-") == 2
    assert not re.search(r"https?://|\bsrc=|\bhref=|innerHTML|outerHTML|insertAdjacentHTML|\bon\w+=|style=", page)


def eventually(holds: Callable[[], bool]) -> bool:
    """Whether it comes to hold before patience ends."""
    deadline = time.monotonic() + PATIENCE
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)
    return holds()


@pytest.mark.parametrize("stream", [True, False])
def test_when_the_client_goes_its_row_is_freed(own: Callable[..., Running], stream: bool) -> None:
    server, seen = own(rows=1), []
    holding = server.hold(lambda generation: seen.append(eventually(lambda: generation.cancelled)))
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    body = {"model": "assistant", "stream": stream, "messages": [{"role": "user", "content": "count"}]}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    assert holding.wait(PATIENCE)
    connection.close()
    assert server.ask("count", model="chat").choices[0].message.content == COUNT  # the one row is free again
    assert seen == [True] and eventually(lambda: server.service.open == 0)


def test_too_many_are_told_to_come_again_and_the_end_is_told(own: Callable[..., Running]) -> None:
    server, go_on = own(rows=1, most_waiting=0), threading.Event()
    holding = server.hold(lambda generation: go_on.wait(PATIENCE))
    stream = server.ask("count", stream=True)
    assert next(stream).choices[0].delta.role == "assistant" and holding.wait(PATIENCE)
    with pytest.raises(openai.RateLimitError) as full:
        server.ask("hello")
    assert full.value.code == "queue_full" and full.value.response.headers["retry-after"] == "1"
    assert json.loads(server.raw("GET", "/health")[2]) == {"status": "ok", "running": 1, "waiting": 0}
    server.service.close()
    for _ in range(2):
        with pytest.raises(openai.InternalServerError) as closing:
            server.ask("hello", model="chat")
        assert closing.value.status_code == 503 and closing.value.code == "shutting_down"
    assert server.raw("GET", "/health")[0] == 503
    go_on.set()
    with pytest.raises(openai.APIError, match="shutting down"):
        list(stream)


def test_a_fault_of_ours_says_nothing_of_what_was_asked(
    own: Callable[..., Running], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = own()
    monkeypatch.setattr(server.service.served["assistant"].tools, "call", lambda text: 1 / 0)
    with pytest.raises(openai.InternalServerError, match="a fault of the server"):
        server.ask("what is 12*7?")
    with pytest.raises(openai.APIError, match="a fault of the server"):
        list(server.ask("what is 12*7?", stream=True))
    assert "ZeroDivisionError" in caplog.text and "12*7" not in caplog.text
    assert server.ask("hello").choices[0].message.content == SCRIPT[0][1].text


SERVE = """
import sys
from agents.capstone.server import listen, run
from tests.test_capstone_server import Service, codec, tools_with_pay, tuned
listening = listen("127.0.0.1", 0)
print(listening.getsockname()[1], flush=True)
run(Service(tuned(), codec(), tools_with_pay()), listening, "127.0.0.1")
"""


@pytest.mark.parametrize("busy", [False, True])
def test_ctrl_c_ends_it_cleanly(busy: bool) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0)
        assert len(list(client.models.list())) == 2  # it runs
        stream: Any = iter(())
        if busy:
            messages: list[Any] = [{"role": "user", "content": "count"}]
            stream = client.chat.completions.create(model="chat", messages=messages, stream=True)
            next(stream)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
        client.close()
    assert (process.returncode, out, err) == (0, "", "")


def test_a_load_is_measured(server: Running) -> None:
    asked = [conversation[0].text for conversation in SCRIPT]
    for at_once in (1, 4):
        measured = load.summary([load.ask_all(f"127.0.0.1:{server.port}", asked, at_once)])
        assert measured["tokens"] == sum(
            len(codec().turn(message))
            for talk in SCRIPT
            for message in talk
            if message.role in ("assistant", "tool_call")
        )
        first, whole = measured["seconds_to_first_text"], measured["seconds_to_end"]
        assert 0 < first["p50"] <= first["p95"] and whole["p50"] <= whole["p95"] and first["p50"] < whole["p50"]
    with pytest.raises(UserError, match=r"refuses 'count count .*413"):
        load.ask_all(f"127.0.0.1:{server.port}", ["count " * 800], 1)


def test_a_client_that_goes_while_it_sends_is_no_fault_of_the_server(server: Running) -> None:
    """Asked of the application itself, which hands on what it cannot answer."""
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    path = "/v1/chat/completions"
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}
    coming = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
    sent: list[Any] = []

    async def receive() -> Any:
        return coming.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(server.server.config.loaded_app(scope, receive, send))
    assert sent[0]["status"] == 499


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_server_whose_engine_breaks_down_ends_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(tuned(), codec(), tools_with_pay(), 1, 1)
    listening = listen("127.0.0.1", 0)

    def no_memory(prompt: list[int]) -> tuple[Tensor, int]:
        raise MemoryError("none left")

    monkeypatch.setattr(service.engine._rows, "join", no_memory)
    with pytest.raises(MemoryError):
        service.engine.submit(Request([1], 9)).result()
    with listening, pytest.raises(UserError, match=r"broke down \(MemoryError: none left\): start the server again"):
        run(service, listening, "127.0.0.1")


def test_the_command_says_in_a_line_what_is_missing_or_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "params.yaml").touch()
    monkeypatch.chdir(tmp_path)
    missing = CliRunner().invoke(cli.llmm, ["serve", "--port", "0"])
    assert isinstance(missing.exception, UserError) and "dvc repro" in str(missing.exception)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        taken = CliRunner().invoke(cli.llmm, ["serve", "--port", port])
    assert isinstance(taken.exception, UserError)
    assert re.fullmatch(rf"cannot listen at 127.0.0.1 port {port} \(.*in use\): choose .*--port", str(taken.exception))
    nowhere = CliRunner().invoke(cli.llmm, ["serve", "--host", "256.0.0.1"])
    assert isinstance(nowhere.exception, UserError) and "256.0.0.1" in str(nowhere.exception)
    no_name = CliRunner().invoke(cli.llmm, ["serve", "--host", "a..b"])
    assert isinstance(no_name.exception, UserError) and "cannot listen at a..b" in str(no_name.exception)
