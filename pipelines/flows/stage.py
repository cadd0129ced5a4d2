"""What the stages rag_eval and agent_eval do: choose Prefect or not, run, write metrics, rows and figures."""

import argparse
import importlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmm.errors import UserError
from llmm.files import atomic_folder
from llmm.params import Params
from llmm.paths import EVALUATIONS, FIGURES, METRICS
from pipelines.flows.engine import Options, Outcome, Target, default_workers, run_plainly, write_outcome
from pipelines.flows.settings import running_server


def evaluation_stage(target: Target, flow: str) -> Callable[[Params], dict[str, Any]]:
    """The stage's `main`: runs `target` by the flow "module:function", or plainly with `--no-prefect`."""

    def main(params: Params) -> dict[str, Any]:
        parser = argparse.ArgumentParser(prog=f"python -m pipelines.{target.name}")
        parser.add_argument("--no-prefect", action="store_true", help="run the same functions without Prefect")
        parser.add_argument("--fresh", action="store_true", help="score again what an earlier run has stored")
        chosen = parser.parse_args()
        options = Options(workers=default_workers(), fresh=chosen.fresh)
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as figures:
            if chosen.no_prefect:
                outcome = run_plainly(target, params, options, Path(figures))
            else:
                outcome = _run_by_prefect(target, params, options, Path(figures), flow)
            _write(target.name, outcome)
        return {
            "items": len(outcome.rows),
            "batches": outcome.batches,
            "batches_reused": outcome.reused,
            "evaluation_seconds": round(time.monotonic() - started, 1),
        }

    return main


def _run_by_prefect(target: Target, params: Params, options: Options, figures: Path, flow: str) -> Outcome:
    with running_server(lambda line: print(f"{target.name}: {line}", file=sys.stderr, flush=True)) as api_url:
        if api_url is None:
            return run_plainly(target, params, options, figures)
        print(f"{target.name}: Prefect at {api_url}", flush=True)
        import httpx
        from prefect.exceptions import PrefectException

        module, _, function = flow.partition(":")
        try:
            outcome: Outcome = getattr(importlib.import_module(module), function)(
                workers=options.workers, fresh=options.fresh
            )
        except (httpx.HTTPError, PrefectException) as error:
            raise UserError(
                f"Prefect's server at {api_url} failed ({type(error).__name__}); batches that were scored are stored: "
                "run the same command again, or with --no-prefect"
            ) from error
        return outcome


def _write(name: str, outcome: Outcome) -> None:
    with atomic_folder(FIGURES / name) as folder:
        for figure in outcome.report.figures:
            shutil.copy(figure, folder / figure.name)
    write_outcome(outcome, METRICS / f"{name}.json", EVALUATIONS / f"{name}.jsonl")
