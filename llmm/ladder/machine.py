"""The machine's part of a check: criteria measured on code, tests, planted bugs, records, replay."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmm.errors import UserError
from llmm.ladder import workers
from llmm.ladder.criteria import Result, Subject, machine_results, record_result
from llmm.ladder.demands import demand
from llmm.ladder.experiments import LIMITS, run_some
from llmm.ladder.milestones import Milestone
from llmm.ladder.mutants import FEWEST_MUTANTS, as_json, hunt, load_mutants
from llmm.ladder.records import read_records, timings_path
from llmm.ladder.rules import record_faults
from llmm.ladder.sources import experiment_inputs

TESTS_LIMIT = 300  # seconds
ROUNDING = 1e-12  # what is smaller is the rounding of float64, which no two kinds of processor share


@dataclass(frozen=True)
class Examination:
    """All criteria of a milestone as measured, with the fate of each planted bug."""

    results: list[Result]
    mutants: list[dict[str, Any]]

    @property
    def failed(self) -> list[Result]:
        """The criteria that do not hold."""
        return [result for result in self.results if not result.passed]


def examine_by_machine(milestone: Milestone) -> Examination:
    """All that takes no reading: the criteria of the spec, then tests, planted bugs, records and replay."""
    spec = milestone.spec
    workers.start_server(spec.preload)
    measured = {result.id: result for result in machine_results(Subject(milestone, {}), spec.criteria)}
    experiments, faults = stored_experiments(milestone)
    for criterion in spec.criteria:
        if criterion.record:
            measured[criterion.id] = record_result(criterion, experiments)
    own = [measured[criterion.id] for criterion in spec.criteria]
    bugs, mutants = planted_bugs(milestone)
    records = demand("records", faults)
    last_parts = (lambda: tested(milestone), lambda: replay(milestone, experiments))  # one core each
    tests, again = workers.in_parallel(lambda part: part(), last_parts)
    return Examination([*own, tests, bugs, records, again], mutants)


def stored_experiments(milestone: Milestone) -> tuple[Mapping[str, Any], list[str]]:
    """The stored records, and what is wrong with them."""
    try:
        stored = read_records(milestone.id)
    except UserError as error:
        return {}, [str(error)]
    before, now = stored.get("inputs", {}), experiment_inputs(milestone)
    changed = [file for file in sorted(before.keys() | now.keys()) if before.get(file) != now.get(file)]
    faults = [f"{changed[0]} has changed since the experiments were run: run them again"] if changed else []
    if not timings_path(milestone.id).exists():
        faults.append(f"{timings_path(milestone.id)} is not there: run the experiments")
    return stored["experiments"], faults + record_faults(milestone, stored["experiments"])


def planted_bugs(milestone: Milestone) -> tuple[Result, list[dict[str, Any]]]:
    """Whether every planted bug is caught as it should be, and what became of each."""
    try:
        verdicts = hunt(milestone, load_mutants(milestone))
    except UserError as error:
        return demand("planted-bugs", [str(error)]), []
    faults = [verdict.fault for verdict in verdicts if verdict.fault]
    if len(verdicts) < FEWEST_MUTANTS:
        faults.append(f"{len(verdicts)} planted bugs, expected at least {FEWEST_MUTANTS}")
    return demand("planted-bugs", faults), [as_json(verdict) for verdict in verdicts]


def tested(milestone: Milestone) -> Result:
    """Whether the milestone's tests pass."""
    limits = workers.Limits(TESTS_LIMIT + 10, LIMITS.mebibytes)  # its own limit of time comes first: that says more
    outcome = workers.run(workers.Call("llmm.ladder.machine:failing_tests", (milestone.spec.tests,), limits=limits))
    return demand("tests", [outcome.fault] if outcome.fault else outcome.value)


def failing_tests(tests: Sequence[str]) -> list[str]:
    """In a worker, which takes pytest with it when it is ended: what pytest says of the tests that fail."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "pytest_timeout", *tests]
    # plugins that other packages bring along take seconds to load, and no test of a milestone needs them
    environment = {**os.environ, **workers.ONE_THREAD, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TESTS_LIMIT, env=environment)
    except subprocess.TimeoutExpired:
        return [f"still running after {TESTS_LIMIT} s"]
    if not done.returncode:
        return []
    lines = (done.stdout + done.stderr).strip().splitlines() or ["pytest said nothing"]
    return [line for line in lines if line.startswith(("FAILED", "ERROR"))] or lines[-1:]


def replay(milestone: Milestone, experiments: Mapping[str, Any]) -> Result:
    """Whether the cheap experiments, run again, give the metrics of the record."""
    if missing := [name for name in milestone.spec.replay if name not in experiments]:
        return demand("replay", [f"{missing[0]} has no record to be compared with: run the experiments"])
    with tempfile.TemporaryDirectory() as folder:
        try:
            again = run_some(milestone, milestone.spec.replay, Path(folder))
        except UserError as error:
            return demand("replay", [str(error)])
    pairs = [(name, record.stored(), experiments[name]) for name, (record, _) in again.items()]
    return demand("replay", [f"{name}: {found}" for name, now, then in pairs if (found := _difference(now, then))])


def _difference(now: Mapping[str, Any], then: Mapping[str, Any]) -> str:
    """What came out otherwise, "" if nothing did. Both as JSON keeps them: a tuple is a list there."""
    metrics, recorded = _stored(now["metrics"]), _stored(then.get("metrics", {}))
    for key in metrics.keys() | recorded.keys():
        if metrics.get(key) != recorded.get(key):
            return f"{key} came out as {now['metrics'].get(key)}, the record says {then.get('metrics', {}).get(key)}"
    return "" if _stored(now["ablation"]) == _stored(then.get("ablation")) else "its ablation differs"


def _stored(value: Any) -> Any:
    """`value` as JSON keeps it; what is smaller than ROUNDING counts as zero."""

    def number(text: str) -> float:
        return 0.0 if abs(float(text)) < ROUNDING else float(text)

    return json.loads(json.dumps(value), parse_float=number)
