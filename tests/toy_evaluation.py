"""A small evaluation without a model, for the tests of the flows: says what it did in side-effect files.

TOY_FOLDER names a folder. There `log` gets a line for every batch that is scored, `fail/<suite>-<start>` holds how
often a batch is still to fail, and `slow` holds the seconds that each batch takes.
"""

import os
import time
from pathlib import Path

from llmm.evaluation import Batch, Report, Row, batches_of
from llmm.params import Params


def folder() -> Path:
    return Path(os.environ["TOY_FOLDER"])


class ToyEvaluation:
    """Squares and cubes of the first whole numbers."""

    name = "toy"

    def __init__(self, top_k: int) -> None:
        self.top_k = top_k

    def batches(self) -> list[Batch]:
        return [*batches_of("squares", 10, 4), *batches_of("cubes", 6, 2)]

    def run(self, batch: Batch) -> list[Row]:
        with (folder() / "log").open("a") as log:
            log.write(f"{batch}\n")
        if (slow := folder() / "slow").exists():
            time.sleep(float(slow.read_text()))
        failures = folder() / "fail" / f"{batch.suite}-{batch.start}"
        if failures.exists() and (left := int(failures.read_text())) > 0:
            failures.write_text(str(left - 1))
            raise RuntimeError(f"planted failure\nof {batch}")
        power = {"squares": 2, "cubes": 3}[batch.suite]
        return [
            {"id": f"{batch.suite}-{i}", "suite": batch.suite, "value": i**power / 7, "pair": (i, self.top_k)}
            for i in range(batch.start, batch.stop)
        ]

    def report(self, rows: list[Row], folder: Path) -> Report:
        figure = folder / "values.svg"
        figure.write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')
        suites = sorted({row["suite"] for row in rows})
        means = {suite: sum(row["value"] for row in rows if row["suite"] == suite) / len(rows) for suite in suites}
        return Report(
            metrics={"items": len(rows), "mean": means},
            tables={"Means by suite": [{"suite": suite, "mean": mean} for suite, mean in means.items()]},
            markdown=f"# Toy\n\n{len(rows)} items",
            figures=[figure],
        )


def toy_evaluation(params: Params) -> ToyEvaluation:
    return ToyEvaluation(params.rag_eval.top_k)
