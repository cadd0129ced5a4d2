"""The chain of reports: where each milestone stands. Nothing is run and nothing heavy imported to tell."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from llmm.errors import UserError
from llmm.ladder.milestones import Milestone, load_milestones
from llmm.ladder.report import out_of_date, read_report
from llmm.ladder.spec import one_line

State = Literal["passed", "failing", "stale", "locked", "not checked", "not built"]


@dataclass(frozen=True)
class Standing:
    """Where a milestone stands, and why in one line. `met` of `total` criteria held when it was last checked."""

    milestone: Milestone
    state: State
    reason: str = ""
    met: int = 0
    total: int = 0


def standings() -> list[Standing]:
    """All milestones in their order; above one that is not passed all are locked, whatever their own reports say."""
    return gate([_own(milestone) for milestone in load_milestones()])


def standing_of(milestone: Milestone) -> Standing:
    """Where this milestone stands."""
    return next(standing for standing in standings() if standing.milestone.id == milestone.id)


def require_predecessor(milestone: Milestone) -> None:
    """Refuse (UserError) unless the milestone before this one is passed, and so all before it."""
    if milestone.before is None:
        return
    before = standing_of(milestone.before)
    if before.state != "passed":
        raise UserError(f"{milestone.id} is locked: {before.milestone.id} is {before.state} ({before.reason})")


def gate(own: Sequence[Standing]) -> list[Standing]:
    """The standings with all locked that stand above one that is not passed."""
    gated: list[Standing] = []
    barrier: Standing | None = None
    for standing in own:
        if barrier is not None and standing.state != "not built":
            reason = f"waits for {barrier.milestone.id}, which is {barrier.state}"
            standing = replace(standing, state="locked", reason=reason)
        elif barrier is None and standing.state != "passed":
            barrier = standing
        gated.append(standing)
    return gated


def _own(milestone: Milestone) -> Standing:
    """Where the milestone would stand if all below it were passed."""
    if not milestone.is_built:
        return Standing(milestone, "not built", "no exit criteria yet")
    try:
        report = read_report(milestone)
    except UserError as error:
        return Standing(milestone, "stale", str(error))
    try:
        total = len(milestone.spec.criteria)
        if report is None:
            return Standing(milestone, "not checked", "`make ladder` runs its experiments and its check", 0, total)
        reason = next(out_of_date(milestone, report), "")
    except UserError as error:
        return Standing(milestone, "failing", str(error))
    total = len(report.criteria)
    met = total - len(report.failed)
    if reason:
        return Standing(milestone, "stale", reason, met, total)
    if report.failed:
        first = report.failed[0]
        return Standing(milestone, "failing", one_line(first["id"], first["got"], first["expected"]), met, total)
    return Standing(milestone, "passed", "", met, total)
