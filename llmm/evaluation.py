"""What an evaluation is: items in batches, one row for every item, one report from all rows.

An evaluation knows nothing of threads, retries or servers. `pipelines.flows` runs any of them, as a Prefect flow or
plainly, with the same rows and byte-identical metrics. So `run` must give the same rows for a batch whatever ran before
it, and `report` must depend on the rows alone.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

Row = dict[str, Any]


@dataclass(frozen=True)
class Batch:
    """Items `start` to `stop` (exclusive) of the suite `suite`: a reference that any process can resolve."""

    suite: str
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __str__(self) -> str:
        return f"{self.suite} {self.start}-{self.stop}"


@dataclass
class Report:
    """What is read from the rows.

    `metrics` is nested JSON without NaN; `tables` maps a title to rows of equal keys; `markdown` is what a person reads
    first; `figures` are image files that `report` has drawn.
    """

    metrics: dict[str, Any]
    tables: dict[str, list[Row]] = field(default_factory=dict)
    markdown: str = ""
    figures: list[Path] = field(default_factory=list)


class Evaluation(Protocol):
    """A set of suites of items that a model is scored on."""

    name: str

    def batches(self) -> list[Batch]:
        """All items, in batches of about 16 to 50. Cheap: loads no model."""
        ...

    def run(self, batch: Batch) -> list[Row]:
        """Score the items of `batch`: one JSON-able row for each, with a stable "id" and its "suite".

        Called from several threads. Models come from a cached loader, not from the object.
        """
        ...

    def report(self, rows: list[Row], folder: Path) -> Report:
        """Metrics, tables and figures of `rows`, which may be those of some items of some suites only.

        Figures go into `folder`: a run with other settings must not overwrite those of the pipeline.
        """
        ...


def batches_of(suite: str, items: int, size: int) -> list[Batch]:
    """Cut `items` items into batches of at most `size`."""
    return [Batch(suite, start, min(start + size, items)) for start in range(0, items, size)]
