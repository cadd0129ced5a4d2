"""Runs an evaluation by Prefect: a task for each batch, stored results, artifacts to look at.

A task is given references (the evaluation's name, its parameters, three revisions), never a model. Its result is stored
under a hash of these and of its source. So a run that was killed scores only the batches that are missing, and a
changed model, data set or line of code scores all of them again.
"""

import base64
import mimetypes
import re
import time
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from prefect import runtime, task
from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import INPUTS, TASK_SOURCE
from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture, as_completed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from llmm.errors import UserError
from llmm.evaluation import Batch, Row
from llmm.params import Params
from pipelines.flows.engine import (
    ATTEMPTS,
    RETRY_DELAYS,
    Gathered,
    Options,
    Outcome,
    Plan,
    Target,
    score,
    write_outcome,
)
from pipelines.flows.parameters import Runner
from pipelines.flows.revisions import Revisions
from pipelines.flows.settings import HOME


def _may_help(task: Any, task_run: Any, state: Any) -> bool:
    """Whether another attempt can end otherwise: not where the user has to mend something first."""
    return not isinstance(state.result(raise_on_failure=False), UserError)


@task(
    name="score-batch",
    description="Score the items `start` to `stop` of a suite: one row for each.",
    task_run_name="{suite} {start}-{stop}",
    retries=ATTEMPTS - 1,
    retry_delay_seconds=list(RETRY_DELAYS),
    retry_condition_fn=_may_help,
    persist_result=True,
    result_serializer="json",
    cache_policy=INPUTS + TASK_SOURCE,
)
def score_batch(
    factory: str,
    params: dict[str, Any],
    suite: str,
    start: int,
    stop: int,
    model_rev: str,
    data_rev: str,
    code_rev: str,
) -> list[Row]:
    """Rows of one batch; every argument is part of the key that the result is stored under."""
    return score(factory, params, Batch(suite, start, stop), Revisions(model_rev, data_rev, code_rev))


def run_in_flow(target: Target, params: Params, options: Options, figures: Path, runner: Runner = "threads") -> Outcome:
    """Run `target` by Prefect tasks; to be called inside a flow. Figures go into the folder `figures`.

    Raises UserError, after all other batches, where one failed `ATTEMPTS` times.
    """
    if FlowRunContext.get() is None:
        raise RuntimeError("run_in_flow is for the inside of a flow")
    plan = Plan.of(target, params, options)
    gathered = Gathered(plan)
    progress = _Progress(target.name)
    scorer = score_batch.with_options(refresh_cache=options.fresh)
    with _task_runner(runner, options.workers) as pool:
        futures: dict[PrefectFuture[list[Row]], Batch] = {
            pool.submit(scorer, parameters=_arguments(plan, batch)): batch for batch in plan.batches
        }
        for future in as_completed(list(futures)):
            future.wait()  # as_completed may yield before the final state is at hand
            gathered.add(futures[future], future.result, reused=future.state.name == "Cached")
            progress.show(gathered.done / len(plan.batches))
    outcome = gathered.outcome(figures)
    publish(target.name, outcome)
    return outcome


def run_in_home(target: Target, params: Params, options: Options, runner: Runner) -> Outcome:
    """`run_in_flow` with a folder of the flow run's own, `.prefect/reports/NAME`, for figures, metrics and rows.

    The pipeline's own files are never touched: they are written by the stage, from what the flow returns.
    """
    folder = HOME / "reports" / str(runtime.flow_run.get_name())
    outcome = run_in_flow(target, params, options, folder, runner)
    write_outcome(outcome, folder / "metrics.json", folder / "rows.jsonl")
    return outcome


def publish(name: str, outcome: Outcome) -> None:
    """Make artifacts of a report: its text, a table of all metrics, its own tables, its figures."""
    prefix = _key(name)
    if outcome.report.markdown:
        create_markdown_artifact(outcome.report.markdown, key=f"{prefix}-report", description=f"{name}: report")
    metrics = [{"metric": key, "value": value} for key, value in flat(outcome.report.metrics)]
    create_table_artifact(metrics, key=f"{prefix}-metrics", description=f"{name}: all metrics")
    for title, table in outcome.report.tables.items():
        create_table_artifact(table, key=f"{prefix}-{_key(title)}", description=title)
    for figure in outcome.report.figures:
        create_image_artifact(_data_uri(figure), key=f"{prefix}-{_key(figure.stem)}", description=figure.stem)


def flat(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Leaves of nested dicts with dotted names: {"a": {"b": 1}} is [("a.b", 1)]."""
    leaves: list[tuple[str, Any]] = []
    for key, value in tree.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        leaves += flat(value, name) if isinstance(value, dict) else [(name, value)]
    return leaves


class _Progress:
    """A progress artifact that is updated every two seconds: each update costs 11 ms."""

    def __init__(self, name: str) -> None:
        key = f"{_key(name)}-progress"
        self.artifact = cast(UUID, create_progress_artifact(0.0, key=key, description=f"{name}: batches done"))
        self.shown = time.monotonic()

    def show(self, share: float) -> None:
        if share < 1 and time.monotonic() - self.shown < 2:
            return
        self.shown = time.monotonic()
        update_progress_artifact(self.artifact, round(100 * share, 1))


def _task_runner(runner: Runner, workers: int) -> TaskRunner[Any]:
    if runner == "threads":
        return ThreadPoolTaskRunner(max_workers=workers)
    from prefect_dask.task_runners import DaskTaskRunner

    return DaskTaskRunner(cluster_kwargs={"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None})


def _arguments(plan: Plan, batch: Batch) -> dict[str, Any]:
    return {
        "factory": plan.target.factory,
        "params": plan.params,
        "suite": batch.suite,
        "start": batch.start,
        "stop": batch.stop,
        "model_rev": plan.revisions.model,
        "data_rev": plan.revisions.data,
        "code_rev": plan.revisions.code,
    }


def _data_uri(figure: Path) -> str:
    kind = mimetypes.guess_type(figure.name)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(figure.read_bytes()).decode()}"


def _key(text: str) -> str:
    """`text` as Prefect wants its keys: lowercase letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
