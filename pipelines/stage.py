"""A stage of the pipeline: params.yaml read, run in the frame that all stages have (see `llmm.stage`)."""

from collections.abc import Callable

from llmm.params import Params, load_params
from llmm.paths import TIMINGS
from llmm.stage import Facts, follow_dvc_into_death, only_one, run_as_stage

__all__ = ["follow_dvc_into_death", "only_one", "run_stage"]


def run_stage(name: str, stage: Callable[[Params], Facts | None]) -> None:
    """Run `stage` with the parameters as the process of the DVC stage `name`; times go to data/timings/<name>.json."""
    run_as_stage(name, lambda: stage(load_params()), TIMINGS / f"{name}.json")
