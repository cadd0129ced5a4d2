"""The exit criteria of M13 that a machine measures: one function each, no arguments, one number or truth value out.

The thresholds stand in milestone.yaml.
"""

import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from scipy.stats import betabinom, binomtest

from agents.multi_agent.budget import Budget, BudgetSpent
from agents.multi_agent.crew import NO_TOOLS, Crew, tokens_of
from agents.multi_agent.critic import accepted_right, expected_attempts, right_in_the_end
from agents.multi_agent.debate import Debate
from agents.multi_agent.debate_law import absorbed, after, disagreement, one_round
from agents.multi_agent.failure_labels import RULES, label
from agents.multi_agent.faults import FaultyToolbox
from agents.multi_agent.mcnemar import exact_p, paired, smallest_difference
from agents.multi_agent.messages import Coordinator, Critic, Worker
from agents.multi_agent.plan_masks import PlanGrammar
from agents.multi_agent.planner_workers import PlannerWorkers
from agents.multi_agent.schedules import Outcome, Weather, expected_rounds, run
from agents.multi_agent.self_consistency import SelfConsistency
from agents.multi_agent.supervisor import Supervisor
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
from agents.tool_agent.tasks import BETWEEN_PARTS, PLAN
from agents.tool_agent.tools import Toolbox
from agents.tool_agent.trace import Step, Trace
from llmm.training.lora.chat import Conversation, Message, call_text

# --- votes ------------------------------------------------------------------------------------------------------------


def jury_error() -> float:
    """The jury theorem's sum against all 2^n outcomes, ties counted a half: largest difference, n up to 8."""
    worst = 0.0
    for n, p in itertools.product(range(1, 9), (0.0, 0.2, 0.5, 0.7, 1.0)):
        total = 0.0
        for outcome in itertools.product((0, 1), repeat=n):
            right = sum(outcome)
            weight = p**right * (1 - p) ** (n - right)
            total += weight * (1 if 2 * right > n else 0.5 if 2 * right == n else 0)
        worst = max(worst, abs(total - majority_of_independent(n, p)))
    return worst


def correlated_vote_error() -> float:
    """Votes of correlated voters against scipy's beta-binomial law: largest difference."""
    worst = 0.0
    for n, p, rho in itertools.product((1, 2, 3, 7, 15), (0.3, 0.5, 0.8), (0.05, 0.3, 0.9)):
        total = (1 - rho) / rho
        law = betabinom(n, p * total, (1 - p) * total)
        expected = sum(law.pmf(c) * (1 if 2 * c > n else 0.5 if 2 * c == n else 0) for c in range(n + 1))
        worst = max(worst, abs(float(expected) - majority_of_correlated(n, p, rho)))
    return worst


def vote_limit_error() -> float:
    """The vote of 4,001 correlated voters against what it tends to, and of uncorrelated against independent ones."""
    worst = max(
        abs(majority_of_correlated(4001, p, rho) - majority_of_many(p, rho))
        for p, rho in itertools.product((0.3, 0.6, 0.8), (0.2, 0.5))
    )
    return max(worst, *(abs(majority_of_correlated(9, p, 0.0) - majority_of_independent(9, p)) for p in (0.3, 0.7)))


def correlation_error() -> float:
    """The estimated correlation against the true one, where every outcome stands as often as it is probable."""
    worst = 0.0
    for shares in ((1, 3), (2, 2), (0, 4), (1, 2)):  # quarters: of two kinds of tasks, how often each is right
        rows = []
        for quarters in shares:
            for outcome in itertools.product((True, False), repeat=3):
                weight = math.prod(quarters if right else 4 - quarters for right in outcome)
                rows += [list(outcome)] * weight
        p = Fraction(sum(shares), 8)
        between = sum((Fraction(quarters, 4) - p) ** 2 for quarters in shares) / 2
        worst = max(worst, abs(correlation(rows) - float(between / (p * (1 - p)))))
    return worst


