"""Parameters that both flows have, as the UI's form shows them."""

from typing import Annotated, Any, Literal

from pydantic import Field

from llmm.params import Params, validate
from pipelines.flows.engine import Options

Suites = Annotated[list[str], Field(description="Names of the suites to run; none: all of them.")]
Limit = Annotated[int, Field(ge=0, description="Run only the first so many items of each suite; 0: all of them.")]
Workers = Annotated[int, Field(ge=1, le=64, description="Batches that are scored at a time.")]
Runner = Annotated[
    Literal["threads", "dask"],
    Field(description="Where batches are scored: threads of this process, or processes of a local Dask cluster."),
]
Fresh = Annotated[
    bool, Field(description="Score again what an earlier run with the same models, data and code stored.")
]


def options(suites: list[str], limit: int, workers: int, fresh: bool) -> Options:
    """The form's values for the engine."""
    return Options(tuple(suites), limit, workers, fresh)


def overridden(params: Params, section: str, **values: Any) -> Params:
    """`params` with some values of one section replaced, checked again."""
    raw = params.model_dump()
    raw[section] |= values
    return validate(raw)
