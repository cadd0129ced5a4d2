"""What several agents gain over one: votes, debates, equal budgets, longer tasks, faults, and letters that get lost."""

import functools
import itertools
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agents.multi_agent import plots, small_team
from agents.multi_agent.budget import Budget
from agents.multi_agent.crew import Crew
from agents.multi_agent.critic import accepted_right
from agents.multi_agent.debate import Debate
from agents.multi_agent.debate_law import disagreement
from agents.multi_agent.failure_labels import RULES, label
from agents.multi_agent.faults import FaultyToolbox
from agents.multi_agent.mcnemar import paired
from agents.multi_agent.messages import Agent, Coordinator, Ledger, Letter, Worker
from agents.multi_agent.planner_workers import PlannerWorkers
from agents.multi_agent.roles import CHECK, DEBATE, YES, says
from agents.multi_agent.schedules import Weather, expected_rounds, run
from agents.multi_agent.self_consistency import SelfConsistency
from agents.multi_agent.small_team import TeamJob, jobs
from agents.multi_agent.supervisor import Supervisor
from agents.multi_agent.transcript import Transcript
from agents.multi_agent.voting import correlation, majority_of_correlated, majority_of_independent, plurality
from agents.tool_agent import small_agent
from agents.tool_agent.loop import Limits
from agents.tool_agent.small_training import kept
from agents.tool_agent.tools import Toolbox
from llmm.ladder.records import Record, round_metrics, spread
from llmm.statistics import paired_bootstrap
from llmm.training.lora.chat import Message
from llmm.transformers.gpt import GPT

SEEDS = [0, 1, 2]
WORLD = (
    "A model of 0.4 million parameters in every role but the critic's, trained from nothing on 40,000 conversations "
    "over three tools (a calculator, notes, payments); messages of one to four errands in training"
)
LIMITS = Limits(steps=small_team.LONGEST + 2, turn_tokens=160, tokens=1000, seconds=3600)
UNLIMITED = 10**9
Team = Callable[[list[Transcript]], None]


@functools.cache
def history(seed: int) -> list[GPT]:
    """The model after every tenth of its training."""
    return kept("m13", str(seed), small_team.sizes(), functools.partial(small_team.train, seed))


def crew(seed: int, stage: int = -1) -> Crew:
    """A crew of the model of this seed, at the end of its training or at an earlier `stage` of ten."""
    return Crew(history(seed)[stage], small_team.codec(), LIMITS, seed)


def critic(seed: int) -> Crew:
    """A crew of this seed's critic, at the end of its training."""
    trained = kept("m13", f"critic {seed}", small_team.sizes(), functools.partial(small_team.train_critic, seed))
    return Crew(trained[-1], small_team.codec(), LIMITS, seed)


def world(asked: Sequence[TeamJob]) -> Toolbox:
    """The tools of a world in which all their notes can be read. Two jobs may want a note of one number."""
    return small_agent.tools({number: note for job in asked for number, note in job.notes.items()})


def work(team: Team, asked: Sequence[TeamJob], tokens: int = UNLIMITED) -> list[Transcript]:
    """Let a team work on all of these, each under a budget of its own."""
    transcripts = [Transcript(job.message, Budget(tokens, UNLIMITED)) for job in asked]
    team(transcripts)
    return transcripts


def rights(transcripts: Sequence[Transcript], asked: Sequence[TeamJob]) -> list[bool]:
    """Which of the jobs were done right."""
    return [transcript.right(job.calls) for transcript, job in zip(transcripts, asked, strict=True)]


def supervisor(members: Crew, tools: Toolbox) -> Supervisor:
    """A leader with a specialist for each tool."""
    specialists = {name: Toolbox([tools.tools[tool]]) for tool, name in small_team.SPECIALIST.items()}
    return Supervisor(members, specialists, dict.fromkeys(specialists, "Does errands."), small_team.LONGEST + 1)


# --- votes ------------------------------------------------------------------------------------------------------------

STAGE = 1  # of ten, counted from zero: a model that is often wrong
VOTERS, ERRANDS = 15, 96
COUNTS = (1, 3, 5, 15)
TEMPERATURES = (0.5, 1.0)