def plurality_faults() -> int:
    """Votes that are not the most frequent answer, or among equals not the first one."""
    rng, faults = random.Random(0), 0
    for _ in range(300):
        answers = [rng.choice("abcd") for _ in range(rng.randint(1, 9))]
        most = max(answers.count(answer) for answer in answers)
        first = next(answer for answer in answers if answers.count(answer) == most)
        faults += plurality(answers) != first
    return faults


# --- debates ----------------------------------------------------------------------------------------------------------


def martingale_error() -> float:
    """Expected number of right debaters after a round of copying, less the number before: largest difference."""
    return max(abs(float(one_round(n)[i] @ np.arange(n + 1)) - i) for n in (2, 3, 5, 9) for i in range(n + 1))


def absorption_error() -> float:
    """Probability that all end up right against the share that was right: largest difference."""
    return max(float(np.abs(absorbed(n) - np.arange(n + 1) / n).max()) for n in (2, 3, 5, 9))


def disagreement_error() -> float:
    """Pairs that disagree after rounds of copying, by the law of the number right, against (1 - 1/n)^r: largest."""
    worst = 0.0
    for n, p, rounds in itertools.product((2, 3, 6), (0.2, 0.7), (0, 1, 4)):
        share = np.arange(n + 1) / n
        pairs = 2 * share * (1 - share)
        left = float(after(n, p, rounds) @ pairs) / float(after(n, p, 0) @ pairs)
        worst = max(worst, abs(left - disagreement(n, rounds)))
    return worst


def finding_out_error() -> float:
    """Expected share of right debaters where some find out: p ← w + (1 - w) p each round, largest difference."""
    worst = 0.0
    for n, weight in itertools.product((2, 5), (0.1, 0.5)):
        p = 0.3
        for rounds in range(4):
            worst = max(worst, abs(float(after(n, 0.3, rounds, weight) @ np.arange(n + 1)) / n - p))
            p = weight + (1 - weight) * p
    return worst


# --- critics ----------------------------------------------------------------------------------------------------------


def critic_error() -> float:
    """Bayes' rule, attempts and the right answer in the end against all courses that things can take."""
    worst = 0.0
    for p, t, f, attempts in itertools.product((0.3, 0.8), (0.6, 0.95), (0.1, 0.5), (1, 2, 4)):
        right = mean = 0.0
        reached = 1.0
        for k in range(1, attempts + 1):
            last = k == attempts
            through = reached * (p * t + (1 - p) * f)
            right += reached * p * (1.0 if last else t)
            mean += k * (reached if last else through)
            reached -= through
        worst = max(worst, abs(right - right_in_the_end(p, t, f, attempts)))
        worst = max(worst, abs(mean - expected_attempts(p, t, f, attempts)))
        worst = max(worst, abs(accepted_right(p, t, f) - p * t / (p * t + (1 - p) * f)))
    return worst


# --- tokens -----------------------------------------------------------------------------------------------------------


def token_cost_error() -> int:
    """Tokens of one long conversation, and of a planner with its workers, by the formulas against those counted in
    traces of such turns."""
    codec, worst = small_agent.codec(), 0
    call = call_text("read", {"number": "7"})
    called = Step("tool_call", call, len(codec.turn(Message("tool_call", call))), "tea", True)
    end = Step("assistant", "Done.", len(codec.turn(Message("assistant", "Done."))))
    prompt, part = (len(codec.turn(Message("user", text))) for text in ("do all of it", "do it"))
    sizes = (called.tokens, len(codec.turn(Message("tool_result", "tea"))), end.tokens)
    for k in range(1, 5):
        alone = Trace("do all of it", "agent", [], [called] * k + [end], "Done.", "answer")
        worst = max(worst, abs(tokens_of(alone, codec) - conversation(k, prompt, *sizes)))
        planner = Trace("do all of it", "planner", [], [Step("assistant", "", k * part)], "", "answer")
        worker = Trace("do it", "worker", [], [called, end], "Done.", "answer")
        together = tokens_of(planner, codec) + k * tokens_of(worker, codec)
        worst = max(worst, abs(together - team(k, prompt, part, *sizes)))
    return worst


