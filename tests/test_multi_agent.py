"""The team: plans that add nothing, one budget for all, and transcripts that say what was done."""

import json
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.multi_agent.budget import Budget, BudgetSpent
from agents.multi_agent.crew import NO_TOOLS, Crew, tokens_of
from agents.multi_agent.plan_masks import PlanGrammar, is_plan, may_begin
from agents.multi_agent.planner_workers import PlannerWorkers
from agents.multi_agent.transcript import Transcript, Turn
from agents.tool_agent import small_agent
from agents.tool_agent.loop import Limits
from agents.tool_agent.tasks import BETWEEN_PARTS
from agents.tool_agent.trace import Step, Trace
from llmm.training.lora.chat import Message, call_text
from llmm.transformers.gpt import GPT
from llmm.transformers.gpt.generate import generate
from llmm.transformers.gpt.sampling import Sampler

MESSAGES = ("read note 1, then pay 20 to ben", "what is 3 plus 4?", "x=1\nx*2 and 5+5")


@pytest.fixture(scope="module")
def crew() -> Crew:
    """Fresh weights: they write what they like within their masks."""
    model = GPT(small_agent.sizes()).eval()
    model.init_weights(torch.Generator().manual_seed(0))
    return Crew(model, small_agent.codec(), small_agent.tools({"1": "tea"}), Limits(steps=2, turn_tokens=40))


# --- plans ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plan", "right"),
    [
        ("read note 1\n\npay 20 to ben", True),
        ("read note 1", True),
        ("note 1\n\nto ben", True),
        ("read note 1\n\npay 2", False),
        ("ead note 1", False),
        ("pay 20 to ben\n\nread note 1", False),
        ("read note 1\n\nread note 1", False),
        ("read note 1\n\npay 90 to ben", False),
        ("read note 1\n\n", False),
        ("", False),
    ],
)
def test_a_plan_is_whole_words_of_the_message_in_order(plan: str, right: bool) -> None:
    assert is_plan(plan, MESSAGES[0]) is right
    if right:
        assert all(may_begin(plan[:end], MESSAGES[0]) for end in range(1, len(plan) + 1))


def test_a_part_may_be_a_program_of_two_lines() -> None:
    assert is_plan("x=1\nx*2\n\n5+5", MESSAGES[2])


@settings(max_examples=200, deadline=None)
@given(st.text("ab \n.", min_size=1, max_size=12), st.data())
def test_what_may_begin_can_be_ended_or_gone_on_with(message: str, data: st.DataObject) -> None:
    text = ""
    for _ in range(30):
        signs = [sign for sign in "ab \n." if may_begin(text + sign, message)]
        assert text == "" or signs or is_plan(text, message)
        if not signs:
            break
        text += data.draw(st.sampled_from(signs))
    else:
        pytest.fail("a plan grows longer than its message")


@pytest.mark.parametrize("message", MESSAGES)
def test_the_mask_is_its_definition(message: str) -> None:
    masks, rng = PlanGrammar(small_agent.codec()), random.Random(message)
    for _ in range(20):
        written: list[int] = []
        for _ in range(12):
            text = "".join(masks.texts[i] for i in written)
            allowed = masks.allowed(written, message)
            by_definition = [i for i, new in enumerate(masks.texts) if new and may_begin(text + new, message)]
            assert [i for i in allowed if i != masks.codec.end] == by_definition
            assert (masks.codec.end in allowed) == is_plan(text, message)
            if not by_definition:
                break
            written.append(rng.choice(by_definition))


def test_any_weights_write_plans_only() -> None:
    model = GPT(small_agent.sizes()).eval()
    codec = small_agent.codec()
    masks = PlanGrammar(codec)
    ended = 0
    for seed in range(6):
        model.init_weights(torch.Generator().manual_seed(seed))
        said = [[Message("system", "plan"), Message("user", message)] for message in MESSAGES]
        written = generate(
            model,
            [codec.prompt(one) for one in said],
            60,
            stop_ids=[codec.end],
            sampler=Sampler(1.0),
            generator=torch.Generator().manual_seed(seed),
            logits_processor=masks.processor(said),
        )
        for ids, message in zip(written, MESSAGES, strict=True):
            turn = codec.read_turn(ids)
            ended += turn is not None
            assert turn is None or (turn.role == "assistant" and is_plan(turn.text, message))
    assert ended > 9


