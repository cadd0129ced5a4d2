"""Running a milestone's experiments, each in a process of its own, and what they leave: records and times."""

import importlib
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from llmm.errors import UserError
from llmm.files import sha256_of
from llmm.ladder import workers
from llmm.ladder.milestones import GROUND, Milestone
from llmm.ladder.records import Record, explain_invalid, write_records
from llmm.ladder.sources import experiment_inputs

LIMITS = workers.Limits(seconds=1800, mebibytes=16384)


def run_experiments(milestone: Milestone) -> dict[str, Any]:
    """Run all experiments of the milestone, write its records and figures; returns what was measured in seconds.

    Those that the spec calls `timed` run alone, after the others. Raises UserError, naming the experiment, where one
    fails or leaves no good record.
    """
    spec = milestone.spec
    inputs = experiment_inputs(milestone)
    workers.start_server(spec.preload)
    milestone.figures.mkdir(parents=True, exist_ok=True)
    untimed = [name for name in spec.experiments if name not in spec.timed]
    found = run_some(milestone, untimed, milestone.figures)
    found |= run_some(milestone, spec.timed, milestone.figures, at_once=1)
    for name, (record, _) in found.items():
        if record.figure.parent != milestone.figures or not record.figure.exists():
            raise UserError(f"{milestone.id} {name}: its figure {record.figure} is not a file in {milestone.figures}")
    for stray in set(milestone.figures.iterdir()) - {record.figure for record, _ in found.values()}:
        print(f"{stray} belongs to no record")
    write_records(milestone.id, inputs, {name: found[name][0] for name in spec.experiments})
    return {
        "git_revision": _git_revision(),
        "requirements_lock_sha256": sha256_of(Path(GROUND)),
        "experiments": {name: {"seconds": found[name][1], **found[name][0].timings} for name in spec.experiments},
    }


def run_some(
    milestone: Milestone, names: Sequence[str], figures: Path, at_once: int | None = None
) -> dict[str, tuple[Record, float]]:
    """name -> (record, seconds). Raises UserError where one does not come to its end."""
    own = (str(milestone.folder.resolve()),)
    calls = [
        workers.Call("llmm.ladder.experiments:experiment", (milestone.package, name, figures), own=own, limits=LIMITS)
        for name in names
    ]
    found = {}
    for name, outcome in zip(names, workers.run_all(calls, at_once), strict=True):
        if outcome.fault:
            raise UserError(f"{milestone.id} {name}: {outcome.fault}")
        found[name] = outcome.value
        print(f"{milestone.id} {name}: {outcome.value[1]:.1f} s")
    return found


def experiment(package: str, name: str, figures: Path) -> tuple[Record, float]:
    """In a worker: run one experiment and say how many seconds it took. Raises UserError for a faulty record."""
    function = getattr(importlib.import_module(f"{package}.experiments"), name)
    started = time.perf_counter()
    try:
        record = function(figures)
    except ValidationError as error:
        raise UserError(explain_invalid(error)) from None
    if not isinstance(record, Record):
        raise UserError(f"returned a {type(record).__name__}, expected a Record")
    return record, round(time.perf_counter() - started, 2)


def _git_revision() -> str:
    found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"
