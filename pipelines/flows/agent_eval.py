"""The flow `agent-eval`: tool choice, arguments, execution and answers of the tool agent, beside their baselines."""

from typing import Annotated

from prefect import flow
from pydantic import Field

from llmm.params import load_params
from pipelines.flows.engine import Outcome, default_workers
from pipelines.flows.fanout import run_in_home
from pipelines.flows.parameters import Fresh, Limit, Runner, Suites, Workers, options, overridden
from pipelines.flows.targets import AGENT

_DEFAULTS = load_params().agent_eval  # what the form shows


@flow(
    name="agent-eval",
    description="The tool agent on new values and new phrasings: tool, arguments, execution, answer, with intervals.",
)
def agent_eval(
    suites: Suites = [],  # noqa: B006 (prefect copies it)
    limit: Limit = 0,
    max_steps: Annotated[int, Field(ge=1, description="Model turns for one task.")] = _DEFAULTS.max_steps,
    workers: Workers = default_workers(),  # noqa: B008
    runner: Runner = "threads",
    fresh: Fresh = False,
) -> Outcome:
    """Score the agent's suites; the defaults are those of params.yaml, everything else comes from there."""
    params = overridden(load_params(), "agent_eval", max_steps=max_steps)
    return run_in_home(AGENT, params, options(suites, limit, workers, fresh), runner)
