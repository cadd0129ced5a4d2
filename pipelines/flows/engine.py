"""Runs any `llmm.evaluation.Evaluation` batch by batch, with threads and retries and nothing else.

`fanout` does the same by Prefect tasks. Both score a batch by `score` and gather by `Gathered`, so their metrics are
equal to the byte.
"""

import functools
import importlib
import json
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmm.errors import UserError
from llmm.evaluation import Batch, Evaluation, Report, Row
from llmm.files import write_json, write_text
from llmm.params import Params, validate
from pipelines.flows import revisions
from pipelines.flows.revisions import Revisions

ATTEMPTS = 3  # of a batch, before it is reported as failed
RETRY_DELAYS = (0.5, 2.0)  # seconds before the second and the third attempt


@dataclass(frozen=True)
class Target:
    """An evaluation by reference, so that any process can open it: `factory` is "module:function" of a Params.

    `models` and `data` are the artifacts, as (folder, kind), that it reads; `files` are other files that it reads.
    """

    name: str
    factory: str
    models: tuple[tuple[Path, str], ...] = ()
    data: tuple[tuple[Path, str], ...] = ()
    files: tuple[Path, ...] = ()

    def revisions(self) -> Revisions:
        """The present state of models, data and code. Raises UserError where an artifact is missing or damaged."""
        return Revisions(
            model=revisions.of_artifacts(self.models),
            data=revisions.of_artifacts(self.data, tuple(path for path in self.files if path.exists())),
            code=revisions.of_code(self.factory.partition(":")[0]),
        )


@dataclass(frozen=True)
class Options:
    """What of an evaluation is run, and how. `suites` empty: all; `limit` 0: every item of a suite."""

    suites: tuple[str, ...] = ()
    limit: int = 0
    workers: int = 2
    fresh: bool = False  # score again what an earlier run has stored


@dataclass
class Outcome:
    """All rows in the order of the batches, and what the report made of them."""

    rows: list[Row]
    report: Report
    batches: int
    reused: int  # batches whose rows an earlier run had stored


def default_workers() -> int:
    """Batches at a time: the environment's LLMM_WORKERS, else 2. Raises UserError where that is no positive number."""
    text = os.environ.get("LLMM_WORKERS", "2")
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"LLMM_WORKERS = {text!r}: expected a whole number of at least 1")
    return int(text)


def run_plainly(target: Target, params: Params, options: Options, figures: Path) -> Outcome:
    """Run `target` without Prefect; its figures go into the folder `figures`.

    A batch that raises is tried `ATTEMPTS` times. Raises UserError, after all other batches, where one still fails.
    """
    plan = Plan.of(target, params, options)
    gathered = Gathered(plan)
    with ThreadPoolExecutor(options.workers) as pool:
        futures = {pool.submit(_score_with_retries, plan, batch): batch for batch in plan.batches}
        try:
            for future in as_completed(futures):
                gathered.add(futures[future], future.result)
        except BaseException:  # a signal: what has not begun is not wanted any more
            pool.shutdown(cancel_futures=True)
            raise
    return gathered.outcome(figures)


@dataclass(frozen=True)
class Plan:
    """The batches to score and all that a batch needs to know."""

    target: Target
    params: dict[str, Any]
    revisions: Revisions
    batches: list[Batch]

    @classmethod
    def of(cls, target: Target, params: Params, options: Options) -> "Plan":
        """Raises UserError for an artifact that is missing or damaged, an unknown suite, or nothing to score."""
        state = target.revisions()
        dumped = params.model_dump(mode="json")
        batches = open_evaluation(target.factory, json.dumps(dumped), state).batches()
        known = sorted({batch.suite for batch in batches})
        for suite in options.suites:
            if suite not in known:
                raise UserError(f"{target.name} has no suite {suite!r}: expected some of {', '.join(known)}")
        chosen = [batch for batch in batches if not options.suites or batch.suite in options.suites]
        if options.limit:
            chosen = [
                Batch(batch.suite, batch.start, min(batch.stop, options.limit))
                for batch in chosen
                if batch.start < options.limit
            ]
        if not chosen:
            raise UserError(f"{target.name} has nothing to score: its suites are empty")
        return cls(target, dumped, state, chosen)

    def __str__(self) -> str:
        items = sum(map(len, self.batches))
        return (
            f"{self.target.name}: {items} items in {len(self.batches)} batches "
            f"(model {self.revisions.model[:12]}, data {self.revisions.data[:12]}, code {self.revisions.code[:12]})"
        )


