"""The agent's evaluation: six suites of tasks, four systems, strict matches, an interval with every rate."""

import functools
import json
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agents.tool_agent.answers import Kind
from agents.tool_agent.baselines import RegexRouter, no_tools, random_weights
from agents.tool_agent.best_call import BEAMS
from agents.tool_agent.figures import draw_rates
from agents.tool_agent.loop import Limits, run_tasks
from agents.tool_agent.phrasings.tables import Split
from agents.tool_agent.policy import ModelPolicy, Policy
from agents.tool_agent.tasks import Call, Maker, Task, normal_space
from agents.tool_agent.tools import Toolbox
from agents.tool_agent.trace import Trace
from agents.tool_agent.values import Values, collect_values
from llmm import paths
from llmm.corpus import load_documents, load_objects
from llmm.errors import UserError
from llmm.evaluation import Batch, Report, Row, batches_of
from llmm.params import Params
from llmm.statistics import paired_bootstrap, wilson_interval
from llmm.training.lora.adapter import load_tuned
from llmm.training.lora.spaced import load_codec

HAND_WRITTEN = paths.EVALS / "agent_tasks.jsonl"
BATCH = 50
SUITES = ("new_values", "new_phrasings", "no_tool", "multi_step", "descriptions", "hand_written")
SYSTEMS = ("agent", "regex_router", "no_tools", "random_weights")
MEASURES = ("tool", "exact", "executed", "answer")
_DESCRIBED = 20  # objects at least, to draw "descriptions" from
_NOISE = Limits(steps=1, turn_tokens=64, seconds=600)  # random weights need not write much to be seen to know nothing
_KINDS = ("calculator", "python", "search_docs", "signature")


def agent_evaluation(params: Params) -> "AgentEvaluation":
    """The evaluation of the agent under `data/`, for `pipelines.flows`."""
    return AgentEvaluation(params)


@dataclass(frozen=True)
class AgentEvaluation:
    """See llmm.evaluation.Evaluation."""

    params: Params
    name: str = "agent_eval"

    def batches(self) -> list[Batch]:
        """All suites, `agent_eval.tasks` tasks each; the hand-written one has as many as there are, and "descriptions",
        what objects do, none where hardly any object of the test split says it."""
        sizes = dict.fromkeys(SUITES, self.params.agent_eval.tasks)
        sizes["hand_written"] = len(hand_written())
        if sum(item.split == "test" and bool(item.summary) for item in load_objects(paths.CORPUS)) < _DESCRIBED:
            sizes["descriptions"] = 0
        return [batch for suite in SUITES for batch in batches_of(suite, sizes[suite], BATCH)]

    def run(self, batch: Batch) -> list[Row]:
        """One row a task, with what every system did."""
        world = _world(self.params.seed)
        tasks = [world.task(batch.suite, number) for number in range(batch.start, batch.stop)]
        limits = Limits(steps=self.params.agent_eval.max_steps, seconds=600)
        expected = [task.expected_answer(world.toolbox) for task in tasks]
        rows: list[Row] = [
            {
                "id": f"{batch.suite}-{batch.start + offset:04d}",
                "suite": batch.suite,
                "kind": task.calls[0].kind if task.calls else "no_tool",
                "task": task.prompt,
                "expected_calls": [call.text for call in task.calls],
                "expected_answer": answer,
                "systems": {},
            }
            for offset, (task, answer) in enumerate(zip(tasks, expected, strict=True))
        ]
        for policy in world.policies:
            budget = _NOISE if policy.name == "random_weights" else limits
            traces = run_tasks([(task.prompt, task.history) for task in tasks], policy, world.toolbox, budget)
            for row, task, answer, trace in zip(rows, tasks, expected, traces, strict=True):
                row["systems"][policy.name] = measure(task, answer, trace)
        return rows

    def report(self, rows: list[Row], folder: Path) -> Report:
        """Rates with Wilson intervals by suite and system, the agent against the router in pairs, and a figure."""
        settings = self.params.agent_eval
        suites = [suite for suite in SUITES if any(row["suite"] == suite for row in rows)]
        metrics: dict[str, dict[str, object]] = {}
        table: list[Row] = []
        for suite in suites:
            found = [row for row in rows if row["suite"] == suite]
            metrics[suite] = {"tasks": len(found)}
            for system in SYSTEMS:
                rates = {measure: _rate([row["systems"][system][measure] for row in found]) for measure in MEASURES}
                tokens = sum(row["systems"][system]["tokens"] for row in found) / len(found)
                metrics[suite][system] = {**rates, "tokens": round(tokens, 1)}
                table.append({"suite": suite, "system": system, **{m: _shown(rates[m]) for m in MEASURES}})
            exact = {s: [float(row["systems"][s]["exact"]) for row in found] for s in ("agent", "regex_router")}
            paired = paired_bootstrap(
                exact["agent"], exact["regex_router"], settings.bootstrap_samples, self.params.seed
            )
            metrics[suite]["agent_minus_regex_router_exact"] = {k: round(v, 4) for k, v in paired.items()}
        by_kind = _by_kind(rows)
        figure = draw_rates(metrics, SYSTEMS, folder / "agent_rates.svg")
        return Report(
            {"suites": metrics, "exact_by_kind": by_kind},
            {"rates": table, "failures": _failures(rows)},
            _markdown(metrics, suites),
            [figure],
        )


