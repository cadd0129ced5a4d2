"""The evaluation's figures and report, and the model behind langchain's agent."""

import functools
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from agents.tool_agent import evaluation
from agents.tool_agent.chat_model import ToolChatModel, create_limited_agent, langchain_tools, to_conversation
from agents.tool_agent.evaluation import SUITES, SYSTEMS, AgentEvaluation, measure
from agents.tool_agent.policy import ModelPolicy, Turn
from agents.tool_agent.tasks import Call, Maker, Task
from agents.tool_agent.trace import Step, Trace
from agents.tool_agent.values import collect_values
from llmm.errors import UserError
from llmm.params import load_params
from llmm.training.lora.chat import Conversation, Message, call_text
from tests.tiny_agent import DOCUMENTS, OBJECTS, codec, gpt, toolbox

CALL = Call("calculator", {"expression": "12*7"})
TASK = Task("what is 12 times 7?", (CALL,))


def traced(call: str, answer: str, ok: bool = True) -> Trace:
    steps = [Step("tool_call", call, 20, "84", ok), Step("assistant", answer, 8)]
    return Trace(TASK.prompt, "agent", [], steps, answer, "answer")


def test_threads_that_begin_together_load_one_world(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []

    def load(seed: int) -> object:
        loads.append(seed)
        time.sleep(0.05)
        return object()

    monkeypatch.setattr(evaluation, "_load_world", functools.lru_cache(maxsize=1)(load))
    with ThreadPoolExecutor(4) as pool:
        worlds = set(pool.map(evaluation._world, [7] * 4))
    assert len(worlds) == 1 and loads == [7]


@pytest.mark.parametrize(
    ("call", "answer", "expected"),
    [
        (CALL.text, "The answer is 84.", {"tool": True, "exact": True, "executed": True, "answer": True}),
        (
            call_text("calculator", {"expression": "7*12"}),
            "The answer is 84.",
            {"tool": True, "exact": False, "answer": True},
        ),
        (call_text("calculator", {"expression": "12 * 7"}), "The answer is 84.", {"exact": False}),
        (call_text("python", {"code": "12*7"}), "The answer is 84.", {"tool": False, "exact": False}),
        (CALL.text, "The answer is 85.", {"exact": True, "answer": False}),
    ],
)
def test_measures_are_strict(call: str, answer: str, expected: dict[str, bool]) -> None:
    row = measure(TASK, TASK.expected_answer(toolbox()), traced(call, answer))
    assert {key: row[key] for key in expected} == expected


def test_a_call_where_none_is_asked_for_is_wrong() -> None:
    row = measure(Task("hi", (), "Hello!"), "Hello!", traced(CALL.text, "Hello!"))
    assert (row["tool"], row["exact"], row["answer"]) == (False, False, True)


def rows() -> list[dict]:
    right, wrong = (measure(TASK, "The answer is 84.", traced(CALL.text, said)) for said in ("The answer is 84.", "no"))
    missed = {**wrong, "exact": False}
    return [
        {
            "id": f"{suite}-{number:04d}", "suite": suite, "kind": "calculator", "task": TASK.prompt,
            "expected_calls": [CALL.text], "expected_answer": "The answer is 84.",
            "systems": {s: right if s == "agent" and number else missed for s in SYSTEMS},
        }
        for suite in SUITES for number in range(4)
    ]  # fmt: skip


def test_report_has_rates_intervals_and_a_figure(tmp_path: Path) -> None:
    report = AgentEvaluation(load_params()).report(rows(), tmp_path)
    suite = report.metrics["suites"]["new_values"]
    assert suite["agent"]["exact"]["rate"] == 0.75 and suite["regex_router"]["exact"]["rate"] == 0
    assert suite["agent"]["exact"]["low"] < 0.75 < suite["agent"]["exact"]["high"]
    assert suite["agent_minus_regex_router_exact"]["difference"] == 0.75
    assert len(report.tables["rates"]) == len(SUITES) * len(SYSTEMS) and len(report.tables["failures"]) == len(SUITES)
    again = AgentEvaluation(load_params()).report(rows(), tmp_path / "again")
    assert report.figures[0].read_bytes() == again.figures[0].read_bytes()
    some = AgentEvaluation(load_params()).report(rows()[:2], tmp_path)
    assert list(some.metrics["suites"]) == ["new_values"]


def test_batches_cover_all_suites_without_loading_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    params = load_params()
    monkeypatch.setattr(evaluation, "load_objects", lambda folder: 20 * OBJECTS)
    batches = AgentEvaluation(params).batches()
    assert {batch.suite for batch in batches} == set(SUITES)
    assert sum(len(batch) for batch in batches) == 5 * params.agent_eval.tasks + 60
    assert max(len(batch) for batch in batches) <= 50


def test_where_no_object_says_what_it_does_none_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = [replace(item, summary="") if item.split == "test" else item for item in 20 * OBJECTS]
    monkeypatch.setattr(evaluation, "load_objects", lambda folder: silent)
    assert {batch.suite for batch in AgentEvaluation(load_params()).batches()} == set(SUITES) - {"descriptions"}


def test_what_an_object_does_is_asked_of_those_that_say_it() -> None:
    maker, tools = Maker("TEST", collect_values(DOCUMENTS, OBJECTS, OBJECTS), "TEST"), toolbox()
    for seed in range(20):
        task = maker.described(random.Random(seed), tools)
        assert task.calls[0].kind == "summary" and "Its docstring says: Parse a " in task.expected_answer(tools)


class ScriptedPolicy(ModelPolicy):
    """Says what it was told to, but is bound and masked as the real one."""

    script: list[Message]

    def turns(self, conversations: Sequence[Conversation], max_tokens: int) -> list[Turn]:
        number = sum(message.role == "tool_call" for message in conversations[0])
        return [Turn(self.script[min(number, len(self.script) - 1)], 5)]


def scripted(*script: Message) -> ScriptedPolicy:
    policy = ScriptedPolicy(gpt(), codec(), list(toolbox().tools.values()))
    policy.script = list(script)
    return policy


@pytest.fixture
def unbound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ToolChatModel, "bind_tools", lambda self, tools, **_: self)


