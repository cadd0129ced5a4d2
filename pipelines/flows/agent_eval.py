"""The flow `agent-eval`: tool choice, arguments, execution and answers of the tool agent, beside their baselines."""

from prefect import flow

from llmm.params import load_params
from pipelines.flows.engine import Outcome, default_workers
from pipelines.flows.fanout import run_in_home
from pipelines.flows.parameters import Limit, Positive, Runner, Workers, options, overridden
from pipelines.flows.targets import AGENT

_DEFAULTS = load_params().agent_eval  # what the form shows


@flow(
    name="agent-eval",
    description="The tool agent on new values and new phrasings: tool, arguments, execution, answer, with intervals.",
)
def agent_eval(
    suites: list[str] = [],  # noqa: B006 (prefect copies it)
    limit: Limit = 0,
    max_steps: Positive = _DEFAULTS.max_steps,
    workers: Workers = default_workers(),  # noqa: B008
    runner: Runner = "threads",
    fresh: bool = False,
) -> Outcome:
    """Score the agent's suites; the defaults are those of params.yaml, everything else comes from there.

    Args:
        suites: Names of the suites to run; none: all of them.
        limit: Run only the first so many items of each suite; 0: all of them.
        max_steps: Model turns that the agent may take for one task.
        workers: Batches that are scored at a time.
        runner: Where batches are scored: threads of one process, or processes of a local Dask cluster.
        fresh: Score again what an earlier run with the same models, data and code has stored.
    """
    params = overridden(load_params(), "agent_eval", max_steps=max_steps)
    return run_in_home(AGENT, params, options(suites, limit, workers, fresh), runner)