def score(factory: str, params: dict[str, Any], batch: Batch, state: Revisions) -> list[Row]:
    """The rows of one batch, as they read back from JSON.

    Raises ValueError where the evaluation broke its rules: one row an item, with "id" and "suite", JSON without NaN.
    """
    rows = open_evaluation(factory, json.dumps(params), state).run(batch)
    if len(rows) != len(batch) or any("id" not in row or row.get("suite") != batch.suite for row in rows):
        raise ValueError(
            f"{len(rows)} rows for the {len(batch)} items of {batch}, each with an id and its suite expected"
        )
    return json.loads(json.dumps(rows, allow_nan=False))


_OPENING = threading.Lock()


def open_evaluation(factory: str, params: str, state: Revisions) -> Evaluation:
    """The evaluation that `factory` makes of `params` (JSON), made once for a state of the artifacts and the code."""
    with _OPENING:  # lru_cache alone lets two threads make it twice
        return _open_evaluation(factory, params, state)


@functools.lru_cache(maxsize=2)
def _open_evaluation(factory: str, params: str, state: Revisions) -> Evaluation:
    module, _, function = factory.partition(":")
    made: Evaluation = getattr(importlib.import_module(module), function)(validate(json.loads(params)))
    return made


def _score_with_retries(plan: Plan, batch: Batch) -> list[Row]:
    for delay in (*RETRY_DELAYS, None):
        try:
            return score(plan.target.factory, plan.params, batch, plan.revisions)
        except UserError:
            raise
        except Exception:
            if delay is None:
                raise
            time.sleep(delay)
    raise AssertionError("unreachable")


@dataclass
class Gathered:
    """Rows and failures as batches finish, in whatever order; prints a line now and then."""

    plan: Plan
    rows: dict[Batch, list[Row]] = field(default_factory=dict)
    failures: dict[Batch, Exception] = field(default_factory=dict)
    reused: int = 0
    started: float = field(default_factory=time.monotonic)
    printed: float = 0.0

    def __post_init__(self) -> None:
        print(self.plan, flush=True)

    @property
    def done(self) -> int:
        """Batches that are finished, one way or the other."""
        return len(self.rows) + len(self.failures)

    def add(self, batch: Batch, result: Callable[[], list[Row]], reused: bool = False) -> None:
        """Take the rows that `result` returns, or note what it raises."""
        try:
            self.rows[batch] = result()
            self.reused += reused
        except Exception as error:
            self.failures[batch] = error
        self._print_now_and_then()

    def outcome(self, figures: Path) -> Outcome:
        """Report on the rows. Raises the UserError of a batch, or one that counts the batches that failed."""
        for error in self.failures.values():
            if isinstance(error, UserError):
                raise error
        if self.failures:
            batch, error = min(self.failures.items(), key=lambda item: self.plan.batches.index(item[0]))
            raise UserError(
                f"{len(self.failures)} of {len(self.plan.batches)} batches failed {ATTEMPTS} times, the first "
                f"({batch}) with {type(error).__name__}: {_first_line(error)}; mend that and run the same command again"
            ) from error
        rows = [row for batch in self.plan.batches for row in self.rows[batch]]
        target, state = self.plan.target, self.plan.revisions
        figures.mkdir(parents=True, exist_ok=True)
        report = open_evaluation(target.factory, json.dumps(self.plan.params), state).report(rows, figures)
        return Outcome(rows, report, len(self.plan.batches), self.reused)

    def _print_now_and_then(self) -> None:
        now, total = time.monotonic(), len(self.plan.batches)
        if self.done < total and now - self.printed < 2:
            return
        self.printed = now
        scored = self.done - self.reused
        eta = (now - self.started) / scored * (total - self.done) if scored else 0.0
        reused = f", {self.reused} of them from an earlier run" if self.reused else ""
        failed = f", {len(self.failures)} failed" if self.failures else ""
        left = f", about {eta:.0f} s left" if self.done < total else f" in {now - self.started:.0f} s"
        print(f"{self.plan.target.name}: {self.done}/{total} batches{reused}{failed}{left}", flush=True)


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else "(no message)"


def write_outcome(outcome: Outcome, metrics: Path, rows: Path) -> None:
    """Write the metrics as JSON and the rows as JSON lines."""
    write_json(metrics, outcome.report.metrics)
    write_text(rows, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in outcome.rows))