def crossing_error() -> int:
    """Numbers of errands from which a team reads less that are not the first such number."""
    rng, faults = random.Random(0), 0
    for _ in range(200):
        prompt, part, call, result, answer = (rng.randint(1, 60) for _ in range(5))
        cheaper = [
            team(k, prompt + k * part, part, call, result, answer)
            < conversation(k, prompt + k * part, call, result, answer)
            for k in range(1, 400)
        ]
        faults += crossing(prompt, part, call, result, answer) != cheaper.index(True) + 1
    return faults


# --- comparing --------------------------------------------------------------------------------------------------------


def mcnemar_error() -> float:
    """Exact p-values against scipy's binomial test: largest difference, up to 40 discordant tasks."""
    worst = max(abs(exact_p(a, n - a) - float(binomtest(a, n, 0.5).pvalue)) for n in range(1, 41) for a in range(n + 1))
    found = paired([True, True, False, False], [False, True, True, False])
    return max(worst, abs(exact_p(0, 0) - 1), float((found.only_first, found.only_second) != (1, 1)))


def power_error() -> int:
    """Numbers of discordant tasks for which the smallest difference is not where the p-value first falls below."""
    faults = 0
    for n in range(1, 40):
        shown = [abs(n - 2 * a) for a in range(n + 1) if exact_p(a, n - a) <= 0.05]
        faults += smallest_difference(n) != (min(shown) if shown else None)
    return faults


def budget_faults() -> int:
    """Takings that pass a limit unnoticed, or are refused below it."""
    rng, faults = random.Random(0), 0
    for _ in range(300):
        budget = Budget(rng.randint(0, 50), rng.randint(0, 5))
        tokens = calls = 0
        for _ in range(12):
            more, used = rng.randint(0, 9), rng.randint(0, 1)
            tokens, calls = tokens + more, calls + used
            over = tokens > budget.tokens or calls > budget.calls
            try:
                budget.take(more, used)
            except BudgetSpent:
                faults += not over
            else:
                faults += over
            faults += budget.spent != over
    return faults


# --- messages ---------------------------------------------------------------------------------------------------------

WEATHERS = (
    Weather(),
    Weather(lost=0.3),
    Weather(again=0.4),
    Weather(lost=0.2, again=0.2, crash=0.1),
    Weather(lost=0.5, again=0.3, crash=0.2),
)
SCHEDULES = 120  # for each weather: 600 in all


def schedule_faults() -> int:
    """Of 600 random schedules, those that end unfinished, with other results, or with an errand acted on twice."""
    faults = 0
    for weather in WEATHERS:
        for seed in range(SCHEDULES):
            outcome, acted = _checked_errands(weather, seed)
            faults += not outcome.done or outcome.stuck or outcome.endless
            faults += outcome.results != EXPECTED
            faults += len(acted) > len(set(acted))
    return faults


ERRANDS = 6
# refused at the first attempt are 0 and 3, at the second 3 again; the third is taken as it is
EXPECTED = tuple(f"{errand}.{ {0: 1, 3: 2}.get(errand, 0) }" for errand in range(ERRANDS))


def _checked_errands(weather: Weather, seed: int) -> tuple[Outcome, list[tuple[str, int]]]:
    acted: list[tuple[str, int]] = []

    def act(errand: str, attempt: int) -> str:
        acted.append((errand, attempt))
        return f"{errand}.{attempt}"

    workers = [Worker(name, act) for name in ("ann", "bob")]
    critic = Critic("critic", lambda errand, result: result not in ("0.0", "3.0", "3.1", "3.2"))
    names = [worker.name for worker in workers]
    coordinator = Coordinator([str(errand) for errand in range(ERRANDS)], names, "critic", attempts=3)
    return run(coordinator, [*workers, critic], weather, seed), acted


def rounds_error() -> float:
    """Expected rounds of one errand against 1 + exchanges · failures for each success, and of many against the mean
    of the largest of so many draws: largest relative difference."""
    worst = 0.0
    for lost, exchanges in itertools.product((0.0, 0.1, 0.4), (1, 2, 3)):
        p = (1 - lost) ** 2
        worst = max(worst, abs(expected_rounds(1, lost, exchanges) - (1 + exchanges * (1 - p) / p)))
    p = 0.7**2
    # the largest of two geometric numbers: 2 E[one] - E[the smaller one]
    largest = 2 / p - 1 / (1 - (1 - p) ** 2)
    return max(worst, abs(expected_rounds(2, 0.3) - largest))