def votes(figures: Path) -> Record:
    """Accuracy of the vote against the number of samples, beside what independent and correlated voters would reach."""
    measured: dict[float, dict[int, list[float]]] = {t: {n: [] for n in COUNTS} for t in TEMPERATURES}
    predicted: dict[str, dict[int, list[float]]] = {
        way: {n: [] for n in COUNTS} for way in ("independent", "correlated")
    }
    majority: dict[int, list[float]] = {n: [] for n in COUNTS}
    rho: dict[float, list[float]] = {t: [] for t in TEMPERATURES}
    greedy = []
    for seed in SEEDS:
        asked = jobs(1, ERRANDS, seed)
        greedy.append(
            statistics.fmean(rights(work(PlannerWorkers(crew(seed, STAGE), world(asked), plans=False), asked), asked))
        )
        for temperature in TEMPERATURES:
            drawn = _attempts(crew(seed, STAGE), asked, temperature)
            right = [[calls == job.calls for calls in row] for row, job in zip(drawn, asked, strict=True)]
            rho[temperature].append(correlation(right))
            p = statistics.fmean(map(statistics.fmean, right))
            for n in COUNTS:
                measured[temperature][n].append(_vote_accuracy(drawn, asked, n))
                if temperature == TEMPERATURES[-1]:
                    majority[n].append(_majority_share(right, n))
                    predicted["independent"][n].append(majority_of_independent(n, p))
                    predicted["correlated"][n].append(majority_of_correlated(n, p, rho[temperature][-1]))
    off = {
        way: [abs(a - b) for a, b in zip(majority[VOTERS], of[VOTERS], strict=True)] for way, of in predicted.items()
    }
    metrics = {
        "greedy": spread(greedy),
        "measured": {
            _key("t", t): {_key("n", n): spread(values) for n, values in of.items()} for t, of in measured.items()
        },
        "predicted": {way: {_key("n", n): spread(values) for n, values in of.items()} for way, of in predicted.items()},
        "majority": {_key("n", n): spread(values) for n, values in majority.items()},
        "off": {way: spread(values) for way, values in off.items()},
        "correlation": {_key("t", t): spread(values) for t, values in rho.items()},
        "gain": spread([b - a for a, b in zip(measured[1.0][1], measured[1.0][VOTERS], strict=True)]),
        "over_majority": spread([b - a for a, b in zip(majority[VOTERS], measured[1.0][VOTERS], strict=True)]),
        "over_greedy": spread([b - a for a, b in zip(greedy, measured[1.0][VOTERS], strict=True)]),
    }
    return Record(
        objective="An agent is asked fifteen times and the calls that most attempts agree on are taken. How much "
        "better is that, and why not as much as the jury theorem says?",
        setup=f"{WORLD}; here after a fifth of its training. {ERRANDS} errands of values that training leaves "
        f"out, {VOTERS} attempts at each by drawing at temperatures of a half and of one; the vote of n averaged over "
        "the groups of n that they can be cut into, and the share of groups of which more than half are right, a tie "
        "counting a half, at temperature one. Predicted from the share of right attempts p and the correlation "
        "of two attempts at one errand: n independent voters, and voters whose errands differ by a Beta law. Greedy: "
        "one attempt without drawing. Seeds 0, 1, 2, which at this point of the training are far apart.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {
                    "changed": f"seed {seed}, {n} attempts",
                    **{f"vote, temperature {t}": measured[t][n][i] for t in TEMPERATURES},
                    "more than half right": majority[n][i],
                    **{way: of[n][i] for way, of in predicted.items()},
                }
                for i, seed in enumerate(SEEDS)
                for n in COUNTS
            ]
        ),
        figure=plots.votes(measured[1.0], majority, predicted, greedy, figures / "votes.svg"),
        found="At temperature one a single attempt is right in {measured[t_1_0][n_1][mean]:.1%} of the cases and the "
        "vote of fifteen in {measured[t_1_0][n_15][mean]:.1%} (gain {gain[mean]:.3f}, sd {gain[sd]:.3f}). How often "
        "more than half of the fifteen are right is off by {off[correlated][mean]:.3f} from what voters with the "
        "measured correlation of {correlation[t_1_0][mean]:.2f} would reach, and by {off[independent][mean]:.3f} from "
        "independent ones. The vote has {over_majority[mean]:.3f} more (sd {over_majority[sd]:.3f}), as wrong answers "
        "scatter. At half the temperature it goes from {measured[t_0_5][n_1][mean]:.1%} to "
        "{measured[t_0_5][n_15][mean]:.1%}.",
        negative="One attempt without drawing is right in {greedy[mean]:.1%}, for a fifteenth of the tokens; the vote "
        "is {over_greedy[mean]:+.3f} beside it (sd {over_greedy[sd]:.3f}). What drawing loses, the vote wins back "
        "first.",
    )


def _key(letter: str, value: float) -> str:
    """Of a setting in a record: "t_0_5" for 0.5."""
    return f"{letter}_{value}".replace(".", "_")


def _attempts(
    members: Crew, asked: Sequence[TeamJob], temperature: float, before: Sequence[Message] = ()
) -> list[list[tuple[str, ...]]]:
    """The calls of VOTERS attempts at each, after what was said `before`."""
    transcripts = [Transcript(job.message, Budget(UNLIMITED, UNLIMITED)) for job in asked]
    requests = [(one, one.message, before) for one in transcripts for _ in range(VOTERS)]
    traces = members.ask("agent", requests, world(asked), temperature)
    return [[tuple(trace.calls) for trace in traces[VOTERS * i : VOTERS * (i + 1)]] for i in range(len(asked))]