def measure(task: Task, expected_answer: str, trace: Trace) -> Row:
    """Strict figures of one trace: calls must be equal in number, order and every character of every argument."""
    called = [step for step in trace.steps if step.role == "tool_call"]
    return {
        "tool": [step.tool for step in called] == [call.tool for call in task.calls],
        "exact": trace.calls == [call.text for call in task.calls],
        "executed": trace.stop == "answer" and all(step.ok for step in called),
        "answer": normal_space(trace.answer) == normal_space(expected_answer),
        "stop": trace.stop,
        "calls": trace.calls,
        "said": trace.answer,
        "tokens": trace.tokens,
    }


@functools.lru_cache(maxsize=1)
def hand_written() -> list[Task]:
    """The tasks in data/evals/agent_tasks.jsonl. Raises UserError, naming the line, where one is malformed."""
    tasks = []
    for number, line in enumerate(HAND_WRITTEN.read_text(encoding="utf-8").splitlines(), 1):
        try:
            record = json.loads(line)
            calls = tuple(Call(call["kind"], call["arguments"]) for call in record["calls"])
            tasks.append(Task(record["prompt"], calls, record.get("answer", "")))
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise UserError(
                f"{HAND_WRITTEN}:{number}: expected prompt, calls with kind and arguments ({error})"
            ) from None
    return tasks


@dataclass(frozen=True)
class _World:
    """What the tasks are made of and carried out with."""

    seed: int
    values: Values
    toolbox: Toolbox
    policies: Sequence[Policy]

    def task(self, suite: str, number: int) -> Task:
        """Task `number` of `suite`, whichever batch it is in."""
        rng = random.Random(f"{self.seed} {suite} {number}")
        if suite == "hand_written":
            return hand_written()[number]
        if suite == "new_values":
            return getattr(self._maker("TRAIN"), _KINDS[number % 4])(rng)
        if suite == "new_phrasings":
            return getattr(self._maker("TEST"), _KINDS[number % 4])(rng)
        if suite == "no_tool":
            return self._maker("TEST").chat(rng)
        if suite == "descriptions":
            return self._maker("TEST" if number % 2 else "TRAIN").described(rng, self.toolbox)
        maker = self._maker("TRAIN")
        return maker.two_in_one(rng) if number % 2 else maker.follow_up(rng, self.toolbox)

    def _maker(self, phrasings: Split) -> Maker:
        return Maker(phrasings, self.values, "TEST")


_LOCK = threading.Lock()  # lru_cache alone would let two threads load the same model


def _world(seed: int) -> _World:
    with _LOCK:
        return _load_world(seed)


@functools.lru_cache(maxsize=1)
def _load_world(seed: int) -> _World:
    from agents.tool_agent.agent import load_toolbox

    model, _ = load_tuned(paths.ADAPTER, paths.MODEL, paths.TOKENIZER)
    codec = load_codec(paths.TOKENIZER)
    objects = load_objects(paths.CORPUS)
    toolbox = load_toolbox()
    toolbox.call(Call("python", {"code": "1"}).text)  # the sandbox is started now, and once
    tools = list(toolbox.tools.values())
    values = collect_values(
        load_documents(paths.CORPUS, "test"), [item for item in objects if item.split == "test"], objects
    )
    policies: list[Policy] = [
        ModelPolicy(model, codec, tools, "agent", beams=BEAMS),
        RegexRouter(),
        no_tools(model, codec),
        random_weights(model.config, codec, tools, seed),
    ]
    return _World(seed, values, toolbox, policies)


def _rate(values: Sequence[bool]) -> dict[str, float]:
    low, high = wilson_interval(sum(values), len(values))
    return {"rate": round(sum(values) / len(values), 4), "low": round(low, 4), "high": round(high, 4)}


def _shown(rate: dict[str, float]) -> str:
    return f"{rate['rate']:.1%} [{rate['low']:.1%}, {rate['high']:.1%}]"


def _by_kind(rows: list[Row]) -> dict[str, dict[str, float]]:
    """The agent's exact calls by suite and kind of task."""
    found: dict[str, dict[Kind, list[bool]]] = {}
    for row in rows:
        found.setdefault(row["suite"], {}).setdefault(row["kind"], []).append(row["systems"]["agent"]["exact"])
    return {
        suite: {kind: round(sum(values) / len(values), 4) for kind, values in sorted(kinds.items())}
        for suite, kinds in found.items()
    }


def _failures(rows: list[Row]) -> list[Row]:
    """Up to forty tasks that the agent did wrong, for reading."""
    wrong = [row for row in rows if not row["systems"]["agent"]["exact"] or not row["systems"]["agent"]["answer"]]
    return [
        {
            "suite": row["suite"],
            "task": row["task"],
            "expected": " ".join(row["expected_calls"]) or row["expected_answer"],
            "got": " ".join(row["systems"]["agent"]["calls"]) or row["systems"]["agent"]["said"],
        }
        for row in wrong[:40]
    ]


def _markdown(metrics: dict[str, dict[str, object]], suites: Sequence[str]) -> str:
    lines = ["| suite | tasks | " + " | ".join(SYSTEMS) + " |", "|---|---" + "|---" * len(SYSTEMS) + "|"]
    for suite in suites:
        exact = [metrics[suite][system]["exact"] for system in SYSTEMS]  # type: ignore[index]
        lines.append(f"| {suite} | {metrics[suite]['tasks']} | " + " | ".join(_shown(rate) for rate in exact) + " |")
    return "Exact calls (tool and every argument), with 95% Wilson intervals:\n\n" + "\n".join(lines) + "\n"
