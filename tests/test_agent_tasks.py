"""Tasks and the data made of them: phrasings kept apart, values kept apart, every answer from a real result."""

import dataclasses
import itertools
import json
import random
import re

import pytest

from agents.tool_agent import breadth, development, evaluation, tasks, values, whole_text
from agents.tool_agent.phrasings.tables import SUBJECTS, Split, held_out_skeletons, table, two_questions
from agents.tool_agent.tasks import BETWEEN_PARTS, Maker, asks_for_a_search, conversation, part_of
from agents.tool_agent.templates import expand, fill, skeleton, slots_of, vary
from agents.tool_agent.tools import ERROR, ToolResult
from agents.tool_agent.trace import Step, Trace
from agents.tool_agent.traces import SHARES, make_conversations, make_split, word_search
from agents.tool_agent.values import Values, collect_values
from llmm.params import load_params
from llmm.training.lora.chat import call_text
from llmm.training.lora.truecase import truecased
from tests.tiny_agent import DOCUMENTS, OBJECTS, codec, toolbox

SPLITS: tuple[Split, ...] = ("TRAIN", "DEV", "TEST")
KINDS = ("calculator", "python", "search_docs", "signature", "chat", "two_in_one")
VALUES = collect_values(DOCUMENTS, [item for item in OBJECTS if item.split == "train"], OBJECTS)


@pytest.mark.parametrize("name", SUBJECTS)
def test_the_sets_to_choose_and_to_report_on_share_none(name: str) -> None:
    sets = {
        split: {skeleton(one) for phrasings in table(name, split).values() for p in phrasings for one in expand(p)}
        for split in SPLITS
    }
    assert not sets["DEV"] & sets["TEST"]
    assert sets["DEV"] | sets["TEST"] <= held_out_skeletons()
    if name != "follow_up":
        assert sum(len(p) for p in table(name, "TRAIN").values()) >= 40
        assert sum(len(p) for p in table(name, "TEST").values()) >= 15


@pytest.mark.parametrize("kind", ["calculator", "python", "search_docs", "signature", "chat"])
def test_training_says_nothing_in_a_held_out_way(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "fill", lambda text, _: text)  # leave the slots open
    monkeypatch.setattr(tasks, "part_of", lambda _: "TRAIN")
    maker, rng = Maker("TRAIN", VALUES, "TRAIN", slips=0.3), random.Random(0)
    said = {skeleton(getattr(maker, kind)(rng).prompt) for _ in range(3000)}
    assert len(said) > 700
    assert not said & held_out_skeletons()


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_frame_does_not_let_a_held_out_phrasing_into_training(subject: str) -> None:
    held_out = [p for split in ("DEV", "TEST") for ways in table(subject, split).values() for p in ways]
    training, reporting, rng = Maker("TRAIN", VALUES, "TRAIN"), Maker("TEST", VALUES, "TEST"), random.Random(0)
    for phrasing in held_out:
        for mark in ("", "!", "~"):  # each kind of phrasing has frames of its own
            assert all(training._varied(rng, mark + phrasing.lstrip("!~")) is None for _ in range(10))
        assert reporting._varied(rng, phrasing)


def test_ways_to_ask_two_questions_are_not_shared() -> None:
    sets = [{skeleton(text) for text in two_questions(split)} for split in SPLITS]
    assert sum(map(len, sets)) == len(set().union(*sets))


def test_hand_written_tasks_expect_valid_calls_or_a_reply() -> None:
    written = evaluation.hand_written()
    assert len(written) >= 60
    tools = toolbox()
    for task in written:
        for call in task.calls:
            tools.parse(call.text)  # raises where the expected call is not valid
        assert bool(task.calls) != bool(task.reply)


@pytest.mark.parametrize("name", ["calculator", "python", "search", "signature", "follow_up"])
def test_every_slot_of_a_call_stands_in_its_phrasings(name: str) -> None:
    for split in SPLITS:
        for pattern, phrasings in table(name, split).items():
            if name != "signature":
                for phrasing in phrasings:
                    for one in expand(phrasing):
                        assert slots_of(pattern) - {"last"} <= slots_of(one), (pattern, one)


