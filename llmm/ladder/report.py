"""The report of a check: what was measured, and the hashes of all that it was measured on.

No time and no date stands in it, so the same state of the project gives the same bytes. It holds the sha256 of the
report before it, of the thresholds and of every file that decided it; so whoever reads it can tell whether it still
speaks of what is there.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmm.errors import UserError
from llmm.files import sha256_of, write_json
from llmm.ladder.milestones import GROUND, Milestone
from llmm.ladder.sources import report_inputs

SEAL = "seal"


@dataclass(frozen=True)
class Report:
    """A stored report."""

    content: dict[str, Any]

    @property
    def criteria(self) -> list[dict[str, Any]]:
        """Every criterion: id, what, expected, value or fault, passed."""
        return list(self.content["criteria"])

    @property
    def failed(self) -> list[dict[str, Any]]:
        """The criteria that did not hold."""
        return [criterion for criterion in self.criteria if not criterion["passed"]]


def write_report(
    milestone: Milestone, criteria: list[dict[str, Any]], mutants: list[dict[str, Any]], inputs: dict[str, str]
) -> None:
    """Write the report of a check that judged files with the sha256 `inputs`."""
    content = {
        "milestone": milestone.id,
        "title": milestone.title,
        "passed": all(criterion["passed"] for criterion in criteria),
        "criteria": criteria,
        "mutants": mutants,
        "criteria_sha256": milestone.spec.criteria_sha256,
        "predecessor_sha256": predecessor_sha256(milestone),
        "inputs": inputs,
    }
    write_json(milestone.report_path, content | {SEAL: _seal(content)})


def read_report(milestone: Milestone) -> Report | None:
    """The report of a milestone, None where there is none. Raises UserError where it was edited or is no report."""
    path = milestone.report_path
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise UserError(f"{path} is no readable JSON") from None
    if not isinstance(content, dict) or content.get(SEAL) != _seal(content):
        raise UserError(f"{path} was edited by hand: its seal does not fit its content")
    return Report(content)


def predecessor_sha256(milestone: Milestone) -> str:
    """Of what the milestone stands on: the report before it, or the locked environment for the first."""
    path = milestone.before.report_path if milestone.before else Path(GROUND)
    return sha256_of(path) if path.is_file() else ""


def out_of_date(milestone: Milestone, report: Report) -> Iterator[str]:
    """Why the report does not speak of what is there now, the most telling reason first; nothing if it does."""
    yield from _changed_thresholds(milestone, report)
    stored, now = report.content["inputs"], report_inputs(milestone)
    for file in sorted(stored.keys() | now.keys()):
        if file not in now:
            yield f"{file} is gone since the check"
        elif file not in stored:
            yield f"{file} is new since the check"
        elif stored[file] != now[file]:
            yield f"{file} has changed since the check"
    if report.content["predecessor_sha256"] != predecessor_sha256(milestone):
        on = f"the report of {milestone.before.id}" if milestone.before else GROUND
        yield f"{on} is not the one that this check stood on"


def _changed_thresholds(milestone: Milestone, report: Report) -> Iterator[str]:
    spec = milestone.spec
    if report.content["criteria_sha256"] == spec.criteria_sha256:
        return
    stored = {criterion["id"]: criterion["expected"] for criterion in report.criteria}
    for criterion in spec.criteria:
        if (before := stored.get(criterion.id)) != criterion.expected:
            was = f"was {before}" if before else "is new"
            yield f"criterion {criterion.id} is {criterion.expected} now, {was} when it was checked"
    yield "the criteria have changed since the check"


def _seal(content: dict[str, Any]) -> str:
    sealed = {key: value for key, value in content.items() if key != SEAL}
    return hashlib.sha256(json.dumps(sealed, sort_keys=True).encode()).hexdigest()
