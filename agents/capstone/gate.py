"""The evaluation gate: a build passes unless a figure got worse by more than noise explains.

`gate.yaml` names the figures. Where both sides have a row for every item, the same item is compared with itself, so its
difficulty cancels out: right or wrong by McNemar's exact test, numbers by the paired bootstrap. Without rows the
standard errors that the stated intervals imply are compared, which sees less; a figure that has neither is held to its
tolerance. Every test is one-sided, at `level` divided by the number of figures (Bonferroni), so that a gate over many
figures does not fail by chance oftener than `level` says. What differs in more than its results (other items, a figure
that is missing on one side) is an error and never a pass.

Sources: McNemar 1947; Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist, fmean
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agents.capstone.results import FolderResults, Results, at, open_results
from agents.multi_agent.mcnemar import paired
from llmm import paths
from llmm.errors import UserError
from llmm.evaluation import Row
from llmm.ladder.spec import read_yaml
from llmm.statistics import paired_bootstrap
from llmm.training.rag.metrics import ndcg_at

SPEC = Path(__file__).with_name("gate.yaml")
ROUNDING = 6e-5  # metrics keep four digits
Status = Literal["same", "better", "worse (noise)", "worse (tolerated)", "regressed", "not measured"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Figure(_Strict):
    """One figure that must not get worse; gate.yaml says what each key means."""

    name: str
    file: str
    metric: str
    better: Literal["higher", "lower"]
    tolerance: float = Field(ge=0)
    same: list[str] = []
    suite: str | None = None
    item: str | None = None
    where: str | None = None
    optional: bool = False


class Spec(_Strict):
    """The content of gate.yaml."""

    level: float = Field(gt=0, lt=1)
    bootstrap_samples: int = Field(ge=100)
    seed: int
    identity: dict[str, list[str]]
    figures: list[Figure] = Field(min_length=1)


@dataclass(frozen=True)
class Verdict:
    """What became of one figure. `lost` is how much worse it is (negative: better), `why` what decided."""

    name: str
    before: float | None
    now: float | None
    lost: float | None
    status: Status
    test: str
    why: str

    @property
    def line(self) -> str:
        """One line for a person."""
        return f"{self.status}: {self.name}: {self.before:.4g} -> {self.now:.4g} ({self.test}: {self.why})"


@dataclass(frozen=True)
class GateReport:
    """All verdicts. `level` is that of each single test."""

    before: str
    now: str
    level: float
    verdicts: list[Verdict]

    @property
    def regressed(self) -> list[Verdict]:
        """The figures that got worse."""
        return [verdict for verdict in self.verdicts if verdict.status == "regressed"]

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {"passed": not self.regressed, **asdict(self)}


def load_spec(path: Path = SPEC) -> Spec:
    """Read the figures. Raises UserError with one line that names file and key."""
    try:
        return Spec.model_validate(read_yaml(path))
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise UserError(f"{path}: {'; '.join(faults)}") from None


def run_gate(baseline: str, spec: Spec | None = None) -> GateReport:
    """Compare what stands in `data` with `baseline`, a git revision or a folder. See `compare`."""
    return compare(open_results(baseline), FolderResults(paths.DATA), spec or load_spec())


def compare(before: Results, now: Results, spec: Spec) -> GateReport:
    """A verdict on every figure.

    Raises UserError where a figure is missing, the sides were evaluated on different items, or the rows of a side do
    not give its metrics.
    """
    level = spec.level / len(spec.figures)
    first, second = _Side(before, spec.identity), _Side(now, spec.identity)
    verdicts = [_judge(figure, first, second, spec, level) for figure in spec.figures]
    return GateReport(before.where, now.where, level, verdicts)


class _Side:
    """One side's results, each file read once."""

    def __init__(self, results: Results, identity: dict[str, list[str]]) -> None:
        self.where = results.where
        self._results, self._identity = results, identity
        self._metrics: dict[str, dict[str, Any]] = {}
        self._rows: dict[str, list[Row] | None] = {}

    def metrics(self, file: str) -> dict[str, Any]:
        if file not in self._metrics:
            self._metrics[file] = self._results.metrics(file)
        return self._metrics[file]

    def figure(self, file: str, path: str) -> float | None:
        value = at(self.metrics(file), path)
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None

    def items(self, figure: Figure) -> dict[str, tuple[Any, float]] | None:
        """By id: what was asked, and the value that it got. None where this side has no rows."""
        if figure.suite is None or figure.item is None:
            return None
        if figure.file not in self._rows:
            self._rows[figure.file] = self._results.rows(figure.file)
        rows = self._rows[figure.file]
        if rows is None:
            return None
        take, keep = reader(figure.item), reader(figure.where) if figure.where else None
        found = {}
        for row in rows:
            if row["suite"] == figure.suite and (keep is None or keep(row)):
                value = take(row)
                if value is None:
                    raise UserError(f"{self.where}: {figure.file}, item {row['id']} has no {figure.item}: `dvc repro`")
                found[row["id"]] = ([row.get(key) for key in self._identity.get(figure.file, [])], value)
        return found


