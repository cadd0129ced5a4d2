"""Offers both flows to the Prefect server at PREFECT_API_URL: `python -m pipelines.flows.serve PARENT`.

Runs until a signal comes. Each run that is started from the UI's form, or by `prefect deployment run`, is a process of
its own.
"""

import sys
from typing import cast

from pipelines.flows.server import follow_parent_into_death
from pipelines.flows.settings import configure


def main() -> None:
    """Serve `rag-eval/local` and `agent-eval/local`."""
    configure()
    from prefect import serve
    from prefect.deployments.runner import RunnerDeployment

    from pipelines.flows.agent_eval import agent_eval
    from pipelines.flows.rag_eval import rag_eval

    serve(
        *(
            cast(RunnerDeployment, flow.to_deployment(name="local", description=flow.description, tags=["evaluation"]))
            for flow in (rag_eval, agent_eval)
        ),
        limit=1,  # two runs at a time would only share the processor
        pause_on_shutdown=False,
        print_starting_message=False,
    )


if __name__ == "__main__":
    follow_parent_into_death(int(sys.argv[1]))
    main()