# --- teams ------------------------------------------------------------------------------------------------------------


class Scripted(Crew):
    """A crew without a model: what a member writes is drawn from a seed and from what it is asked, whoever else is
    asked beside it. With `wild` members write anything, also nothing, and tools that are not theirs."""

    def __init__(self, seed: int, wild: bool) -> None:
        self.seed, self.wild, self.codec = seed, wild, small_agent.codec()
        self.limits = Limits(steps=4)
        self.asked: list[tuple[str, str]] = []

    def ask(
        self,
        who: str,
        requests: Sequence[tuple[Transcript, str, Sequence[Message]]],
        tools: Toolbox = NO_TOOLS,
        temperature: float = 0.0,
    ) -> list[Trace]:
        """See Crew."""
        traces = []
        for transcript, asked, before in requests:
            times = sum(turn.who == who and turn.asked == asked for turn in transcript.turns)
            rng = random.Random(f"{self.seed} {who} {asked} {before} {times}")
            trace = self._trace(who, asked, list(before), tools, rng)
            transcript.add(Turn.of(trace, 10))
            self.asked.append((who, asked))
            traces.append(trace)
        return traces

    def turn(
        self, who: str, conversations: Sequence[tuple[Transcript, Conversation]], tools: Toolbox
    ) -> list[Message | None]:
        """See Crew."""
        turns: list[Message | None] = []
        for transcript, said in conversations:
            rng = random.Random(f"{self.seed} {who} {said}")
            message = next(one.text for one in reversed(said) if one.role == "user")
            done = sum(one.role == "tool_call" for one in said)
            parts = message.split("; ")
            turn: Message | None = Message("assistant", "Done.")
            if self.wild and rng.random() < 0.3:
                turn = rng.choice([None, Message("tool_call", call_text("notes", {"errand": "read note 1"}))])
            elif done < len(parts):
                kind = "notes" if "note" in parts[done] else "bank" if "pay" in parts[done] else "math"
                turn = Message("tool_call", call_text(kind, {"errand": parts[done]}))
            transcript.add(Turn(who, message, (), (), (), "", "answer" if turn else "unfinished", 10))
            turns.append(turn)
        return turns

    def _trace(self, who: str, asked: str, before: list[Message], tools: Toolbox, rng: random.Random) -> Trace:
        trace = Trace(asked, who, before, stop="answer")
        wild = self.wild and rng.random() < 0.3
        if before and before[0].text == PLAN:
            trace.answer = "something; else" if wild else BETWEEN_PARTS.join(asked.split("; "))
        elif who == "critic":
            trace.answer = rng.choice(["yes", "no", "", "perhaps"]) if self.wild else rng.choice(["yes", "no"])
        elif wild:
            trace.stop = rng.choice(["unfinished", "steps", "loop"])
        else:
            for part in asked.split("; "):
                call = _right_call(part)
                result = tools.call(call)
                trace.steps.append(Step("tool_call", call, 5, result.text, result.ok))
            trace.answer = "Done."
        return trace


MESSAGES = ("read note 1; pay 20 to ben; 3 + 4", "7 * 8", "pay 5 to eve; read note 2", "1 - 9; 2 * 2")


def _right_call(errand: str) -> str:
    words = errand.split()
    if words[0] == "read":
        return call_text("read", {"number": words[-1]})
    if words[0] == "pay":
        return call_text("pay", {"to": words[-1], "amount": words[1]})
    return call_text("calculator", {"expression": errand.replace(" ", "")})


def _teams(members: Crew, tools: Toolbox) -> list[Any]:
    specialists = {"math": "calculator", "notes": "read", "bank": "pay"}
    return [
        PlannerWorkers(members, tools),
        PlannerWorkers(members, tools, critic=members, attempts=3),
        PlannerWorkers(members, tools, plans=False, attempts=2),
        SelfConsistency(members, tools, 3),
        Supervisor(
            members,
            {name: Toolbox([tools.tools[tool]]) for name, tool in specialists.items()},
            dict.fromkeys(specialists, "Does errands."),
            5,
        ),
        Debate(members, tools, 3, 2),
    ]