def _majority_share(right: Sequence[Sequence[bool]], n: int) -> float:
    """Share of groups of n attempts of which more than half are right, a tie counting a half."""
    sums = [sum(row[start : start + n]) for row in right for start in range(0, VOTERS - n + 1, n)]
    return statistics.fmean(1.0 if 2 * c > n else 0.5 if 2 * c == n else 0.0 for c in sums)


def _vote_accuracy(drawn: Sequence[Sequence[tuple[str, ...]]], asked: Sequence[TeamJob], n: int) -> float:
    groups = range(0, VOTERS - n + 1, n)
    return statistics.fmean(
        plurality(row[start : start + n]) == job.calls
        for row, job in zip(drawn, asked, strict=True)
        for start in groups
    )


# --- debates ----------------------------------------------------------------------------------------------------------

DEBATERS, ROUNDS = 3, 3
HOT = 2.0  # a temperature at which the trained model errs as well


def debates(figures: Path) -> Record:
    """What rounds of listening do to the share of right answers and to agreement, beside debaters who only copy."""
    right: list[list[float]] = []
    agree: list[list[float]] = []
    voted: list[list[float]] = []
    learnt: list[list[float]] = []
    after_hearing: dict[int, list[float]] = {count: [] for count in range(DEBATERS)}
    same_tokens, costs, affordable = [], [], list[int]()
    for seed in SEEDS:
        asked = jobs(1, ERRANDS, seed)
        team = Debate(crew(seed, STAGE), world(asked), DEBATERS, ROUNDS, 1.0)
        transcripts = work(team, asked)
        rows = _right_by_round(team, asked)
        right.append(_shares(rows))
        for count, answers in _after_hearing(rows).items():
            after_hearing[count].append(statistics.fmean(answers))
        at_the_end = Debate(crew(seed), world(asked), DEBATERS, ROUNDS, HOT)
        work(at_the_end, asked)
        learnt.append(_shares(_right_by_round(at_the_end, asked)))
        agree.append([statistics.fmean(_agreement(said) for said in spoken) for spoken in team.history])
        voted.append(
            [
                statistics.fmean(plurality(said) == job.calls for said, job in zip(spoken, asked, strict=True))
                for spoken in team.history
            ]
        )
        costs.append(statistics.fmean(one.budget.spent_tokens for one in transcripts))
        drawn = _attempts(crew(seed, STAGE), asked, 1.0, says(DEBATE, ""))
        each = statistics.fmean(turn.tokens for one in transcripts for turn in one.turns[:DEBATERS])
        affordable.append(min(VOTERS, int(costs[-1] / each)))
        same_tokens.append(_vote_accuracy(drawn, asked, affordable[-1]))
    first = statistics.fmean(row[0] for row in agree)
    copying = [1 - (1 - first) * disagreement(DEBATERS, r) for r in range(ROUNDS + 1)]
    metrics = {
        "right": _columns(right),
        "agree": _columns(agree),
        "vote": _columns(voted),
        "copying_agree": copying,
        "after_hearing": {f"{count}_right": spread(shares) for count, shares in after_hearing.items()},
        "learnt_right": _columns(learnt),
        "gain_of_learnt": spread([row[-1] - row[0] for row in learnt]),
        "gain_of_right": spread([row[-1] - row[0] for row in right]),
        "gain_of_vote": spread([row[-1] - row[0] for row in voted]),
        "vote_of_the_same_tokens": spread(same_tokens),
        "attempts_for_the_same_tokens": spread(affordable),
        "debate_vote": spread([row[-1] for row in voted]),
        "first": spread([row[0] for row in right]),
        "last": spread([row[-1] for row in right]),
        "agree_first": spread([row[0] for row in agree]),
        "agree_last": spread([row[-1] for row in agree]),
    }
    return Record(
        objective="Three debaters answer, hear what the others would do, and answer again. Do they become right, or "
        "only of one mind?",
        setup=f"{WORLD}; here after a fifth of its training. In a debater's training one half speaks first, the other "
        "hears two calls, each right in six cases of ten and else with a slip, and makes the right one. "
        f"{ERRANDS} errands of values that training leaves out, {DEBATERS} debaters, {ROUNDS} rounds after the first, "
        "temperature one. Agreement: share of pairs, with repetition, that say the same. Beside it debaters who copy "
        "one of the three at random, the vote of as many first speakers as the debate's tokens would pay for, and the "
        f"same debate at the end of training, at temperature {HOT:g}. Seeds 0, 1, 2.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {
                    "changed": f"{r} rounds of listening",
                    "right": _columns(right)[r],
                    "vote right": _columns(voted)[r],
                    "agree": _columns(agree)[r],
                    "agree, copying": copying[r],
                    "right, trained to the end": _columns(learnt)[r],
                }
                for r in range(ROUNDS + 1)
            ]
        ),
        figure=plots.debates(right, voted, agree, copying, same_tokens, figures / "debates.svg"),
        found="Answers are right in {first[mean]:.1%} of the cases before anyone has listened and in {last[mean]:.1%} "
        "after three rounds (gain {gain_of_right[mean]:+.3f}, sd {gain_of_right[sd]:.3f}); agreement goes from "
        "{agree_first[mean]:.1%} to {agree_last[mean]:.1%}. The vote moves by {gain_of_vote[mean]:+.3f} (sd "
        "{gain_of_vote[sd]:.3f}) to {debate_vote[mean]:.1%}; the vote of "
        "{attempts_for_the_same_tokens[mean]:.0f} first speakers, for the same tokens, is right in "
        "{vote_of_the_same_tokens[mean]:.1%}.",
        negative="Listening is not evidence: a debater that hears two right calls is right in "
        "{after_hearing[2_right][mean]:.1%}, one that hears one in {after_hearing[1_right][mean]:.1%}, and one that "
        "hears wrong ones alone in {after_hearing[0_right][mean]:.1%}, although it was trained to make the right call "
        "whatever it hears. At the end of its training three rounds change the share of right answers by "
        "{gain_of_learnt[mean]:+.3f} (sd {gain_of_learnt[sd]:.3f}).",
    )