def reader(item: str) -> Callable[[Row], float | None]:
    """What `item` of gate.yaml takes from a row: a number, 1 or 0 for true or false; None where it is not there."""
    if item.startswith("not "):
        positive = reader(item.removeprefix("not "))

        def negated(row: Row) -> float | None:
            value = positive(row)
            return None if value is None else 1.0 - value

        return negated
    if item.startswith("ndcg@10 of "):
        path = item.removeprefix("ndcg@10 of ")
        parent, _, key = path.rpartition(".")

        def gain(row: Row) -> float | None:
            ranks = at(row, parent)
            if not isinstance(ranks, dict) or key not in ranks:
                return None
            rank = ranks[key]  # None where it was not found
            return 0.0 if rank is None else ndcg_at([*["-"] * (rank - 1), "x"], {"x"}, 10)

        return gain

    def plain(row: Row) -> float | None:
        value = at(row, item)
        return float(value) if isinstance(value, bool | int | float) else None

    return plain


def _judge(figure: Figure, before: _Side, now: _Side, spec: Spec, level: float) -> Verdict:
    values = [side.figure(figure.file, figure.metric) for side in (before, now)]
    if values == [None, None] and figure.optional:
        return Verdict(figure.name, None, None, None, "not measured", "", "on neither side")
    for side, value in zip((before, now), values, strict=True):
        if value is None:
            raise UserError(
                f"{side.where}: {figure.file}.json has no {figure.metric}: {figure.name} cannot be compared"
            )
    first, second = (value for value in values if value is not None)
    for path in figure.same:
        sizes = [at(side.metrics(figure.file), path) for side in (before, now)]
        if sizes[0] != sizes[1]:
            raise UserError(
                f"{figure.name}: {figure.file}.json, {path} is {sizes[0]} at {before.where} and {sizes[1]} at "
                f"{now.where}: not the same items, so the two cannot be compared"
            )
    sign = 1.0 if figure.better == "higher" else -1.0
    lost = sign * (first - second)
    test, why, beyond_noise = _test(figure, before, now, (first, second), spec, level)
    status: Status = "same"
    if lost < 0:
        status = "better"
    elif lost > 0:
        worse: Status = "regressed" if beyond_noise else "worse (noise)"
        status = worse if lost > figure.tolerance else "worse (tolerated)"
    return Verdict(figure.name, first, second, round(lost, 6), status, test, why)


def _test(
    figure: Figure, before: _Side, now: _Side, values: tuple[float, float], spec: Spec, level: float
) -> tuple[str, str, bool]:
    """Which test was made, what it found, and whether a loss is more than noise at `level`."""
    sign = 1.0 if figure.better == "higher" else -1.0
    items = [side.items(figure) for side in (before, now)]
    for side, value, found in zip((before, now), values, items, strict=True):
        if found is not None:
            _fits(figure, side, value, found)
    if items[0] is not None and items[1] is not None:
        first, second = _pairs(figure, before, now, items[0], items[1])
        if set(first) | set(second) <= {0.0, 1.0}:
            return _mcnemar(first, second, sign, level)
        gained = paired_bootstrap(second, first, spec.bootstrap_samples, spec.seed, 1 - 2 * level)
        worst, best = sorted((sign * gained["low"], sign * gained["high"]))
        return "paired bootstrap", f"change {worst:+.4f} to {best:+.4f} on {len(first)} items", best < 0
    errors = [_standard_error(at(side.metrics(figure.file), _parent(figure)), figure) for side in (before, now)]
    if errors[0] is None or errors[1] is None:
        return "tolerance", f"{figure.tolerance:g}", True
    spread = math.hypot(errors[0], errors[1])
    lost = sign * (values[0] - values[1])
    p = 1 - NormalDist().cdf(lost / spread) if spread else float(lost <= 0)
    return "stated intervals", f"p = {p:.2g}", p < level