# --- budgets and transcripts ------------------------------------------------------------------------------------------


def test_a_budget_is_spent_beyond_its_limit_and_not_at_it() -> None:
    budget = Budget(10, 2)
    budget.take(10, 2)
    assert not budget.spent
    with pytest.raises(BudgetSpent):
        budget.take(1)
    with pytest.raises(ValueError):
        budget.take(-1)
    with pytest.raises(BudgetSpent):
        Budget(10, 0).take(1, 1)


def test_a_spent_budget_ends_the_work_and_nothing_is_delivered() -> None:
    one = Transcript("", Budget(10, 9))
    turn = Turn("worker", "", ("a",), ("1",), "", "answer", 6)
    one.add(turn)
    assert one.going
    one.add(turn)
    one.finish(("a",), "1")
    assert (one.outcome, one.calls) == ("budget", ())


def test_tokens_are_those_that_every_turn_reads_and_writes() -> None:
    codec = small_agent.codec()
    call, end = call_text("read", {"number": "7"}), Message("assistant", "Done.")
    steps = [
        Step("tool_call", call, len(codec.turn(Message("tool_call", call))), "tea", True),
        Step("assistant", end.text, len(codec.turn(end))),
    ]
    first = codec.prompt([Message("user", "do it")])
    second = [*first, *codec.prompt([Message("tool_call", call), Message("tool_result", "tea")])]
    trace = Trace("do it", "agent", [], steps, "Done.", "answer")
    assert tokens_of(trace, codec) == len(first) + steps[0].tokens + len(second) + steps[1].tokens


# --- the team ---------------------------------------------------------------------------------------------------------


def test_each_worker_sees_its_errand_alone(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "plan", lambda transcripts: [("read note 1", "pay 20 to ben") for _ in transcripts])
    one = Transcript(MESSAGES[0], Budget(10**6, 10**6))
    PlannerWorkers(crew)([one])
    assert [turn.asked for turn in one.turns] == ["read note 1", "pay 20 to ben"]
    assert one.calls == tuple(call for turn in one.turns for call in turn.calls)
    assert json.loads(json.dumps(one.to_json()))["outcome"] == one.outcome != ""


def test_errands_stand_in_the_message_or_are_the_message(crew: Crew) -> None:
    transcripts = [Transcript(message, Budget(10**6, 10**6)) for message in MESSAGES]
    PlannerWorkers(crew)(transcripts)
    for one in transcripts:
        errands = [turn.asked for turn in one.turns if turn.who == "worker"]
        assert errands and all(errand in one.message for errand in errands)
        assert one.budget.spent_tokens == sum(turn.tokens for turn in one.turns)


def test_a_team_without_tokens_asks_its_planner_and_nobody_else(crew: Crew) -> None:
    one = Transcript(MESSAGES[0], Budget(1, 10))
    PlannerWorkers(crew)([one])
    assert [turn.who for turn in one.turns] == ["planner"] and one.outcome == "budget"


def test_messages_in_one_batch_do_not_disturb_each_other(crew: Crew) -> None:
    together = [Transcript(message, Budget(10**6, 10**6)) for message in MESSAGES]
    PlannerWorkers(crew)(together)
    for message, among in zip(MESSAGES, together, strict=True):
        alone = Transcript(message, Budget(10**6, 10**6))
        PlannerWorkers(crew)([alone])
        assert alone.to_json() == among.to_json()


def test_a_planner_has_no_tools(crew: Crew) -> None:
    assert not crew.planner.tools and not NO_TOOLS.tools
    one = Transcript(random.Random(0).choice(MESSAGES), Budget(10**6, 10**6))
    crew.plan([one])
    assert one.turns[0].calls == () and BETWEEN_PARTS == "\n\n"
