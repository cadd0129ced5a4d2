"""What DVC runs of the ladder: `python -m llmm.ladder.run inputs` and `... experiments|check MILESTONE`."""

import sys
from pathlib import Path

from llmm.errors import UserError
from llmm.stage import Facts, run_as_stage

USAGE = "usage: python -m llmm.ladder.run inputs | experiments MILESTONE | check MILESTONE"
INPUTS = Path("data/ladder/inputs")


def inputs() -> None:
    """Write, for each built milestone, the sha256 of the files that decide its records and its report.

    DVC's stages depend on these lists and not on whole folders: a word in a README runs no experiment again, a word in
    one entry of the journal no check but its own.
    """
    from llmm.files import atomic_folder, write_json
    from llmm.ladder.milestones import load_milestones
    from llmm.ladder.sources import check_inputs, experiment_inputs

    with atomic_folder(INPUTS) as folder:
        for milestone in load_milestones():
            if milestone.is_built:
                write_json(folder / milestone.id / "experiments.json", experiment_inputs(milestone))
                write_json(folder / milestone.id / "check.json", check_inputs(milestone))


def experiments(milestone_id: str) -> Facts:
    """Run the experiments of a milestone and write its records."""
    from llmm.ladder.experiments import run_experiments
    from llmm.ladder.milestones import find_milestone

    return run_experiments(find_milestone(milestone_id))


def check(milestone_id: str) -> None:
    """Check a milestone and write its report. Raises UserError where it is locked or a criterion does not hold."""
    from llmm.ladder.chain import require_predecessor
    from llmm.ladder.check import examine
    from llmm.ladder.milestones import find_milestone
    from llmm.ladder.report import write_report
    from llmm.ladder.sources import report_inputs

    milestone = find_milestone(milestone_id)
    require_predecessor(milestone)
    judged = report_inputs(milestone)
    examination = examine(milestone, memo=True)
    write_report(milestone, [result.stored() for result in examination.results], examination.mutants, judged)
    for result in examination.results:
        print(f"{'ok  ' if result.passed else 'FAIL'} {result.line}")
    if failed := examination.failed:
        raise UserError(f"{len(failed)} of {len(examination.results)} criteria do not hold: {failed[0].line}")


def main(arguments: list[str]) -> None:
    """Exit code 2 for wrong usage, 1 for a failed run."""
    from llmm.ladder.records import timings_path

    match arguments:
        case ["inputs"]:
            run_as_stage("ladder inputs", inputs)
        case ["experiments", milestone]:
            run_as_stage(f"experiments@{milestone}", lambda: experiments(milestone), timings_path(milestone))
        case ["check", milestone]:
            run_as_stage(f"check@{milestone}", lambda: check(milestone))
        case _:
            print(USAGE, file=sys.stderr)
            sys.exit(2)


if __name__ == "__main__":
    main(sys.argv[1:])