def _right_by_round(team: Debate, asked: Sequence[TeamJob]) -> list[list[list[bool]]]:
    """(rounds, tasks, debaters): who said what is right."""
    return [
        [[calls == job.calls for calls in said] for said, job in zip(spoken, asked, strict=True)]
        for spoken in team.history
    ]


def _shares(rows: Sequence[Sequence[Sequence[bool]]]) -> list[float]:
    """Of right answers, by round."""
    return [statistics.fmean(value for row in of_round for value in row) for of_round in rows]


def _after_hearing(rows: Sequence[Sequence[Sequence[bool]]]) -> dict[int, list[bool]]:
    """Whether an answer is right, by how many of those that its debater had heard were, all rounds together."""
    found: dict[int, list[bool]] = {count: [] for count in range(DEBATERS)}
    for before, after in itertools.pairwise(rows):
        for heard, said in zip(before, after, strict=True):
            for own, value in zip(heard, said, strict=True):
                found[sum(heard) - own].append(value)
    return found


def _agreement(said: Sequence[tuple[str, ...]]) -> float:
    """Share of pairs, with repetition, that say the same."""
    return statistics.fmean(a == b for a in said for b in said)


# --- one budget for all -----------------------------------------------------------------------------------------------

SIZES, OF_EACH = (2, 3, 4), 24
BUDGETS = (1.5, 2.0, 3.0, 4.0, 6.0)  # times what one agent needs on average for as many errands
COMPARED = 4.0
LATE = 4  # of ten, counted from zero: single errands are right, long messages are not yet
JUDGED = 96  # calls of each kind, to measure a critic by


def systems(members: Crew, judge: Crew, tools: Toolbox) -> dict[str, Team]:
    """Every way to work that is compared, by name."""
    return {
        "alone": SelfConsistency(members, tools),
        "vote of 3": SelfConsistency(members, tools, 3),
        "vote of 5": SelfConsistency(members, tools, 5),
        "planner, workers": PlannerWorkers(members, tools),
        "planner, workers, critic": PlannerWorkers(members, tools, critic=judge, attempts=3),
        "supervisor": supervisor(members, tools),
    }