def _mcnemar(first: Sequence[float], second: Sequence[float], sign: float, level: float) -> tuple[str, str, bool]:
    """Of the items that changed, were there more losses than a fair coin gives?"""
    from scipy.stats import binomtest

    good = 1.0 if sign > 0 else 0.0
    changed = paired([value == good for value in first], [value == good for value in second])
    count = changed.only_first + changed.only_second
    p = float(binomtest(changed.only_first, count, 0.5, alternative="greater").pvalue) if count else 1.0
    words = f"{changed.only_first} of {len(first)} items lost, {changed.only_second} won, p = {p:.2g}"
    return "McNemar", words, p < level


def _fits(figure: Figure, side: _Side, value: float, items: dict[str, tuple[Any, float]]) -> None:
    """Refuse rows that do not give the figure that stands beside them: they are of another run."""
    mean = fmean(value for _, value in items.values()) if items else math.nan
    if not abs(mean - value) <= ROUNDING:
        raise UserError(
            f"{side.where}: {figure.metric} of {figure.file}.json is {value:g}, but the rows of {figure.file}.jsonl "
            f"give {mean:.4f}: they are of different runs, `dvc repro` or `dvc checkout`"
        )


def _pairs(
    figure: Figure, before: _Side, now: _Side, first: dict[str, tuple[Any, float]], second: dict[str, tuple[Any, float]]
) -> tuple[list[float], list[float]]:
    """The two values of every item, in one order."""
    ids = sorted(first)
    others = sorted(first.keys() ^ second.keys()) or [key for key in ids if first[key][0] != second[key][0]]
    if others:
        raise UserError(
            f"{figure.name}: {len(others)} items of {figure.suite} are not the same at {before.where} and {now.where}, "
            f"such as {others[0]}: another evaluation set, so the two cannot be compared"
        )
    return [first[key][1] for key in ids], [second[key][1] for key in ids]


def _parent(figure: Figure) -> str:
    return figure.metric.rpartition(".")[0]


def _standard_error(beside: Any, figure: Figure) -> float | None:
    """That of a figure whose 95% interval stands beside it, None where none does."""
    key = figure.metric.rpartition(".")[2]
    for low, high in ((f"{key}_low", f"{key}_high"), ("low", "high")):
        if figure.item and isinstance(beside, dict) and low in beside and high in beside:
            return float(beside[high] - beside[low]) / (2 * NormalDist().inv_cdf(0.975))
    return None


def render(report: GateReport) -> None:
    """Print the table of all figures, and what the tests found where a figure is not the same."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    tests = Counter(verdict.test for verdict in report.verdicts if verdict.test)
    console.print(f"{report.now} beside {report.before}", soft_wrap=True)
    counted = ", ".join(f"{count} by {test}" for test, count in tests.items())
    console.print(f"compared: {counted}; each test at a level of {report.level:.2g}", soft_wrap=True)
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    for column in ("figure", "before", "now", ""):
        table.add_column(column, justify="right" if column in ("before", "now") else "left")
    for verdict in report.verdicts:
        shown = ["" if value is None else f"{value:.4f}" for value in (verdict.before, verdict.now)]
        table.add_row(verdict.name, *shown, verdict.status)
    console.print(table)
    for verdict in report.verdicts:
        if verdict.status not in ("same", "not measured"):
            console.print(f"{verdict.name}: {verdict.test}, {verdict.why}", style="dim", soft_wrap=True)
