"""The flow `rag-eval`: retrieval and answers from the index, beside their baselines."""

from typing import Annotated

from prefect import flow
from pydantic import Field

from llmm.params import load_params
from pipelines.flows.engine import Outcome, default_workers
from pipelines.flows.fanout import run_in_home
from pipelines.flows.parameters import Fresh, Limit, Runner, Suites, Workers, options, overridden
from pipelines.flows.targets import RAG

_DEFAULTS = load_params().rag_eval  # what the form shows


@flow(
    name="rag-eval",
    description="Retrieval (BM25, dense, hybrid) and question answering over the index, item by item, with intervals.",
)
def rag_eval(
    suites: Suites = [],  # noqa: B006 (prefect copies it)
    limit: Limit = 0,
    top_k: Annotated[int, Field(ge=1, description="Chunks that retrieval returns.")] = _DEFAULTS.top_k,
    workers: Workers = default_workers(),  # noqa: B008
    runner: Runner = "threads",
    fresh: Fresh = False,
) -> Outcome:
    """Score the RAG suites; the defaults are those of params.yaml, everything else comes from there."""
    params = overridden(load_params(), "rag_eval", top_k=top_k)
    return run_in_home(RAG, params, options(suites, limit, workers, fresh), runner)