def equal_budgets(figures: Path) -> Record:
    """Every system under the same budgets of tokens, against one agent that spends all of it on attempts."""
    found: dict[str, list[dict[str, Any]]] = {}
    for seed in SEEDS:
        for size in SIZES:
            asked = jobs(size, OF_EACH, seed)
            members = crew(seed, LATE)
            for name, team in systems(members, critic(seed), world(asked)).items():
                for transcript, job in zip(work(team, asked), asked, strict=True):
                    found.setdefault(name, []).append(
                        {
                            "seed": seed,
                            "size": size,
                            "right": transcript.right(job.calls),
                            "tokens": transcript.budget.spent_tokens,
                            "labels": label(transcript, job.calls),
                        }
                    )
    unit = {size: statistics.fmean(row["tokens"] for row in found["alone"] if row["size"] == size) for size in SIZES}
    within = {
        name: {
            budget: [row["right"] and row["tokens"] <= budget * unit[row["size"]] for row in rows] for budget in BUDGETS
        }
        for name, rows in found.items()
    }
    # one agent with the whole budget: as many attempts as fit on average
    spends_all = {
        budget: within["vote of 5" if budget >= 6 else "vote of 3" if budget >= 4 else "alone"][budget]
        for budget in BUDGETS
    }
    teams = ("planner, workers", "planner, workers, critic", "supervisor")
    tests = {}
    for name in teams:
        pair = paired(within[name][COMPARED], spends_all[COMPARED])
        difference = paired_bootstrap(
            [float(value) for value in within[name][COMPARED]],
            [float(value) for value in spends_all[COMPARED]],
            2000,
            0,
        )
        tests[_name(name)] = {
            "only_team": pair.only_first,
            "only_agent": pair.only_second,
            "p_value": pair.p_value,
            **difference,
        }
    labels = {
        name: {
            rule: sum(rule in row["labels"] for row in rows) / max(1, sum(not row["right"] for row in rows))
            for rule in RULES
        }
        for name, rows in found.items()
    }
    by_seed = {
        name: [statistics.fmean(row["right"] for row in rows if row["seed"] == seed) for seed in SEEDS]
        for name, rows in found.items()
    }
    cost = {name: _relative_cost(rows, unit) for name, rows in found.items()}
    accepts: dict[str, list[float]] = {}
    for seed in SEEDS:
        for kind, share in _accepted(critic(seed), seed).items():
            accepts.setdefault(kind, []).append(share)
    metrics = {
        "right": {_name(name): spread(values) for name, values in by_seed.items()},
        "cost": {_name(name): value for name, value in cost.items()},
        "within": {
            _name(name): {_key("b", budget): statistics.fmean(values) for budget, values in of.items()}
            for name, of in within.items()
        },
        "agent_spends_all": {_key("b", budget): statistics.fmean(values) for budget, values in spends_all.items()},
        "against_the_agent": tests,
        "labels": {_name(name): {_name(rule): share for rule, share in of.items()} for name, of in labels.items()},
        "unlabelled": sum(not row["right"] and not row["labels"] for rows in found.values() for row in rows),
        "tasks": len(found["alone"]),
        "critic": {_name(kind): spread(shares) for kind, shares in accepts.items()},
        "critic_lifts_a_half_to": accepted_right(0.5, *(statistics.fmean(accepts[kind]) for kind in ("right", "slip"))),
    }
    return Record(
        objective="A team costs several times the tokens of one agent. Is it better than one that may spend as many?",
        setup=f"{WORLD}; here after half of its training. {OF_EACH} messages each of two, three and four "
        "errands, of values that training leaves out; right: exactly the calls asked for, in order. Tokens are read "
        "and written ones of all members. A budget is a multiple of what one agent needs on average for as many "
        "errands, and whoever passes it has failed. The agent with all of the budget votes among three attempts from "
        "four times on, among five from six times. McNemar's exact test and paired bootstrap at four times, all "
        "seeds together. Seeds 0, 1, 2.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {
                    "changed": name,
                    "right": statistics.fmean(by_seed[name]),
                    "tokens, agent = 1": cost[name],
                    **{f"within {budget:g}": statistics.fmean(values) for budget, values in within[name].items()},
                }
                for name in found
            ]
        ),
        figure=plots.equal_budgets(within, labels, figures / "equal_budgets.svg"),
        found="One agent alone does {right[alone][mean]:.1%} of the messages right, planner and workers "
        "{right[planner__workers][mean]:.1%} for {cost[planner__workers]:.1f} times its tokens, with a critic "
        "{right[planner__workers__critic][mean]:.1%} for {cost[planner__workers__critic]:.1f} times, a supervisor "
        "{right[supervisor][mean]:.1%} for {cost[supervisor]:.1f} times. Within four times the tokens of one agent: "
        "the agent that votes {agent_spends_all[b_4_0]:.1%}; planner and workers "
        "{against_the_agent[planner__workers][difference]:+.3f} beside it (p = "
        "{against_the_agent[planner__workers][p_value]:.2g}), with a critic "
        "{against_the_agent[planner__workers__critic][difference]:+.3f} (p = "
        "{against_the_agent[planner__workers__critic][p_value]:.2g}), the supervisor "
        "{against_the_agent[supervisor][difference]:+.3f} (p = {against_the_agent[supervisor][p_value]:.2g}).",
        negative="The critic lets through {critic[right][mean]:.1%} of the right calls, {critic[slip][mean]:.1%} of "
        "those with a slip and {critic[other][mean]:.1%} of those that belong to another errand; of calls of which "
        "half have a slip, {critic_lifts_a_half_to:.1%} of those let through are right. The p-values take the tasks "
        "of three seeds for independent, though a seed shares its model. Every label of a failure is a rule about "
        "calls, and where the message asks for calls alone there is little else that can go wrong.",
    )


