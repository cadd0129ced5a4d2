"""What a call may copy from a conversation: what was said can be written, and nothing else can."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.tool_agent.assistant_tools import assistant_toolbox
from agents.tool_agent.evaluation import hand_written
from agents.tool_agent.evidence import pattern_of
from agents.tool_agent.grammar import CallGrammar
from agents.tool_agent.phrasings.tables import Split
from agents.tool_agent.tasks import Maker, Task, conversation
from agents.tool_agent.tools import Passage
from agents.tool_agent.values import collect_values, spelled
from llmm.training.lora.chat import Message, call_text
from llmm.training.lora.spaced import SpacedCodec
from tests.tiny_agent import DOCUMENTS, OBJECTS, codec

TOOLS = assistant_toolbox(lambda query, k: [Passage("jay", "Parse a JSON document.")][:k], OBJECTS)
GRAMMARS = [CallGrammar(one, list(TOOLS.tools.values())) for one in (codec(), SpacedCodec(codec().tokenizer))]
VALUES = collect_values(DOCUMENTS, [item for item in OBJECTS if item.split == "train"], OBJECTS)


def allowed(call: str, *said: Message) -> bool:
    """Whether the grammar lets the model write `call` after `said`, token by token, and stop there: as JSON and in
    words alike."""
    found = []
    for grammar in GRAMMARS:
        matcher = grammar.matcher(said)
        assert not matcher.is_error(), matcher.get_error()
        _, *ids, _ = grammar.codec.turn(Message("tool_call", call))
        found.append(matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting())
    assert found[0] == found[1], (call, found)
    return found[0]


def after(prompt: str, tool: str, /, **arguments: str) -> bool:
    return allowed(call_text(tool, arguments), Message("user", prompt))


def test_words_that_were_shouted_are_copied_in_the_letters_in_which_they_are_read() -> None:
    assert after("SEARCH THE DOCS FOR OPEN FILES", "search_docs", query="open files")
    assert not after("SEARCH THE DOCS FOR OPEN FILES", "search_docs", query="OPEN FILES")
    assert after("please show me what EOF is", "signature", name="EOF")


def test_a_number_is_no_name_unless_nothing_else_was_said() -> None:
    assert after("is 72 in json.loads?", "signature", name="json.loads")
    assert not after("is 72 in json.loads?", "signature", name="72")
    assert after("12*7?", "signature", name="12") and not after("12*7?", "signature", name="x")


@pytest.mark.parametrize("phrasings", ["TRAIN", "DEV", "TEST"])
@pytest.mark.parametrize("kind", ["calculator", "python", "search_docs", "signature", "two_in_one"])
def test_the_right_call_is_never_forbidden(kind: str, phrasings: Split) -> None:
    maker, rng = Maker(phrasings, VALUES, "TRAIN"), random.Random(0)
    for _ in range(60):
        task: Task = getattr(maker, kind)(rng)
        for call in task.calls:
            assert allowed(call.text, *task.history, Message("user", task.prompt)), (task.prompt, call.text)


def test_nor_is_that_of_a_hand_written_task_or_of_a_second_question() -> None:
    for task in hand_written():
        for call in task.calls:
            assert allowed(call.text, Message("user", task.prompt)), (task.prompt, call.text)
    rng = random.Random(0)
    for _ in range(40):
        task = Maker("TRAIN", VALUES, "TRAIN").follow_up(rng, TOOLS)
        assert allowed(task.calls[0].text, *task.history, Message("user", task.prompt)), task


@pytest.mark.parametrize("phrasings", ["TRAIN", "DEV", "TEST"])
@pytest.mark.parametrize("kind", ["calculator", "python", "search_docs", "signature", "two_in_one", "follow_up"])
def test_nor_is_the_right_answer(kind: str, phrasings: Split) -> None:
    maker, rng = Maker(phrasings, VALUES, "TRAIN"), random.Random(0)
    for _ in range(20):
        task: Task = maker.follow_up(rng, TOOLS) if kind == "follow_up" else getattr(maker, kind)(rng)
        *before, answer = conversation(task, TOOLS)
        for grammar in GRAMMARS:
            assert grammar.codec.turn(answer) in (grammar.answers(before) or []), task


def answers(*said: tuple[str, str] | str) -> set[str] | None:
    """What may be answered after (tool, result) pairs; a tool alone is a call without a result."""
    turns = [Message("user", "12*7?"), Message("tool_call", call_text("calculator", {"expression": "12*7"}))]
    turns += [Message("tool_result", "84"), Message("assistant", "The answer is 84."), Message("user", "and now?")]
    for one in said:
        name, result = (one, None) if isinstance(one, str) else one
        turns.append(Message("tool_call", call_text(name, {}) if name.isidentifier() else name))
        turns += [] if result is None else [Message("tool_result", result)]
    found = {grammar.codec.read_turn(turn) for grammar in GRAMMARS for turn in grammar.answers(turns) or []}
    return {turn.text for turn in found if turn} or None


def test_an_answer_is_of_the_results_to_the_last_question_and_of_all_of_them() -> None:
    assert answers(("calculator", "12")) == {"The answer is 12."}
    assert answers(("python", "error: no time"), ("calculator", "1")) == {
        "The program failed: no time. The answer is 1."
    }
    look_up = ("signature", "loads(s)\nmodule json\n")
    assert answers(look_up) == {"Its signature is loads(s)", "It is in the module json.", "It has no docstring."}
    assert len(answers(look_up, look_up) or ()) == 9


def test_a_long_value_is_cut_so_that_the_turn_can_end() -> None:
    (said,) = answers(("python", str(2**1000))) or ()
    assert said.startswith("The result is 10715086071862673") and said.endswith("….") and len(said) < 165


@pytest.mark.parametrize(
    "said",
    [
        [],
        ["signature"],  # no result yet
        ["calculator", ("calculator", "3")],  # two calls at once, as langchain's models make them
        [("list_files", "a.txt")],
        [("calculator", "3"), ("list_files", "a.txt")],
        [("no call {", "3")],
        [("search_docs", '{\n "hits": []}')],  # of somebody else's tool of that name
        [("search_docs", "")],
        [("signature", "a\nb\nc\nd")],
        [("signature", "a\nmodule b\nc\nd")],
        10 * [("signature", "a\nmodule b\nc")],
    ],
)
def test_else_any_text_may_be_answered(said: list[tuple[str, str] | str]) -> None:
    assert answers(*said) is None


def test_what_was_not_said_cannot_be_written() -> None:
    assert after("add 42 and 7", "calculator", expression="42+7")
    assert not after("add 42 and 7", "calculator", expression="427")  # two numbers do not run together
    assert not after("add 42 and 7", "calculator", expression="43+7")
    assert not after("what does json.dumps do", "signature", name="json.dump")
    assert not after("search for weak references", "search_docs", query="weak reference")
    assert not after("reverse banana", "python", code="'bananas'[::-1]")
    assert after("reverse banana", "python", code="'banana'[::-1]")
    assert after("run 3*'ab'", "python", code="3*'ab'")


def test_where_nothing_was_said_that_an_argument_could_be_any_valid_one_will_do() -> None:
    assert pattern_of("name", [Message("user", "?!")]) is None
    assert after("?!", "signature", name="json.dumps")


@given(st.lists(st.integers(0, 99_999), min_size=1, max_size=3))
@settings(max_examples=150, deadline=None)
def test_numbers_in_words_can_be_written_in_digits(numbers: list[int]) -> None:
    prompt = "what is " + " plus ".join(spelled(number) for number in numbers)
    assert after(prompt, "calculator", expression="+".join(map(str, numbers)))


@given(st.text(max_size=200))
@settings(max_examples=150, deadline=None)
def test_any_text_makes_a_grammar(text: str) -> None:
    assert not any(grammar.matcher([Message("user", text)]).is_error() for grammar in GRAMMARS)
