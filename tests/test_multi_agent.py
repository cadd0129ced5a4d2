"""M13: votes, debates, critics, budgets, letters, and teams on langgraph."""

import json
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.multi_agent import checks, small_team
from agents.multi_agent.budget import Budget, BudgetSpent
from agents.multi_agent.crew import NO_TOOLS, Crew, tokens_of
from agents.multi_agent.critic import accepted_right, expected_attempts, right_in_the_end
from agents.multi_agent.debate import Debate
from agents.multi_agent.debate_law import absorbed, after, disagreement
from agents.multi_agent.failure_labels import label
from agents.multi_agent.mcnemar import exact_p, paired, smallest_difference
from agents.multi_agent.messages import Coordinator, Critic, Ledger, Letter, Worker
from agents.multi_agent.plan_masks import PlanGrammar, is_plan, may_begin
from agents.multi_agent.planner_workers import PlannerWorkers
from agents.multi_agent.roles import hand_over
from agents.multi_agent.schedules import Weather, expected_rounds, run
from agents.multi_agent.self_consistency import SelfConsistency
from agents.multi_agent.token_cost import conversation, crossing, team
from agents.multi_agent.transcript import Transcript, Turn
from agents.multi_agent.voting import (
    correlation,
    majority_of_correlated,
    majority_of_independent,
    majority_of_many,
    plurality,
)
from agents.tool_agent import small_agent
from agents.tool_agent.loop import Limits
from agents.tool_agent.trace import Step, Trace
from llmm.training.lora.chat import Message, call_text
from llmm.training.lora.spaced import SpacedCodec, space_of
from llmm.training.lora.truecase import truecased
from llmm.transformers.gpt import GPT
from llmm.transformers.gpt.generate import generate
from llmm.transformers.gpt.sampling import Sampler

MESSAGES = (
    "read note 1, then pay 20 to ben",
    "what is 3 plus 4?",
    "x=1\nx*2 and 5+5",
    "READ NOTE 1, THEN PAY 20 TO ben",
)
TOOLS = small_agent.tools({"1": "tea"})

# --- votes ------------------------------------------------------------------------------------------------------------


def test_a_vote_of_independent_voters_counts_all_outcomes() -> None:
    assert checks.jury_error() < 1e-12
    assert majority_of_independent(3, 0.6) == pytest.approx(0.6**3 + 3 * 0.6**2 * 0.4)


@given(st.floats(0.5, 0.99), st.integers(0, 10))
def test_two_more_voters_help_whoever_is_better_than_chance(p: float, k: int) -> None:
    n = 2 * k + 1
    assert majority_of_independent(n + 2, p) >= majority_of_independent(n, p) - 1e-12


@given(st.floats(0.01, 0.99), st.integers(0, 6))
def test_an_even_number_of_voters_is_worth_one_less(p: float, k: int) -> None:
    assert majority_of_independent(2 * k + 2, p) == pytest.approx(majority_of_independent(2 * k + 1, p))


def test_correlated_voters_tend_to_the_share_of_easy_tasks() -> None:
    assert majority_of_correlated(4001, 0.7, 0.4) == pytest.approx(majority_of_many(0.7, 0.4), abs=1e-3)
    assert majority_of_many(0.7, 0.4) < 0.9 < majority_of_independent(101, 0.7)
    assert majority_of_correlated(15, 0.7, 0.999) == pytest.approx(0.7, abs=2e-3)


def test_correlation_is_of_tasks_and_not_of_luck() -> None:
    rng = np.random.default_rng(0)
    same = rng.random((4000, 8)) < 0.6
    assert abs(correlation(same.tolist())) < 0.01
    of_task = rng.random((4000, 1)) < 0.6
    assert correlation(np.broadcast_to(of_task, (4000, 8)).tolist()) == pytest.approx(1)


def test_a_vote_is_the_first_of_the_most_frequent() -> None:
    assert plurality("abba") == "a" and plurality("bbaac") == "b"
    assert plurality([("x",), ("y",), ("y",)]) == ("y",)


# --- debates ----------------------------------------------------------------------------------------------------------


@given(st.integers(2, 7), st.floats(0, 1), st.integers(0, 6))
def test_listening_alone_changes_nobody_on_average(n: int, p: float, rounds: int) -> None:
    law = after(n, p, rounds)
    assert law.sum() == pytest.approx(1)
    assert float(law @ np.arange(n + 1)) / n == pytest.approx(p, abs=1e-9)