def test_vary_touches_the_words_only() -> None:
    rng = random.Random(0)
    seen = set()
    for _ in range(300):
        text = fill(vary("!add [up |]{a} and {name}", rng), {"a": "12", "name": "json.JSONDecoder"})
        assert "12" in text and "json.JSONDecoder" in text and "{" not in text
        seen.add(text)
    assert len(seen) > 60


@pytest.mark.parametrize("slips", [0.0, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_arguments_can_be_found_in_the_text(kind: str, slips: float) -> None:
    rng = random.Random(1)
    for _ in range(150):
        task = getattr(Maker("TRAIN", VALUES, "TRAIN", slips), kind)(rng)
        for call in task.calls:
            assert toolbox().parse(call.text)
            (value,) = call.arguments.values()
            text = task.prompt.replace(",", "").replace(" ", "")
            if call.kind in ("signature", "summary", "module", "search_docs"):
                assert value in task.prompt
            elif call.kind == "calculator":
                for number in re.findall(r"\d+(?:\.\d+)?", value):
                    words = values.spelled(int(float(number))).replace(" ", "")
                    implied = number in ("2", "3", "7", "24", "60", "100", "1000")  # half, a week, percent
                    assert number in text or words in text.lower() or implied, (task.prompt, value)


def test_calls_of_the_splits_are_disjoint() -> None:
    rng = random.Random(2)
    calls = {
        part: {
            call.text
            for kind in KINDS
            for _ in range(60)
            for call in getattr(Maker("TRAIN", VALUES, part), kind)(rng).calls
        }
        for part in ("TRAIN", "DEV", "TEST")
    }
    for part, found in calls.items():
        assert found and all(part_of(call) == part for call in found)


def test_conversations_are_executed_and_answers_follow_from_the_results() -> None:
    tools = toolbox()
    made = make_conversations(Maker("TRAIN", VALUES, "TRAIN"), tools, 400, random.Random(3))
    assert len(made) == 400 and {one.kind for one in made} == set(SHARES)
    done = [one for one in made if one.kind != "plan"]
    without = sum(all(message.role != "tool_call" for message in one.messages) for one in done) / len(done)
    assert 0.08 < without < 0.18
    for one in made:
        messages = list(one.messages)
        if one.kind == "plan":
            assert [message.role for message in messages] == ["system", "user", "assistant"]
            parts = messages[-1].text.split(BETWEEN_PARTS)
            assert len(parts) == 2 and all(part and part in truecased(messages[1].text) for part in parts)
            continue
        assert messages[0].role == "user" and messages[-1].role == "assistant"
        for call, result in itertools.pairwise(messages):
            if call.role == "tool_call":
                assert result.role == "tool_result" and result.text == tools.call(call.text).text
                if one.kind in ("calculator", "python") and not result.text.startswith(ERROR):
                    assert result.text in messages[-1].text
        ids, weights = codec().example(messages)
        assert len(ids) == len(weights) and any(weights) and not all(weights)


def test_the_same_seed_makes_the_same_data() -> None:
    first, second = (
        make_conversations(Maker("TRAIN", VALUES, "TRAIN"), toolbox(), 60, random.Random(4)) for _ in range(2)
    )
    assert first == second


def test_tasks_can_be_made_for_a_source_without_objects_and_without_text() -> None:
    maker, rng = Maker("TRAIN", Values((), (), ()), "TRAIN"), random.Random(5)
    assert all(getattr(maker, kind)(rng).prompt for kind in KINDS for _ in range(20))
    assert collect_values(DOCUMENTS, [], []).topics


@pytest.mark.parametrize(
    ("text", "topics"),
    [
        ("Return the state of a regular expression object.", {"state", "regular expression object"}),
        ("Open the given file, unless its old name is used.", {"file", "old name"}),
        ("A mix-in class: each of the 3 weak references, the x509 certificate.", {"mix-in class"}),
        ("Make the wrapped long option string a value", {"long option string", "value"}),
        ("It should, however, not be about much.", set()),
        ("", set()),
    ],
)
def test_a_topic_is_a_noun_phrase(text: str, topics: set[str]) -> None:
    assert values._topics_in(text) == topics


@pytest.mark.parametrize(
    ("summary", "deeds"),
    [
        ("Returns a list of names.", {"return a list of names"}),
        ("Open a file", {"open a file"}),
        ("Return an iterator over all of the immediate subparts of it.", set()),  # cut off it would end in nowhere
        ("Close.", set()),
        ("The name of a file.", set()),
        ("Return 3 names.", set()),
    ],
)
def test_a_deed_is_a_whole_short_sentence(summary: str, deeds: set[str]) -> None:
    assert values._deed_in(summary) == deeds


def test_training_reads_the_whole_text() -> None:
    prose = "The loop. It is used to wait for a future, or to be left alone.\n\nReturns the next event, if any."
    document = dataclasses.replace(DOCUMENTS[0], id="loop", title="", text=prose)
    read = whole_text.whole_text_values([document], [], [])
    assert set(read.topics) == {"loop", "future", "event"}
    assert {"wait for a future", "return the next event, if any"} < set(read.deeds)
    assert not any(deed.startswith("be ") for deed in read.deeds)
    before = collect_values([document], [], [])
    assert not before.deeds and set(before.topics) == set(read.topics)


def test_a_deed_of_other_things_keeps_its_words_but_for_noun_phrases() -> None:
    made = whole_text._of_other_things(["copy the mode bits to every file", "stop, if any"], ["event loop"])
    assert made == {"copy the event loop to every event loop", "stop, if any"}
    assert whole_text._of_other_things([], ["event loop"]) == set()


def test_training_alone_searches_for_phrases_of_the_whole_text() -> None:
    text = " ".join(f"Used to count the {name} apples." for name in ("red", "green", "small", "sweet", "sour", "ripe"))
    document = dataclasses.replace(DOCUMENTS[0], id="orchard", title="", text="x" * 2000 + " " + text)

    def searched(split: str) -> set[str]:
        made = make_split(split, [document], [], lambda query, k: [], 300, random.Random(6))
        calls = [m.text for one in made for m in one.messages if m.role == "tool_call" and one.kind == "search_docs"]
        assert calls and {part_of(call) for call in calls} == {"TRAIN" if split == "train" else "DEV"}
        return {json.loads(call)["arguments"]["query"] for call in calls}

    assert any(query.endswith("apples") for query in searched("train"))
    assert not any("apples" in query for query in searched("val"))


def test_unseen_phrases_are_searched_for_and_nothing_else() -> None:
    phrases = {"event loop", "futures", "stop a loop", "lock", "wait for a task", "queues", "cancel a task", "timers"}
    values = Values(
        (), tuple(q for q in sorted(phrases) if " a " not in q), tuple(q for q in sorted(phrases) if " a " in q)
    )
    kept = {q for q in phrases if part_of(call_text("search_docs", {"query": q})) == "TRAIN"}
    maker, rng = development.UnseenPhrases("TRAIN", values, "TRAIN"), random.Random(7)
    assert {maker.search_docs(rng).calls[0].arguments["query"] for _ in range(200)} == kept < phrases


@pytest.mark.parametrize(
    ("written", "is_cut"),
    [(["loop"], True), (["event loop"], False), (["the event loop"], False), ([], False), (["loop", "event"], False)],
)
def test_a_phrase_is_cut_short_where_a_part_of_it_is_searched_for(written: list[str], is_cut: bool) -> None:
    task = tasks.Task("read about the event loop", (tasks.Call("search_docs", {"query": "event loop"}),))
    steps = [Step("tool_call", call_text("search_docs", {"query": query}), 9) for query in written]
    assert development._is_cut_short(task, Trace(task.prompt, "model", steps=steps)) is is_cut
    other = Step("tool_call", call_text("signature", {"name": "loop"}), 9)
    assert not development._is_cut_short(task, Trace(task.prompt, "model", steps=[other]))


def test_some_training_conversations_end_with_their_call() -> None:
    tools, calls = toolbox(), list[str]()
    run = tools.call

    def counted(text: str) -> ToolResult:
        calls.append(text)
        return run(text)

    tools.call = counted  # type: ignore[method-assign]
    maker = Maker("TRAIN", VALUES, "TRAIN")
    kinds = ("calculator", "python", "search_docs", "signature")
    made = make_conversations(maker, tools, 300, random.Random(3), dict.fromkeys(kinds, 1.0))
    of_one = [one for one in made if one.kind in kinds]
    assert len(of_one) > 150 and all(one.messages[-1].role == "tool_call" for one in of_one)
    assert len(calls) < len(of_one)  # tools were run for the others alone
    assert all(one.messages[-1].role == "assistant" for one in made if one.kind in ("chat", "two_in_one", "plan"))
    half = make_conversations(maker, toolbox(), 400, random.Random(3), {"calculator": 0.5})
    ends = {kind: [one.messages[-1].role == "tool_call" for one in half if one.kind == kind] for kind in kinds}
    assert 0.3 < sum(ends["calculator"]) / len(ends["calculator"]) < 0.7
    assert not any(ends["python"] + ends["search_docs"] + ends["signature"])


@pytest.mark.parametrize("split", SPLITS)
def test_who_names_an_object_wants_a_search_only_where_the_words_say_so(split: Split) -> None:
    maker, rng = Maker(split, VALUES, "TRAIN"), random.Random(8)
    drawn = [maker.search_docs(rng) for _ in range(1500)]
    named = [task.prompt.lower() for task in drawn if task.calls[0].arguments["query"] in VALUES.names]
    assert len(named) > 20
    for prompt in named:
        assert re.search(r"\b(search|doc(s|umentation|umented)|manual|pages?)\b", prompt), prompt
    for ways in table("signature", split).values():
        assert not [phrasing for phrasing in ways if asks_for_a_search(phrasing)]


def test_follow_up_continues_with_the_last_result() -> None:
    rng, tools = random.Random(6), toolbox()
    for _ in range(20):
        task = Maker("TRAIN", VALUES, "TRAIN").follow_up(rng, tools)
        last = task.history[-1].text.removeprefix("The answer is ").removesuffix(".")
        assert task.calls[0].arguments["expression"].startswith(last)
        assert len(conversation(task, tools)) == 8


def test_word_search_finds_the_document() -> None:
    assert word_search(DOCUMENTS, load_params().index)("zed files", 1)[0].source == "zed"


def test_the_narrow_tasks_ask_for_what_they_say() -> None:
    assert not set(breadth.FRAMES) & set(breadth.HELD_OUT_FRAMES)
    rng = random.Random(0)
    for _ in range(300):
        task = breadth.of_part(lambda rng: breadth.narrow_task(rng, breadth.FRAMES), "TEST")(rng)
        said = task.prompt
        for sign, words in breadth.WORDS.items():
            for word in words:
                said = said.replace(f" {word} ", sign)
        expression = task.calls[0].arguments["expression"]
        assert expression in said and part_of(task.calls[0].text) == "TEST"


def test_breadth_draws_so_many_phrasings_and_asks_in_no_other() -> None:
    ways = breadth.some_phrasings(3, random.Random(0))
    assert {len(set(phrasings)) for phrasings in ways.values()} == {3} and set(ways) == set(breadth.OPERATIONS)
    everything = breadth.some_phrasings(breadth.EVERY, random.Random(0))
    assert {k: sorted(v) for k, v in everything.items()} == {
        k: sorted(table("calculator", "TRAIN")[k]) for k in breadth.OPERATIONS
    }
    maker, rng = Maker("TRAIN", VALUES, "TRAIN"), random.Random(0)
    only = {"{a}-{b}": ["how many more is {a} than {b}"]}
    for _ in range(50):
        task = maker.calculator(rng, only)
        assert "how many more is" in task.prompt.lower() and "-" in task.calls[0].arguments["expression"]
