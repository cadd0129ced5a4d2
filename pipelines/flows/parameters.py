"""Types of the flows' parameters, from which Prefect makes the UI's form (its words come from the docstrings)."""

from typing import Annotated, Any, Literal

from pydantic import Field

from llmm.params import Params, validate
from pipelines.flows.engine import Options

Limit = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Workers = Annotated[int, Field(ge=1, le=64)]
Runner = Literal["threads", "dask"]


def options(suites: list[str], limit: int, workers: int, fresh: bool) -> Options:
    """The form's values for the engine."""
    return Options(tuple(suites), limit, workers, fresh)


def overridden(params: Params, section: str, **values: Any) -> Params:
    """`params` with some values of one section replaced, checked again."""
    raw = params.model_dump()
    raw[section] |= values
    return validate(raw)
