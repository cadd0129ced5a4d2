"""The toy evaluation as a flow, and as a stage: `python -m toy_flow [--no-prefect]`."""

from pipelines.flows.engine import Options, Outcome, Target
from pipelines.flows.stage import evaluation_stage
from pipelines.stage import run_stage

TOY = Target("toy", "toy_evaluation:toy_evaluation")


def toy(workers: int = 1, fresh: bool = False) -> Outcome:
    """What the stage calls: makes the flow only here, so that a plain run never imports prefect."""
    from prefect import flow

    from llmm.params import load_params
    from pipelines.flows.fanout import run_in_home

    def run() -> Outcome:
        return run_in_home(TOY, load_params(), Options(workers=workers, fresh=fresh), "threads")

    made: Outcome = flow(name="toy")(run)()
    return made


if __name__ == "__main__":
    run_stage("toy", evaluation_stage(TOY, "toy_flow:toy"))