def _worked(team_of: Any, messages: Sequence[str], tokens: int = 10**6) -> list[Transcript]:
    transcripts = [Transcript(message, Budget(tokens, 10**6)) for message in messages]
    team_of(transcripts)
    return transcripts


def _tools() -> Toolbox:
    return small_agent.tools({"1": "tea", "2": "maps"})


def deadlocks() -> int:
    """Of 500 teams whose members write anything, those that do not end, or leave a message without an outcome."""
    faults = 0
    for seed in range(84):
        for team_of in _teams(Scripted(seed, wild=True), _tools()):
            try:
                done = _worked(team_of, MESSAGES, tokens=10**6 if seed % 2 else 60)
            except Exception:  # whatever members write, a team may not fall over
                faults += 1
            else:
                faults += any(one.going for one in done)
    return faults


def teamwork_faults() -> int:
    """Messages that a team of members who make no mistake does not do right."""
    faults = 0
    for team_of in _teams(Scripted(0, wild=False), _tools()):
        for transcript in _worked(team_of, MESSAGES):
            wanted = [_right_call(part) for part in transcript.message.split("; ")]
            faults += not transcript.right(wanted)
    return faults


def batch_faults() -> int:
    """Transcripts that depend on which other messages are worked on at the same time, or on their order."""
    faults = 0
    for seed in range(5):
        together = [_worked(one, MESSAGES) for one in _teams(Scripted(seed, wild=True), _tools())]
        turned = [_worked(one, MESSAGES[::-1])[::-1] for one in _teams(Scripted(seed, wild=True), _tools())]
        alone = [
            [_worked(_teams(Scripted(seed, wild=True), _tools())[i], [message])[0] for message in MESSAGES]
            for i in range(len(together))
        ]
        for first, second, third in zip(together, turned, alone, strict=True):
            for a, b, c in zip(first, second, third, strict=True):
                faults += not (a.to_json() == b.to_json() == c.to_json())
    return faults


def specialist_faults() -> int:
    """Calls that a specialist has carried out with a tool that is another's, whatever it was handed."""
    used: list[tuple[str, str]] = []

    class Watched(Scripted):
        def ask(self, who: str, requests: Any, tools: Toolbox = NO_TOOLS, temperature: float = 0.0) -> list[Trace]:
            used.extend((who, tool) for tool in tools.tools)
            return super().ask(who, requests, tools, temperature)

    own = {"math": "calculator", "notes": "read", "bank": "pay"}
    for seed in range(20):
        _worked(_teams(Watched(seed, wild=True), _tools())[4], MESSAGES)
    return sum(own[who] != tool for who, tool in used) + (not used)


def retry_faults() -> int:
    """Errands not done again after a failed call or a critic's no, done again without a reason, or too often."""
    faults = 0
    for attempts, accepts in itertools.product((1, 2, 3), (True, False)):

        class Judged(Scripted):
            def _trace(self, who: str, asked: str, before: Any, tools: Toolbox, rng: random.Random) -> Trace:
                trace = super()._trace(who, asked, before, tools, rng)
                if who == "critic":
                    trace.answer = "yes" if accepts else "no"  # noqa: B023
                return trace

        members: Scripted = Judged(0, wild=False)
        _worked(PlannerWorkers(members, _tools(), critic=members, attempts=attempts), MESSAGES[:1])
        worked = sum(who == "worker" for who, _ in members.asked)
        asked = sum(who == "critic" for who, _ in members.asked)
        faults += worked != 3 * (1 if accepts else attempts)
        faults += asked != (0 if attempts == 1 else 3 if accepts else 3 * (attempts - 1))
    for rate, expected in ((1.0, 9), (0.0, 3)):
        members = Scripted(0, wild=False)
        done = _worked(PlannerWorkers(members, FaultyToolbox(_tools(), rate, 0), attempts=3), MESSAGES[:1])[0]
        faults += sum(who == "worker" for who, _ in members.asked) != expected
        faults += bool(done.broken) != (rate == 1.0)
    return faults