def test_agreement_comes_as_fast_as_the_law_says() -> None:
    assert checks.disagreement_error() < 1e-12
    assert absorbed(4) == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    ends = after(3, 0.6, 60)
    assert ends[3] == pytest.approx(0.6, abs=1e-6) and ends[0] == pytest.approx(0.4, abs=1e-6)
    assert disagreement(3, 60) < 1e-10


def test_finding_out_is_what_gains() -> None:
    assert float(after(3, 0.3, 8, 0.3)[3]) > 0.7


# --- critics, tokens, comparisons -------------------------------------------------------------------------------------


@given(st.floats(0.05, 0.95), st.floats(0.05, 1), st.floats(0.05, 1))
def test_a_critic_helps_exactly_where_it_accepts_right_ones_more_often(p: float, t: float, f: float) -> None:
    assert (accepted_right(p, t, f) - p) * (t - f) >= -1e-12


@given(st.floats(0.05, 0.95), st.floats(0.05, 1), st.floats(0.05, 1), st.integers(1, 6))
def test_attempts_are_bounded_and_no_critic_is_one_attempt(p: float, t: float, f: float, k: int) -> None:
    assert 1 - 1e-12 <= expected_attempts(p, t, f, k) <= k + 1e-12
    assert right_in_the_end(p, t, f, 1) == pytest.approx(p)
    if t >= f:
        assert right_in_the_end(p, t, f, k) >= p - 1e-12


def test_many_attempts_reach_what_the_critic_lets_through() -> None:
    assert right_in_the_end(0.4, 0.9, 0.2, 200) == pytest.approx(accepted_right(0.4, 0.9, 0.2))


def test_tokens_are_those_of_the_formulas() -> None:
    assert checks.token_cost_error() == 0
    assert conversation(0, 10, 5, 3, 2) == 12
    assert conversation(2, 10, 5, 3, 2) == (10 + 5) + (18 + 5) + (26 + 2)


def test_the_square_beats_the_line() -> None:
    k = crossing(10, 12, 20, 4, 3)
    sizes = (20, 4, 3)
    assert team(k, 10 + 12 * k, 12, *sizes) < conversation(k, 10 + 12 * k, *sizes)
    assert team(k - 1, 10 + 12 * (k - 1), 12, *sizes) >= conversation(k - 1, 10 + 12 * (k - 1), *sizes)


def test_only_tasks_that_tell_systems_apart_count() -> None:
    same = [True, False] * 50
    assert paired(same, same).p_value == 1
    better = [True] * 8 + same
    worse = [False] * 8 + same
    found = paired(better, worse)
    assert (found.only_first, found.only_second) == (8, 0) and found.p_value == pytest.approx(2 / 2**8)
    assert smallest_difference(5) is None and smallest_difference(6) == 6
    assert exact_p(3, 3) == 1


# --- letters ----------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6), st.floats(0, 0.6), st.floats(0, 0.5), st.floats(0, 0.3), st.integers(1, 5), st.integers(1, 3)
)
def test_any_schedule_ends_with_the_same_results(
    seed: int, lost: float, again: float, crash: float, errands: int, attempts: int
) -> None:
    acted: list[tuple[str, int]] = []

    def act(errand: str, attempt: int) -> str:
        acted.append((errand, attempt))
        return f"{errand}{attempt}"

    def team_of() -> tuple[Coordinator, list[Worker | Critic]]:
        critic = Critic("critic", lambda errand, result: result.endswith(str(errand % 3)))
        names = ["ann", "bob"]
        coordinator = Coordinator([f"e{i}." for i in range(errands)], names, "critic", attempts)
        return coordinator, [*(Worker(name, act) for name in names), critic]

    coordinator, others = team_of()
    calm = run(coordinator, others, Weather(), 0).results
    acted.clear()
    coordinator, others = team_of()
    outcome = run(coordinator, others, Weather(lost, again, crash), seed, 200_000)
    assert outcome.done and not outcome.stuck
    assert outcome.results == calm
    assert len(acted) == len(set(acted))


def test_a_schedule_is_its_seed() -> None:
    def once() -> object:
        worker = Worker("ann", lambda errand, attempt: errand)
        return run(Coordinator(["a", "b"], ["ann"]), [worker], Weather(0.3, 0.3), 7)

    assert once() == once()


def test_the_number_of_rounds() -> None:
    assert expected_rounds(1, 0.5) == pytest.approx(4)
    assert expected_rounds(5, 0.0, 3) == 1


