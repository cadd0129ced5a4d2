"""Measuring exit criteria: each in a process of its own, on the reference, on a planted bug or on a learner's files."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmm.errors import UserError
from llmm.ladder import workers
from llmm.ladder.milestones import Milestone
from llmm.ladder.overlay import Source
from llmm.ladder.records import metric
from llmm.ladder.spec import Criterion, one_line

REFERENCE = workers.Limits(seconds=120, mebibytes=8192)
STRICT = workers.Limits(seconds=30, mebibytes=4096)  # for code that may do anything


@dataclass(frozen=True)
class Result:
    """One criterion with what was measured. `fault` is one line where nothing could be measured, or what is wrong."""

    id: str
    what: str
    expected: str
    why: str
    hint: str
    passed: bool
    value: Any = None
    fault: str = ""
    record: str = ""
    noisy: bool = False

    @property
    def got(self) -> str:
        """What was measured, or what went wrong, in one line."""
        if self.fault:
            return self.fault
        return f"{self.value:.3g}" if isinstance(self.value, float) else str(self.value).lower()

    @property
    def line(self) -> str:
        """The result in one line."""
        return one_line(self.id, self.got, self.expected)

    def stored(self) -> dict[str, Any]:
        """As a report keeps it: a measured time is not kept, only whether it was good enough."""
        kept = {"id": self.id, "what": self.what, "expected": self.expected, "passed": self.passed}
        if self.noisy:
            return kept | {"value": None, "got": "fast enough" if self.passed else "too slow", "fault": ""}
        value = self.value
        if isinstance(value, float):  # JSON has no NaN and no infinity; `got` says it
            value = float(f"{value:.3g}") if math.isfinite(value) else None
        return kept | {"value": value, "got": self.got, "fault": self.fault}


@dataclass(frozen=True)
class Subject:
    """The implementation under the checks: the reference, or other sources in the place of some of its modules."""

    milestone: Milestone
    overlay: Mapping[str, Source]
    path: tuple[str, ...] = ()
    limits: workers.Limits = REFERENCE
    quiet: bool = False

    def call(self, criterion: Criterion) -> workers.Call:
        """The call that measures `criterion` on this subject."""
        return workers.Call(
            "llmm.ladder.measure:measure",
            (f"{self.milestone.package}.checks", criterion.check),
            self.overlay,
            self.path,
            (str(self.milestone.folder.resolve()),),
            self.limits,
            self.quiet,
        )


def machine_results(subject: Subject, criteria: Sequence[Criterion]) -> list[Result]:
    """Every `check` criterion measured; the noisy ones (times) after the others and with no neighbour.

    A time is judged by the median of three measurements: another program may have had the cores in one of them.
    """
    checked = [criterion for criterion in criteria if criterion.check]
    steady = [criterion for criterion in checked if not criterion.noisy]
    noisy = [criterion for criterion in checked if criterion.noisy]
    outcomes = dict(zip((c.id for c in steady), workers.run_all([subject.call(c) for c in steady]), strict=True))
    timed = workers.in_parallel(lambda criterion: _timed(subject, criterion), noisy, at_once=1)
    outcomes |= zip((c.id for c in noisy), timed, strict=True)
    return [judge(criterion, outcomes[criterion.id]) for criterion in checked]


def _timed(subject: Subject, criterion: Criterion) -> workers.Outcome:
    """A measurement on the side of the threshold where the median of three lies: where two agree, the third is spared.

    What ends otherwise than with a value (an exception, the end of its time) is not measured again.
    """
    sides: set[bool] = set()
    while True:  # three times at most: there are two sides
        outcome = workers.run(subject.call(criterion))
        side = judge(criterion, outcome).passed
        if side in sides or outcome.ending != "returned":
            return outcome
        sides.add(side)


def judge(criterion: Criterion, outcome: workers.Outcome) -> Result:
    """The criterion with an outcome held against its threshold."""
    return _result(criterion, outcome.value, outcome.fault)


def record_result(criterion: Criterion, experiments: Mapping[str, Any]) -> Result:
    """A `record` criterion, from the stored records of the experiments."""
    try:
        return _result(criterion, metric(experiments, criterion.record), "")
    except UserError as error:
        return _result(criterion, None, str(error))


def _result(criterion: Criterion, value: Any, fault: str) -> Result:
    return Result(
        id=criterion.id,
        what=criterion.what,
        expected=criterion.expected,
        why=criterion.why,
        hint=criterion.hint,
        passed=not fault and criterion.holds(value),
        value=value,
        fault=fault,
        record=criterion.record,
        noisy=criterion.noisy,
    )
