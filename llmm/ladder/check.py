"""The check of a milestone: every criterion, those of its spec and those that the ladder asks of all."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmm.errors import UserError
from llmm.ladder import workers
from llmm.ladder.criteria import Result, Subject, machine_results, record_result
from llmm.ladder.experiments import run_some
from llmm.ladder.milestones import Milestone
from llmm.ladder.mutants import as_json, hunt, load_mutants
from llmm.ladder.records import read_records, timings_path
from llmm.ladder.rules import record_faults
from llmm.ladder.sources import experiment_inputs

FEWEST_MUTANTS = 8
TESTS_LIMIT = 300  # seconds


@dataclass(frozen=True)
class Examination:
    """All criteria of a milestone as measured, with the fate of each planted bug."""

    results: list[Result]
    mutants: list[dict[str, Any]]

    @property
    def passed(self) -> bool:
        """Whether every criterion holds."""
        return all(result.passed for result in self.results)


def examine(milestone: Milestone) -> Examination:
    """Check the reference implementation of a milestone."""
    spec = milestone.spec
    workers.start_server(spec.preload)
    measured = {result.id: result for result in machine_results(Subject(milestone, {}), spec.criteria)}
    experiments, missing = _experiments(milestone)
    for criterion in spec.criteria:
        if criterion.record:
            measured[criterion.id] = record_result(criterion, experiments)
    bugs, fates = _planted_bugs(milestone)
    own = [measured[criterion.id] for criterion in spec.criteria]
    records = _verdict("records", [missing] if missing else _record_faults(milestone, experiments))
    return Examination([*own, bugs, _tests(milestone), records, _replay(milestone, experiments)], fates)


# what the ladder asks of every milestone: id -> (what, why, hint)
EVERYWHERE = {
    "tests": (
        "Its tests pass",
        "The criteria are a summary; the tests are the specification.",
        "Run `python -m pytest` on the files that the milestone.yaml names.",
    ),
    "planted-bugs": (
        f"At least {FEWEST_MUTANTS} planted bugs, every one caught by the criterion that it names",
        "A check suite that lets a wrong variant live is no check.",
        "Tighten the criterion, or add one, until the survivor is seen.",
    ),
    "records": (
        "Each experiment's record is complete and made by the present code",
        "A number without its setup, spread and ablation says nothing.",
        "Complete what the line names in experiments.py, then run the experiments again.",
    ),
    "replay": (
        "Experiments that are run again give the same metrics",
        "A result that does not repeat is an anecdote.",
        "Seed every generator, and round metrics to the digits that are stable.",
    ),
}


def _verdict(id_: str, faults: list[str]) -> Result:
    what, why, hint = EVERYWHERE[id_]
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return Result(id_, what, "holds", why, hint, not faults, not faults, f"{faults[0]}{more}" if faults else "")


def _experiments(milestone: Milestone) -> tuple[Mapping[str, Any], str]:
    try:
        return read_records(milestone.id)["experiments"], ""
    except UserError as error:
        return {}, str(error)


def _planted_bugs(milestone: Milestone) -> tuple[Result, list[dict[str, Any]]]:
    try:
        verdicts = hunt(milestone, load_mutants(milestone))
    except UserError as error:
        return _verdict("planted-bugs", [str(error)]), []
    faults = [verdict.fault for verdict in verdicts if verdict.fault]
    if len(verdicts) < FEWEST_MUTANTS:
        faults.append(f"{len(verdicts)} planted bugs, expected at least {FEWEST_MUTANTS}")
    return _verdict("planted-bugs", faults), [as_json(verdict) for verdict in verdicts]


def _tests(milestone: Milestone) -> Result:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *milestone.spec.tests]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TESTS_LIMIT, env={**os.environ, **workers.ONE_THREAD}
        )
    except subprocess.TimeoutExpired:
        return _verdict("tests", [f"still running after {TESTS_LIMIT} s"])
    lines = (done.stdout + done.stderr).strip().splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))] or lines[-1:] or ["pytest said nothing"]
    return _verdict("tests", failed[:1] if done.returncode else [])


def _record_faults(milestone: Milestone, experiments: Mapping[str, Any]) -> list[str]:
    made_by = read_records(milestone.id).get("inputs", {})
    now = experiment_inputs(milestone)
    changed = [file for file in sorted(made_by.keys() | now.keys()) if made_by.get(file) != now.get(file)]
    faults = [f"{changed[0]} has changed since the experiments were run: run them again"] if changed else []
    if not timings_path(milestone.id).exists():
        faults.append(f"{timings_path(milestone.id)} is not there: run the experiments")
    return faults + record_faults(milestone, experiments)


def _replay(milestone: Milestone, experiments: Mapping[str, Any]) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        try:
            again = run_some(milestone, milestone.spec.replay, Path(folder))
        except UserError as error:
            return _verdict("replay", [str(error)])
    faults = [
        f"{name}: {difference}"
        for name, (record, _) in again.items()
        if (difference := _difference(record.stored(), experiments.get(name, {})))
    ]
    return _verdict("replay", faults)


def _difference(now: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    for part in ("metrics", "ablation"):
        if now[part] != before.get(part):
            if not isinstance(now[part], dict) or not isinstance(before.get(part), dict):
                return f"its {part} differ from the record"
            keys = [key for key in now[part] if now[part][key] != before[part].get(key)] or list(before[part])
            return f"{keys[0]} came out as {now[part].get(keys[0])}, the record says {before[part].get(keys[0])}"
    return ""
