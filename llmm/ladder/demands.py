"""What the ladder asks of every milestone, beside the criteria of its own: what, why, and a hint for each."""

from collections.abc import Sequence

from llmm.ladder.criteria import Result
from llmm.ladder.mutants import FEWEST_MUTANTS

# id -> (what, why, hint)
DEMANDS = {
    "tests": (
        "Its tests pass",
        "The criteria are a summary; the tests are the specification.",
        "Run `python -m pytest` on the files that milestone.yaml names.",
    ),
    "planted-bugs": (
        f"At least {FEWEST_MUTANTS} planted bugs, each caught by the criterion that it names",
        "A check suite that lets a wrong variant live is no check.",
        "Tighten the criterion, or add one, until the survivor is seen.",
    ),
    "records": (
        "Each experiment's record is complete and made by the present code",
        "A number without its setup, spread and ablation says nothing.",
        "Complete what the line names in experiments.py, then run the experiments again.",
    ),
    "replay": (
        "Experiments that are run again give the same metrics",
        "A result that does not repeat is an anecdote.",
        "Seed every generator, and round metrics to the digits that are stable.",
    ),
    "readme": (
        "Its README has problem, derivations, plan, experiments, checklist and planted bugs",
        "What cannot be derived in writing has not been understood.",
        "`llmm log` writes the generated parts; the rest is yours.",
    ),
    "journal": (
        "Its journal entry is one's own, with numbers that are those of the record",
        "Writing down prediction and outcome is what turns a result into knowledge.",
        "`llmm next` prints the template; cite numbers as links into the record.",
    ),
    "papers": (
        "The notes on its papers say what they claim, where their equations live and what was reproduced",
        "A paper is read when its main equation runs.",
        "Each note has the sections Claim, Method, Equations and where they live, Reproduced, Doubts.",
    ),
}


def demand(id_: str, faults: Sequence[str]) -> Result:
    """The result of one of the demands, from the faults that were found."""
    what, why, hint = DEMANDS[id_]
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    fault = f"{faults[0]}{more}" if faults else ""
    return Result(id_, what, "", why, hint, passed=not faults, value="holds", fault=fault)