def test_langchain_agent_calls_a_tool_and_answers(unbound: None) -> None:
    policy = scripted(Message("tool_call", CALL.text), Message("assistant", "The answer is 84."))
    state = create_limited_agent(policy, toolbox()).invoke({"messages": [HumanMessage("what is 12 times 7?")]})
    kinds = [type(message).__name__ for message in state["messages"]]
    assert kinds == ["HumanMessage", "AIMessage", "ToolMessage", "AIMessage"]
    assert state["messages"][2].content == "84" and state["messages"][3].content == "The answer is 84."


def test_langchain_agent_that_loops_is_stopped(unbound: None) -> None:
    policy = scripted(Message("tool_call", CALL.text))
    state = create_limited_agent(policy, toolbox(), steps=3).invoke({"messages": [HumanMessage("again")]})
    assert sum(isinstance(message, AIMessage) and bool(message.tool_calls) for message in state["messages"]) <= 3


def test_a_failing_tool_does_not_end_langchains_run(unbound: None) -> None:
    bad = Message("tool_call", call_text("calculator", {"expression": "1/0"}))
    state = create_limited_agent(scripted(bad, Message("assistant", "no")), toolbox()).invoke(
        {"messages": [HumanMessage("1/0")]}
    )
    assert state["messages"][2].content == "error: division by zero"


def test_bind_tools_masks_to_the_tools_that_are_bound() -> None:
    tools = langchain_tools(toolbox())
    model = ToolChatModel(policy=ModelPolicy(gpt(), codec(), list(toolbox().tools.values())), max_tokens=60)
    bound = model.bind_tools([tool for tool in tools if tool.name == "signature"])
    assert [tool.name for tool in bound.policy.tools] == ["signature"]  # type: ignore[attr-defined]
    for call in getattr(bound.invoke("hello"), "tool_calls", []):
        assert call["name"] == "signature"

    def unknown(x: str) -> str:
        """A tool from elsewhere."""
        return x

    with pytest.raises(UserError, match="not tuned on the tool 'unknown'"):
        model.bind_tools([unknown])


def test_messages_of_langchain_as_ours() -> None:
    call = {"name": "calculator", "args": {"expression": "12*7"}, "id": "1"}
    messages = [
        SystemMessage("be nice"),
        HumanMessage("a"),
        AIMessage("", tool_calls=[call]),
        ToolMessage("84", tool_call_id="1"),
        AIMessage("b"),
    ]
    assert to_conversation(messages) == [
        Message("user", "a"),
        Message("tool_call", CALL.text),
        Message("tool_result", "84"),
        Message("assistant", "b"),
    ]
