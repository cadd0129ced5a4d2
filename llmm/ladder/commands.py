"""What the commands `llmm check` and `llmm next` do; the command line itself only reads the arguments."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmm.errors import UserError
from llmm.ladder.chain import Standing, standing_of, standings
from llmm.ladder.criteria import Result
from llmm.ladder.journal import entry_of, predictions, template
from llmm.ladder.milestones import Milestone, find_milestone
from llmm.ladder.mine import check_mine, my_standings
from llmm.ladder.stubs import JOURNAL_NAME, learner_folder


@dataclass(frozen=True)
class Checked:
    """What `llmm check` found: heading, results, and experiment -> prediction."""

    heading: str
    results: Sequence[Result]
    predicted: Mapping[str, str]

    @property
    def passed(self) -> bool:
        """Whether every criterion holds."""
        return all(result.passed for result in self.results)


def check(id_: str, mine: Path | None) -> Checked:
    """Measure every criterion of a milestone now, on the reference or on the learner's files in `mine`."""
    milestone = find_milestone(id_)
    spec = milestone.spec
    if mine is None:
        from llmm.ladder.check import examine

        standing = standing_of(milestone)
        note = f" ({standing.state}: {standing.reason})" if standing.state == "locked" else ""
        predicted = predictions(entry_of(milestone), spec.experiments)
        return Checked(f"{milestone.label}{note}", examine(milestone).results, predicted)
    results = check_mine(milestone, mine)
    standing = next(s for s in my_standings(mine) if s.milestone.id == id_)
    note = f" ({standing.state}: {standing.reason})" if standing.state == "locked" else ""
    entry = entry_of(milestone, learner_folder(milestone, mine) / JOURNAL_NAME)
    return Checked(
        f"{milestone.label}, {learner_folder(milestone, mine)}{note}", results, predictions(entry, spec.experiments)
    )


def watch(id_: str, mine: Path | None, show: Callable[[Checked], None]) -> None:
    """Check again whenever a file of the milestone changes, until Ctrl-C."""
    while True:
        before = _stamps(find_milestone(id_), mine)
        try:
            show(check(id_, mine))
        except UserError as error:
            print(error)
        print("waiting for a change; Ctrl-C ends", flush=True)
        while _stamps(find_milestone(id_), mine) == before:
            time.sleep(0.3)


def _stamps(milestone: Milestone, mine: Path | None) -> dict[str, int]:
    folders = [milestone.folder] if mine is None else [learner_folder(milestone, mine)]
    files = [file for folder in folders for file in folder.rglob("*") if file.suffix in (".py", ".yaml", ".md")]
    return {str(file): file.stat().st_mtime_ns for file in files}


def next_step(mine: Path | None) -> tuple[str, str]:
    """What to read, do and write now, and what must be mended before one goes on ("" if nothing fails)."""
    found = standings() if mine is None else my_standings(mine)
    now = next((standing for standing in found if standing.state != "passed"), None)
    if now is None:
        return "All milestones are passed.", ""
    if now.state == "not built":
        return f"Everything that is built is passed. {now.milestone.label} has no exit criteria yet.", ""
    return _plan(now.milestone, mine), _refusal(now, mine) if now.state in ("failing", "stale") else ""


def _refusal(now: Standing, mine: Path | None) -> str:
    """One line: what fails, how to see it, and its hint."""
    id_, failing = now.milestone.id, now.reason.partition(":")[0]
    command = (
        f"llmm check {id_} --mine {mine}" if mine else "make ladder" if now.state == "stale" else f"llmm check {id_}"
    )
    hints = {criterion.id: f" Hint: {criterion.hint}" for criterion in now.milestone.spec.criteria}
    return f"{id_} is {now.state}: {now.reason}. First mend it (`{command}`).{hints.get(failing, '')}"


def _plan(milestone: Milestone, mine: Path | None) -> str:
    spec = milestone.spec
    lines = [f"{milestone.label}: {spec.question}", "", "Read", f"  {milestone.folder}/README.md"]
    lines += [f"  {paper}" for paper in spec.papers]
    if mine is None:
        lines += ["", "Do", "  make ladder", "", "Write (learning_journal.md)"]
    else:
        folder = learner_folder(milestone, mine)
        begin = [] if folder.is_dir() else [f"  llmm begin {milestone.id} --into {mine}"]
        contract = [f"  {folder}/{module}.py: {', '.join(names)}" for module, names in spec.contract.items()]
        lines += ["", "Do", *begin, *contract, f"  llmm check {milestone.id} --mine {mine} --watch"]
        lines += ["", f"Write ({folder / JOURNAL_NAME}; Predicted comes before the first run)"]
    lines += [f"  {line}" if line else "" for line in template(milestone).splitlines()]
    return "\n".join(lines).rstrip()
