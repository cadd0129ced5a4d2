"""The check of a milestone: every criterion of its spec, and what the ladder asks of all.

The machine's part takes most of a minute and depends on code and records only; the written part is read in a moment. So
a check that runs because a sentence was changed can take the machine's part over from the last one (`memo`).
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from llmm.files import read_json, sha256_of, write_json
from llmm.ladder.criteria import Result
from llmm.ladder.demands import demand
from llmm.ladder.journal import journal_faults
from llmm.ladder.machine import Examination, examine_by_machine
from llmm.ladder.milestones import Milestone
from llmm.ladder.sources import machine_inputs
from llmm.ladder.written import paper_faults, readme_faults
from llmm.paths import WORK


def examine(milestone: Milestone, memo: bool = False) -> Examination:
    """Check the reference implementation of a milestone.

    With `memo` the machine's part is taken from the last check, if it passed and no file that decides it has changed.
    """
    remembered = _recall(milestone) if memo else None
    machine = remembered or examine_by_machine(milestone)
    if memo and not remembered and not machine.failed:
        _remember(milestone, machine)
    written = [
        demand("readme", readme_faults(milestone)),
        demand("journal", journal_faults(milestone, milestone.earlier)),
        demand("papers", paper_faults(milestone)),
    ]
    return Examination([*machine.results, *written], machine.mutants)


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
