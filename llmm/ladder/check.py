"""The check of a milestone: every criterion of its spec, and what the ladder asks of all.

The machine's part takes most of a minute and depends on code and records only; the written part is read in a moment. So
a check that runs because a sentence was changed can take the machine's part over from the last one (`memo`).
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmm.errors import UserError
from llmm.files import read_json, sha256_of, write_json
from llmm.ladder import workers
from llmm.ladder.criteria import Result, Subject, machine_results, record_result
from llmm.ladder.demands import demand
from llmm.ladder.experiments import run_some
from llmm.ladder.journal import journal_faults
from llmm.ladder.milestones import Milestone
from llmm.ladder.mutants import FEWEST_MUTANTS, as_json, hunt, load_mutants
from llmm.ladder.records import read_records, timings_path
from llmm.ladder.rules import record_faults
from llmm.ladder.sources import experiment_inputs, machine_inputs
from llmm.ladder.written import paper_faults, readme_faults
from llmm.paths import WORK

TESTS_LIMIT = 300  # seconds


@dataclass(frozen=True)
class Examination:
    """All criteria of a milestone as measured, with the fate of each planted bug."""

    results: list[Result]
    mutants: list[dict[str, Any]]

    @property
    def failed(self) -> list[Result]:
        """The criteria that do not hold."""
        return [result for result in self.results if not result.passed]


def examine(milestone: Milestone, memo: bool = False) -> Examination:
    """Check the reference implementation of a milestone.

    With `memo` the machine's part is taken from the last check, if it passed and no file that decides it has changed.
    """
    remembered = _recall(milestone) if memo else None
    machine = remembered or _machine(milestone)
    if memo and not remembered and not machine.failed:
        _remember(milestone, machine)
    written = [
        demand("readme", readme_faults(milestone)),
        demand("journal", journal_faults(milestone, milestone.earlier)),
        demand("papers", paper_faults(milestone)),
    ]
    return Examination([*machine.results, *written], machine.mutants)


def _machine(milestone: Milestone) -> Examination:
    spec = milestone.spec
    workers.start_server(spec.preload)
    measured = {result.id: result for result in machine_results(Subject(milestone, {}), spec.criteria)}
    experiments, faults = _experiments(milestone)
    for criterion in spec.criteria:
        if criterion.record:
            measured[criterion.id] = record_result(criterion, experiments)
    own = [measured[criterion.id] for criterion in spec.criteria]
    tests = demand("tests", _test_faults(spec.tests))
    bugs, mutants = _planted_bugs(milestone)
    records = demand("records", faults)
    return Examination([*own, tests, bugs, records, _replay(milestone, experiments)], mutants)


def _experiments(milestone: Milestone) -> tuple[Mapping[str, Any], list[str]]:
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


def _planted_bugs(milestone: Milestone) -> tuple[Result, list[dict[str, Any]]]:
    try:
        verdicts = hunt(milestone, load_mutants(milestone))
    except UserError as error:
        return demand("planted-bugs", [str(error)]), []
    faults = [verdict.fault for verdict in verdicts if verdict.fault]
    if len(verdicts) < FEWEST_MUTANTS:
        faults.append(f"{len(verdicts)} planted bugs, expected at least {FEWEST_MUTANTS}")
    return demand("planted-bugs", faults), [as_json(verdict) for verdict in verdicts]


def _test_faults(tests: list[str]) -> list[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, **workers.ONE_THREAD}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TESTS_LIMIT, env=environment)
    except subprocess.TimeoutExpired:
        return [f"still running after {TESTS_LIMIT} s"]
    if not done.returncode:
        return []
    lines = (done.stdout + done.stderr).strip().splitlines() or ["pytest said nothing"]
    return [line for line in lines if line.startswith(("FAILED", "ERROR"))] or lines[-1:]


def _replay(milestone: Milestone, experiments: Mapping[str, Any]) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        try:
            again = run_some(milestone, milestone.spec.replay, Path(folder))
        except UserError as error:
            return demand("replay", [str(error)])
    pairs = [(name, record.stored(), experiments.get(name, {})) for name, (record, _) in again.items()]
    return demand("replay", [f"{name}: {found}" for name, now, then in pairs if (found := _difference(now, then))])


def _difference(now: Mapping[str, Any], then: Mapping[str, Any]) -> str:
    """What came out otherwise, "" if nothing did. Both as JSON keeps them: a tuple is a list there."""
    metrics, recorded = json.loads(json.dumps(now["metrics"])), then.get("metrics", {})
    for key in metrics.keys() | recorded.keys():
        if metrics.get(key) != recorded.get(key):
            return f"{key} came out as {metrics.get(key)}, the record says {recorded.get(key)}"
    return "" if json.loads(json.dumps(now["ablation"])) == then.get("ablation") else "its ablation differs"


def _memo_path(milestone: Milestone) -> Path:
    key = sha256_of(json.dumps([sys.version, *machine_inputs(milestone).items()]))
    return WORK / "ladder" / f"{milestone.id}-{key[:32]}.json"


def _recall(milestone: Milestone) -> Examination | None:
    path = _memo_path(milestone)
    if not path.exists():
        return None
    content = read_json(path)
    return Examination([Result(**result) for result in content["results"]], content["mutants"])


def _remember(milestone: Milestone, machine: Examination) -> None:
    path = _memo_path(milestone)
    for old in path.parent.glob(f"{milestone.id}-*.json"):
        old.unlink()
    write_json(path, asdict(machine))