def test_late_letters_change_nothing() -> None:
    coordinator = Coordinator(["a"], ["ann"], "critic", attempts=2)
    (work,) = coordinator.silence()
    (check,) = coordinator.receive(Letter("ann", "coordinator", "result", 0, 0, "first"))
    assert (work.kind, check.kind, check.text) == ("work", "check", "first")
    (again,) = coordinator.receive(Letter("critic", "coordinator", "verdict", 0, 0, "no"))
    assert again.attempt == 1
    for late in ("result", "verdict"):
        assert coordinator.receive(Letter("ann", "coordinator", late, 0, 0, "yes")) == []
    assert not coordinator.done


def test_a_ledger_acts_once() -> None:
    acted: list[int] = []
    ledger = Ledger()

    def act() -> str:
        acted.append(1)
        return f"done {len(acted)}"

    assert {ledger.once(0, 0, act) for _ in range(3)} == {"done 1"}
    assert ledger.once(0, 1, act) == "done 2"


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


@pytest.mark.parametrize("spaced", [False, True])
@pytest.mark.parametrize("message", MESSAGES)
def test_the_mask_is_its_definition(message: str, spaced: bool) -> None:
    codec = SpacedCodec(small_agent.codec().tokenizer) if spaced else small_agent.codec()
    masks, rng = PlanGrammar(codec), random.Random(message)

    def begins(text: str) -> bool:
        return text.startswith(space_of(codec)) and may_begin(text.removeprefix(space_of(codec)), message)

    for _ in range(20):
        written: list[int] = []
        for _ in range(12):
            text = "".join(masks.texts[i] for i in written)
            allowed = masks.allowed(written, message)
            by_definition = [i for i, new in enumerate(masks.texts) if new and begins(text + new)]
            assert [i for i in allowed if i != codec.end] == by_definition
            assert (codec.end in allowed) == is_plan(text.removeprefix(space_of(codec)), message)
            if not by_definition:
                break
            written.append(rng.choice(by_definition))


@pytest.mark.parametrize("spaced", [False, True])
def test_any_weights_write_plans_only(spaced: bool) -> None:
    model = GPT(small_agent.sizes()).eval()
    codec = SpacedCodec(small_agent.codec().tokenizer) if spaced else small_agent.codec()
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
            assert turn is None or (turn.role == "assistant" and is_plan(turn.text, truecased(message)))
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
    turn = Turn("worker", "", ("a",), ("1",), (), "", "answer", 6)
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


# --- teams ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(6))
def test_members_who_make_no_mistake_make_no_mistake_together(number: int) -> None:
    tools = checks._tools()
    transcripts = checks._worked(checks._teams(checks.Scripted(0, wild=False), tools)[number], checks.MESSAGES)
    for transcript in transcripts:
        assert transcript.right([checks._right_call(part) for part in transcript.message.split("; ")])
        assert json.loads(json.dumps(transcript.to_json()))["outcome"] == "done"


@pytest.mark.parametrize("seed", range(10))
def test_members_who_write_anything_come_to_an_end(seed: int) -> None:
    for team_of in checks._teams(checks.Scripted(seed, wild=True), checks._tools()):
        assert not any(one.going for one in checks._worked(team_of, checks.MESSAGES))


def test_what_is_no_plan_is_not_followed() -> None:
    assert checks.plan_faults() == 0


def test_an_errand_is_done_again_and_not_the_message() -> None:
    assert checks.retry_faults() == 0


def test_a_spent_budget_ends_the_work() -> None:
    assert checks.overspent() == 0


def test_labels_are_those_of_the_planted_failures() -> None:
    assert checks.label_faults() == 0
    assert label(Transcript("", Budget(1, 1), calls=("x",), outcome="done"), ["x"]) == ()


# --- the small team ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def members() -> Crew:
    """A crew of fresh weights: they write what they like, which is enough to be counted."""
    model = GPT(small_team.sizes()).eval()
    model.init_weights(torch.Generator().manual_seed(0))
    return Crew(model, small_team.codec(), Limits(steps=2, turn_tokens=24, seconds=600), 0)


