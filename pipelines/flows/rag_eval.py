"""The flow `rag-eval`: retrieval and answers from the index, beside their baselines."""

from prefect import flow

from llmm.params import load_params
from pipelines.flows.engine import Outcome, default_workers
from pipelines.flows.fanout import run_in_home
from pipelines.flows.parameters import Limit, Positive, Runner, Workers, options, overridden
from pipelines.flows.targets import RAG

_DEFAULTS = load_params().rag_eval  # what the form shows


@flow(
    name="rag-eval",
    description="Retrieval (BM25, dense, hybrid) and question answering over the index, item by item, with intervals.",
)
def rag_eval(
    suites: list[str] = [],  # noqa: B006 (prefect copies it)
    limit: Limit = 0,
    top_k: Positive = _DEFAULTS.top_k,
    workers: Workers = default_workers(),  # noqa: B008
    runner: Runner = "threads",
    fresh: bool = False,
) -> Outcome:
    """Score the RAG suites; the defaults are those of params.yaml, everything else comes from there.

    Args:
        suites: Names of the suites to run; none: all of them.
        limit: Run only the first so many items of each suite; 0: all of them.
        top_k: Chunks that retrieval returns.
        workers: Batches that are scored at a time.
        runner: Where batches are scored: threads of one process, or processes of a local Dask cluster.
        fresh: Score again what an earlier run with the same models, data and code has stored.
    """
    params = overridden(load_params(), "rag_eval", top_k=top_k)
    return run_in_home(RAG, params, options(suites, limit, workers, fresh), runner)