def plan_faults() -> int:
    """Plans that make something up and are followed, or take apart what is said and are not."""
    message, two = "read note 1; pay 20 to ben", ["read note 1", "pay 20 to ben"]
    plans = {
        BETWEEN_PARTS.join(two): tuple(two),
        "read note 1": ("read note 1",),
        f"note 1{BETWEEN_PARTS}pay 20": ("note 1", "pay 20"),
        **dict.fromkeys(["", BETWEEN_PARTS, f"read note 1{BETWEEN_PARTS}", "Read note 1", "ead note 1"], (message,)),
        f"read note 1{BETWEEN_PARTS}pay 90 to ben": (message,),
        f"read note 1{BETWEEN_PARTS}pay 2": (message,),
        BETWEEN_PARTS.join(two[::-1]): (message,),
        BETWEEN_PARTS.join([two[0], *two]): (message,),
    }

    class Planner(Scripted):
        plan_said = ""

        def _trace(self, who: str, asked: str, before: Any, tools: Toolbox, rng: random.Random) -> Trace:
            return Trace(asked, who, before, answer=self.plan_said, stop="answer")

    faults = 0
    for said, errands in plans.items():
        planner = Planner(0, wild=False)
        planner.plan_said = said
        faults += planner.plan([Transcript(message, Budget(10**6, 10**6))]) != [errands]
    return faults


def plan_mask_faults() -> int:
    """Tokens that a planner's mask allows and the definition of a plan does not, or the other way round, along plans
    that are written by chance."""
    grammar, faults = PlanGrammar(small_agent.codec()), 0
    for message in ("read note 1, then pay 20 to ben", "what is 3 plus 4?", "x=1\nx*2 and 5+5"):
        for seed in range(8):
            rng, written = random.Random(f"{seed} {message}"), list[int]()
            for _ in range(10):
                text = "".join(grammar.texts[i] for i in written)
                may = {i for i, new in enumerate(grammar.texts) if new and _continues(text + new, message)}
                ends = {grammar.codec.end} if _continues(text, message, whole=True) else set()
                faults += len(set(grammar.allowed(written, message)) ^ (may | ends))
                if not may:
                    break
                written.append(rng.choice(sorted(may)))
    return faults


def _continues(text: str, message: str, at: int = 0, whole: bool = False) -> bool:
    """Whether a plan of what comes from `at` on begins with `text`, or is it, by trying all runs of whole words.
    What stands between two parts is found from the left, so no part but the last ends with half of it."""
    starts = [i for i in range(at, len(message)) if not message[i].isspace() and not _inside_a_word(i, message)]
    for start in starts:
        if not whole and message.startswith(text, start):
            return True
        for end in range(start + 1, len(message) + 1):
            part = message[start:end]
            if _inside_a_word(end, message) or not text.startswith(part):
                continue
            rest = text[len(part) :]
            if rest == "" and whole:
                return True
            if rest == "\n" and not whole and any(later >= end for later in starts):
                return True
            if (
                part[-1] != "\n"
                and rest.startswith(BETWEEN_PARTS)
                and _continues(rest.removeprefix(BETWEEN_PARTS), message, end, whole)
            ):
                return True
    return False


def _inside_a_word(at: int, message: str) -> bool:
    """Whether a cut before the sign at this place would go through a word."""
    return 0 < at < len(message) and message[at - 1].isalnum() and message[at].isalnum()


def overspent() -> int:
    """Messages delivered although their team had spent more than its budget, or not though it had not."""
    faults = 0
    for tokens in range(0, 160, 7):
        for team_of in _teams(Scripted(1, wild=False), _tools()):
            for transcript in _worked(team_of, MESSAGES, tokens):
                over = sum(turn.tokens for turn in transcript.turns) > tokens
                faults += over != (transcript.outcome == "budget")
    return faults


# --- faults and their labels ------------------------------------------------------------------------------------------