def _accepted(judge: Crew, seed: int) -> dict[str, float]:
    """Shares of right calls, calls with a slip and calls that were right for another errand that the critic accepts."""
    asked, rng = jobs(1, JUDGED, seed), random.Random(f"{seed} critic")
    shown = {
        "right": [job.calls[0] for job in asked],
        "slip": [small_team.wrong_call(job.errands[0], rng) for job in asked],
        "other": [another.calls[0] for another in (*asked[1:], asked[0])],
    }
    found = {}
    for kind, calls in shown.items():
        requests = [
            (Transcript(job.message, Budget(UNLIMITED, UNLIMITED)), job.message, says(CHECK, call))
            for job, call in zip(asked, calls, strict=True)
        ]
        found[kind] = statistics.fmean(trace.answer == YES for trace in judge.ask("critic", requests))
    return found


def _name(text: str) -> str:
    """Of a system or a rule in a record."""
    return text.replace(", ", "__").replace(" ", "_")


def _relative_cost(rows: Sequence[Mapping[str, Any]], unit: Mapping[int, float]) -> float:
    return statistics.fmean(row["tokens"] / unit[row["size"]] for row in rows)


# --- longer than what was learnt --------------------------------------------------------------------------------------


def longer_tasks(figures: Path) -> Record:
    """Share of messages done right against the number of errands in them, up to half as many again as in training."""
    lengths = range(1, small_team.LONGEST + 1)
    names = ("alone", "planner, workers", "supervisor")
    shares: dict[str, list[list[float]]] = {name: [] for name in names}
    tokens: dict[str, list[list[float]]] = {name: [] for name in names}
    planned: list[list[float]] = []
    for seed in SEEDS:
        rows: dict[str, list[float]] = {name: [] for name in names}
        costs: dict[str, list[float]] = {name: [] for name in names}
        plans = []
        for length in lengths:
            asked = jobs(length, OF_EACH, seed)
            members = crew(seed)
            teams: dict[str, Team] = {
                "alone": SelfConsistency(members, world(asked)),
                "planner, workers": PlannerWorkers(members, world(asked)),
                "supervisor": supervisor(members, world(asked)),
            }
            for name in names:
                transcripts = work(teams[name], asked)
                rows[name].append(statistics.fmean(rights(transcripts, asked)))
                costs[name].append(statistics.fmean(one.budget.spent_tokens for one in transcripts))
                if name == "planner, workers":
                    plans.append(
                        statistics.fmean(
                            sum(turn.who == "worker" for turn in one.turns) == length for one in transcripts
                        )
                    )
        planned.append(plans)
        for name in names:
            shares[name].append(rows[name])
            tokens[name].append(costs[name])
    means = {name: _columns(runs) for name, runs in shares.items()}
    costs_mean = {name: _columns(runs) for name, runs in tokens.items()}
    one = means["alone"][0]
    metrics = {
        "right": {_name(name): values for name, values in means.items()},
        "tokens": {_name(name): values for name, values in costs_mean.items()},
        "planned": _columns(planned),
        "powers": [one**length for length in lengths],
        "at_four": {_name(name): spread([row[3] for row in runs]) for name, runs in shares.items()},
        "at_six": {_name(name): spread([row[5] for row in runs]) for name, runs in shares.items()},
        "planned_at_six": spread([row[5] for row in planned]),
        "tokens_at_six": {_name(name): values[5] / costs_mean["alone"][5] for name, values in costs_mean.items()},
        "tokens_at_one": {_name(name): values[0] / costs_mean["alone"][0] for name, values in costs_mean.items()},
    }
    return Record(
        objective="Training held messages of up to four errands. Who copes with five and six, and what does it cost?",
        setup=f"{WORLD}, at the end of its training. {OF_EACH} messages of each length, of values that training "
        "leaves out; right: exactly the calls asked for, in order. Tokens are read and written ones. Planned: the "
        "planner found as many errands as there are. Seeds 0, 1, 2.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {
                    "changed": f"{length} errands",
                    **{name: values[length - 1] for name, values in means.items()},
                    "planned": _columns(planned)[length - 1],
                    **{f"tokens, {name}": values[length - 1] for name, values in costs_mean.items()},
                }
                for length in lengths
            ]
        ),
        figure=plots.longer_tasks(list(lengths), shares, costs_mean, figures / "longer_tasks.svg"),
        found="With four errands one agent does {at_four[alone][mean]:.1%} right, planner and workers "
        "{at_four[planner__workers][mean]:.1%}, the supervisor {at_four[supervisor][mean]:.1%}; with six, more than "
        "training has shown, {at_six[alone][mean]:.1%}, {at_six[planner__workers][mean]:.1%} and "
        "{at_six[supervisor][mean]:.1%}. The planner finds six errands in {planned_at_six[mean]:.1%} of the messages "
        "that hold six. For one errand planner and worker read and write {tokens_at_one[planner__workers]:.2f} times "
        "the tokens of one agent, for six {tokens_at_six[planner__workers]:.2f} times.",
        negative="All systems are the same weights, which have learnt to plan as well as to work: nothing here says "
        "that a model that was not taught the role could play it.",
    )