@pytest.mark.parametrize("role", [*small_team.SHARES, "check"])
def test_a_role_is_played_right_in_its_conversations(role: str) -> None:
    rng = random.Random(role)
    for _ in range(20):
        said = small_team.conversation(role, rng)
        (message,) = [one.text for one in said if one.role == "user"]
        last = said[-1]
        assert last.role == "assistant"
        if role == "plan":
            assert is_plan(last.text, message)
        elif role == "lead":
            handed = [json.loads(one.text) for one in said if one.role == "tool_call"]
            assert all(call["arguments"]["errand"] in message for call in handed)
        elif role == "check":
            right = small_agent.fits(said[1].text) and last.text in ("yes", "no")
            assert right and said[1].role == "context"
        else:
            calls = [one.text for one in said if one.role == "tool_call"]
            assert calls and all(map(small_agent.fits, calls))


def test_a_wrong_call_is_wrong_and_valid() -> None:
    rng = random.Random(0)
    for kind in small_team.ERRANDS:
        for _ in range(30):
            errand = small_agent.for_training(kind, rng)
            made = small_team.wrong_call(errand, rng)
            assert made != errand.calls[0] and small_agent.fits(made)


def test_judged_messages_share_no_call_with_training() -> None:
    judged = {call for job in small_team.jobs(3, 40, 0) for call in job.calls}
    rng = random.Random(1)
    trained = {one.text for _ in range(300) for one in small_team.conversation("alone", rng) if one.role == "tool_call"}
    assert not judged & trained


def test_what_a_team_costs_is_what_its_members_read_and_wrote(members: Crew) -> None:
    one = Transcript("read note 1 and pay 5 to ben", Budget(10**6, 10**6))
    SelfConsistency(members, TOOLS, 3, 1.0)([one])
    assert len(one.turns) == 3 and one.outcome
    prompt = len(members.codec.prompt([Message("user", one.message)]))
    assert all(turn.tokens > prompt for turn in one.turns)
    assert one.budget.spent_tokens == sum(turn.tokens for turn in one.turns)


def test_fresh_weights_make_a_team_that_ends(members: Crew) -> None:
    for team_of in (PlannerWorkers(members, TOOLS, critic=members, attempts=2), Debate(members, TOOLS, 2, 1, 1.0)):
        transcripts = [Transcript(text, Budget(10**6, 10**6)) for text in ("read note 1", "3 + 4; 5 + 6")]
        team_of(transcripts)
        assert not any(one.going for one in transcripts)


def test_a_leaders_call_is_what_training_has_shown() -> None:
    said = small_team.conversation("lead", random.Random(3))
    call = json.loads(next(one.text for one in said if one.role == "tool_call"))
    assert hand_over(call["name"], call["arguments"]["errand"]) in [one.text for one in said]


def test_each_worker_sees_its_errand_alone(members: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "plan", lambda transcripts: [("read note 1", "pay 20 to ben") for _ in transcripts])
    one = Transcript(MESSAGES[0], Budget(10**6, 10**6))
    PlannerWorkers(members, TOOLS)([one])
    assert [turn.asked for turn in one.turns] == ["read note 1", "pay 20 to ben"]
    assert one.calls == tuple(call for turn in one.turns for call in turn.calls)
    assert json.loads(json.dumps(one.to_json()))["outcome"] == one.outcome != ""


def test_errands_stand_in_the_message_or_are_the_message(members: Crew) -> None:
    transcripts = [Transcript(message, Budget(10**6, 10**6)) for message in MESSAGES]
    PlannerWorkers(members, TOOLS)(transcripts)
    for one in transcripts:
        errands = [turn.asked for turn in one.turns if turn.who == "worker"]
        assert errands and all(errand in one.message + truecased(one.message) for errand in errands)
        assert one.budget.spent_tokens == sum(turn.tokens for turn in one.turns)


def test_a_team_without_tokens_asks_its_planner_and_nobody_else(members: Crew) -> None:
    one = Transcript(MESSAGES[0], Budget(1, 10))
    PlannerWorkers(members, TOOLS)([one])
    assert [turn.who for turn in one.turns] == ["planner"] and one.outcome == "budget"


def test_messages_in_one_batch_do_not_disturb_each_other(members: Crew) -> None:
    together = [Transcript(message, Budget(10**6, 10**6)) for message in MESSAGES]
    PlannerWorkers(members, TOOLS)(together)
    for message, among in zip(MESSAGES, together, strict=True):
        alone = Transcript(message, Budget(10**6, 10**6))
        PlannerWorkers(members, TOOLS)([alone])
        assert alone.to_json() == among.to_json()


def test_a_planner_has_no_tools(members: Crew) -> None:
    assert not NO_TOOLS.tools
    one = Transcript(MESSAGES[0], Budget(10**6, 10**6))
    members.plan([one])
    assert one.turns[0].calls == ()