def injection_faults() -> int:
    """Calls that fail more or less often than was asked for, or once and then not again where a fault is to persist."""
    call = [call_text("calculator", {"expression": f"{i}+1"}) for i in range(2000)]
    faults = 0
    for rate in (0.0, 0.2, 1.0):
        tools = FaultyToolbox(_tools(), rate, 1)
        failed = sum(not tools.call(one).ok for one in call)
        faults += abs(failed - rate * len(call)) > 4 * math.sqrt(rate * (1 - rate) * len(call))
    tools = FaultyToolbox(_tools(), 0.5, 2, persistent=True)
    first = [tools.call(one).ok for one in call[:50]]
    faults += [tools.call(one).ok for one in call[:50]] != first or all(first) or not any(first)
    tools = FaultyToolbox(_tools(), 0.5, 2)
    faults += len({tools.call(call[0]).ok for _ in range(30)}) != 2
    return faults


def label_faults() -> int:
    """Planted failures that do not get their label and no other, and right transcripts that get any."""
    a, b, c = (call_text("calculator", {"expression": f"{i}+1"}) for i in range(3))
    read, pay = call_text("read", {"number": "1"}), call_text("pay", {"to": "ben", "amount": "5"})
    wanted = [a, read]
    critic = (Turn("critic", "", (), (), (), "yes", "answer", 1),)
    broken = (Turn("worker", "", (a,), ("error: out of order",), (a,), "Done.", "answer", 1),)
    mended = (*broken, Turn("worker", "", (a,), ("1",), (), "Done.", "answer", 1))
    right = _delivered(wanted)
    planted: list[tuple[Transcript, set[str]]] = [
        (right, set()),
        (_delivered(wanted, mended), set()),
        (_delivered([a, a, read]), {"step repetition"}),
        (_delivered([a]), {"premature termination"}),
        (_delivered([a, read, b]), {"unaware of termination", "no verification"}),
        (_delivered([a, read, b], critic), {"unaware of termination", "incorrect verification"}),
        (_delivered([a, b], critic), {"task derailment", "incorrect verification"}),
        (_delivered([b, read]), {"no verification"}),
        (_delivered([c, read], critic), {"incorrect verification"}),
        (_delivered([a, pay]), {"task derailment", "no verification"}),
        (_delivered(wanted, broken), {"ignored result"}),
        (replace(_delivered([]), outcome="budget"), {"unaware of termination"}),
        (replace(_delivered([]), outcome="nothing"), {"premature termination"}),
    ]
    missing = set(RULES) - {name for _, names in planted for name in names}
    faults = sum(set(label(transcript, wanted)) != names for transcript, names in planted) + len(missing)
    twice = set(label(_delivered([a, a]), [a, a, read]))  # is no repetition where it is wanted twice
    return faults + (twice != {"premature termination"})


def _delivered(calls: Sequence[str], turns: tuple[Turn, ...] = ()) -> Transcript:
    return Transcript("", Budget(100, 100), list(turns), tuple(calls), "Done.", "done")


def bad_input_faults() -> int:
    """Wrong arguments that are not answered with a ValueError that says something."""
    wrong: tuple[Callable[[], object], ...] = (
        lambda: plurality([]),
        lambda: majority_of_correlated(3, 0.5, 1.0),
        lambda: majority_of_correlated(3, 1.0, 0.5),
        lambda: correlation([[True, False]]),
        lambda: accepted_right(0.5, 0.0, 0.0),
        lambda: crossing(1, 1, 0, 0, 1),
        lambda: paired([True], [True, False]),
        lambda: Budget(1, 1).take(-1),
        lambda: Debate(Scripted(0, wild=False), _tools(), debaters=1),
        lambda: run(Coordinator(["a"], ["ann"]), [Worker("ann", _nothing), Worker("ann", _nothing)], Weather(), 0),
    )
    faults = 0
    for attempt in wrong:
        try:
            attempt()
        except ValueError as error:
            faults += len(str(error).split()) < 2
        except Exception:  # any other kind is a fault as well
            faults += 1
        else:
            faults += 1
    return faults


def _nothing(errand: str, attempt: int) -> str:
    return ""