def _columns(runs: Sequence[Sequence[float]]) -> list[float]:
    return [statistics.fmean(column) for column in zip(*runs, strict=True)]


# --- faults -----------------------------------------------------------------------------------------------------------

RATES = (0.0, 0.1, 0.2, 0.4)


def injected_faults(figures: Path) -> Record:
    """Share of messages done right while tools fail at random: once, again from the start, again where it failed."""
    names = ("once", "all of it again", "the errand again")
    shares: dict[str, dict[float, list[float]]] = {name: {rate: [] for rate in RATES} for name in names}
    tokens: dict[str, dict[float, list[float]]] = {name: {rate: [] for rate in RATES} for name in names}
    persistent: dict[str, list[float]] = {name: [] for name in names}
    for seed in SEEDS:
        asked = jobs(3, 2 * OF_EACH, seed)
        for rate in RATES:
            for name in names:
                transcripts = work(_under_faults(name, seed, FaultyToolbox(world(asked), rate, seed)), asked)
                shares[name][rate].append(statistics.fmean(rights(transcripts, asked)))
                tokens[name][rate].append(statistics.fmean(one.budget.spent_tokens for one in transcripts))
        for name in names:
            tools = FaultyToolbox(world(asked), 0.2, seed, persistent=True)
            persistent[name].append(statistics.fmean(rights(work(_under_faults(name, seed, tools), asked), asked)))
    metrics = {
        "right": {
            _name(name): {_key("f", rate): spread(values) for rate, values in of.items()} for name, of in shares.items()
        },
        "tokens": {
            _name(name): {_key("f", rate): statistics.fmean(values) for rate, values in of.items()}
            for name, of in tokens.items()
        },
        "persistent": {_name(name): spread(values) for name, values in persistent.items()},
        "three_calls_survive": {_key("f", rate): (1 - rate) ** 3 for rate in RATES},
    }
    return Record(
        objective="A tool fails in one call of five. What is left of an agent's work, and of a team's?",
        setup=f"{WORLD}, at the end of its training. {2 * OF_EACH} messages of three errands; every call fails with "
        "the given probability, by itself. One agent once; one agent that begins again, up to three times, where a "
        "call has failed; planner and workers, where the errand whose call failed is done again, up to three times. "
        "Right: the calls asked for, all of which have worked. Persistent: a call that fails does so every time. "
        "Seeds 0, 1, 2.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {
                    "changed": f"{rate:.0%} of the calls fail",
                    **{name: statistics.fmean(of[rate]) for name, of in shares.items()},
                    **{f"tokens, {name}": statistics.fmean(of[rate]) for name, of in tokens.items()},
                }
                for rate in RATES
            ]
        ),
        figure=plots.injected_faults(shares, tokens, figures / "injected_faults.svg"),
        found="With one call of five failing, one agent does {right[once][f_0_2][mean]:.1%} right, one that begins "
        "again {right[all_of_it_again][f_0_2][mean]:.1%} and a team that does the errand again "
        "{right[the_errand_again][f_0_2][mean]:.1%}; with two of five {right[once][f_0_4][mean]:.1%}, "
        "{right[all_of_it_again][f_0_4][mean]:.1%} and {right[the_errand_again][f_0_4][mean]:.1%}.",
        negative="Against faults that stay nothing helps but another way to do it, which nobody here knows: "
        "{persistent[once][mean]:.1%}, {persistent[all_of_it_again][mean]:.1%} and "
        "{persistent[the_errand_again][mean]:.1%} where one call in five never works.",
    )


def _under_faults(name: str, seed: int, tools: Toolbox) -> Team:
    if name == "the errand again":
        return PlannerWorkers(crew(seed), tools, attempts=3)
    return PlannerWorkers(crew(seed), tools, plans=False, attempts=1 if name == "once" else 3)


# --- letters that get lost --------------------------------------------------------------------------------------------

RUNS, PAYMENTS, WORKERS = 400, 6, 2
LOSSES = (0.0, 0.1, 0.2, 0.3, 0.4)
STORM = Weather(lost=0.2, again=0.2, crash=0.05)


class CountsLetters(Coordinator):
    """A coordinator that counts answers instead of asking what they are about."""

    def receive(self, letter: Letter) -> list[Letter]:
        """Every answer ticks off the next errand that is open."""
        for one in self.progress:
            if not one.accepted:
                one.result, one.accepted = letter.text, True
                break
        return []


