"""What DVC runs of the ladder: `python -m llmm.ladder.run experiments|check MILESTONE`."""

import sys

from llmm.errors import UserError
from llmm.stage import Facts, run_as_stage

USAGE = "usage: python -m llmm.ladder.run experiments|check MILESTONE"


def experiments(milestone_id: str) -> Facts:
    """Run the experiments of a milestone and write its records."""
    from llmm.ladder.experiments import run_experiments
    from llmm.ladder.milestones import find_milestone

    return run_experiments(find_milestone(milestone_id))


def check(milestone_id: str) -> None:
    """Check a milestone. Raises UserError where a criterion does not hold."""
    from llmm.ladder.check import examine
    from llmm.ladder.milestones import find_milestone

    examination = examine(find_milestone(milestone_id))
    for result in examination.results:
        print(f"{'  ok ' if result.passed else 'FAIL '} {result.id}: {result.expected}, got {result.got}")
    failed = [result for result in examination.results if not result.passed]
    if failed:
        raise UserError(f"{len(failed)} criteria do not hold, the first: {failed[0].id}: {failed[0].got}")


def main(arguments: list[str]) -> None:
    """Exit code 2 for wrong usage, 1 for a failed run."""
    from llmm.ladder.records import timings_path

    match arguments:
        case ["experiments", milestone]:
            run_as_stage(f"experiments@{milestone}", lambda: experiments(milestone), timings_path(milestone))
        case ["check", milestone]:
            run_as_stage(f"check@{milestone}", lambda: check(milestone))
        case _:
            print(USAGE, file=sys.stderr)
            sys.exit(2)


if __name__ == "__main__":
    main(sys.argv[1:])