class AsksOnce(Coordinator):
    """A coordinator that waits for what it has asked for."""

    asked = False

    def silence(self) -> list[Letter]:
        """Nothing, from the second time on."""
        if self.asked:
            return []
        self.asked = True
        return super().silence()


class Forgetful(Worker):
    """A worker without a ledger."""

    def receive(self, letter: Letter) -> list[Letter]:
        """Acts whenever it is asked."""
        self.ledger = Ledger()
        return super().receive(letter)


VARIANTS: dict[str, tuple[type[Coordinator], type[Worker]]] = {
    "as built": (Coordinator, Worker),
    "counts letters": (CountsLetters, Worker),
    "asks once": (AsksOnce, Worker),
    "no ledger": (Coordinator, Forgetful),
}


def lost_letters(figures: Path) -> Record:
    """What random orders, losses, repetitions and crashes do to the protocol, and to ones that lack a part of it."""
    faults: dict[str, dict[str, list[float]]] = {}
    for name, kinds in VARIANTS.items():
        found = faults.setdefault(name, {"stuck": [], "wrong results": [], "paid twice": []})
        for seed in SEEDS:
            ends = [_payments(kinds, STORM, RUNS * seed + number) for number in range(RUNS)]
            found["stuck"].append(statistics.fmean(not outcome.done for outcome, _ in ends))
            found["wrong results"].append(
                statistics.fmean(outcome.done and outcome.results != _RESULTS for outcome, _ in ends)
            )
            found["paid twice"].append(statistics.fmean(len(paid) > len(set(paid)) for _, paid in ends))
    asked = {
        lost: [
            statistics.fmean(
                _payments(VARIANTS["as built"], Weather(lost), RUNS * seed + number)[0].rounds for number in range(RUNS)
            )
            for seed in SEEDS
        ]
        for lost in LOSSES
    }
    predicted = {lost: expected_rounds(PAYMENTS, lost) for lost in LOSSES}
    metrics = {
        "variants": {
            _name(name): {_name(fault): spread(shares) for fault, shares in of.items()} for name, of in faults.items()
        },
        "rounds": {
            _key("l", lost): {"measured": spread(values), "predicted": predicted[lost]}
            for lost, values in asked.items()
        },
        "largest_error": max(abs(statistics.fmean(asked[lost]) / predicted[lost] - 1) for lost in LOSSES),
        "schedules": RUNS * len(SEEDS),
    }
    return Record(
        objective="Letters get lost, come twice and overtake each other, and workers crash. Which part of the "
        "protocol keeps which promise?",
        setup=f"A coordinator has {PAYMENTS} payments made by {WORKERS} workers; {RUNS} schedules for each of the "
        "seeds 0, 1, 2. In the storm one letter in five is lost, one in five arrives once more, and before one "
        "arrival in twenty somebody crashes. Rounds: how often the coordinator asks, where letters are only lost and "
        "overtake each other.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {"changed": name, **{fault: statistics.fmean(shares) for fault, shares in of.items()}}
                for name, of in faults.items()
            ]
        ),
        figure=plots.lost_letters(faults, asked, predicted, figures / "lost_letters.svg"),
        found="As built, {variants[as_built][stuck][mean]:.0%} of the schedules end unfinished, "
        "{variants[as_built][wrong_results][mean]:.0%} with wrong results and "
        "{variants[as_built][paid_twice][mean]:.0%} with a payment made twice. A coordinator that counts letters is "
        "wrong in {variants[counts_letters][wrong_results][mean]:.1%}, one that asks once is stuck in "
        "{variants[asks_once][stuck][mean]:.1%}, and without a ledger {variants[no_ledger][paid_twice][mean]:.1%} pay "
        "twice. With two letters of five lost the coordinator asks {rounds[l_0_4][measured][mean]:.2f} times, "
        "predicted {rounds[l_0_4][predicted]:.2f}.",
        negative="The ledger is written in one step with the payment. Where the payment is somebody else's, that step "
        "is not to be had, and only a receiver that knows the number of the order can keep it from being carried out "
        "twice.",
    )


_RESULTS = tuple(f"paid {errand}" for errand in range(PAYMENTS))


def _payments(kinds: tuple[type[Coordinator], type[Worker]], weather: Weather, seed: int) -> tuple[Any, list[str]]:
    paid: list[str] = []

    def pay(order: str, attempt: int) -> str:
        paid.append(order)
        return f"paid {order}"

    names = [f"worker {i}" for i in range(WORKERS)]
    workers: list[Agent] = [kinds[1](name, pay) for name in names]
    coordinator = kinds[0]([str(errand) for errand in range(PAYMENTS)], names)
    return run(coordinator, workers, weather, seed), paid
