"""Generated parts of the written work: all made from specs and planted bugs, none from results."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby

from llmm.ladder.demands import DEMANDS
from llmm.ladder.milestones import Milestone
from llmm.ladder.mutants import load_mutants
from llmm.ladder.spec import Criterion

README_PARTS = ("checklist", "kills")


def readme_parts(milestone: Milestone) -> dict[str, Callable[[], str]]:
    """The parts of a milestone's README."""
    return {"checklist": partial(checklist, milestone), "kills": partial(kills, milestone)}


def roadmap_parts(milestones: Sequence[Milestone]) -> dict[str, Callable[[], str]]:
    """The parts of roadmap.md."""
    return {
        "milestones": partial(overview, milestones),
        "demands": demands,
        "criteria": partial(criteria_tables, milestones),
    }


def checklist(milestone: Milestone) -> str:
    """What must hold, where it is measured and why it matters."""
    spec = milestone.spec
    lines = ["| criterion | what | must be | why |", "|---|---|---|---|"]
    lines += [f"| `{c.id}` | {_cell(c.what)}{_source(c)} | `{c.expected}` | {_cell(c.why)} |" for c in spec.criteria]
    roadmap = os.path.relpath("roadmap.md", milestone.folder)
    lines += ["", f"Beside these the ladder asks of every milestone what the [roadmap]({roadmap}) lists.", ""]
    return "\n".join(lines)


def kills(milestone: Milestone) -> str:
    """Each planted bug with the criterion that catches it."""
    lines = ["| bug | in | caught by |", "|---|---|---|"]
    lines += [f"| {_cell(m.bug)} | `{m.module}` | `{m.by}` |" for m in load_mutants(milestone)]
    return "\n".join([*lines, ""])


def overview(milestones: Sequence[Milestone]) -> str:
    """The phases with their milestones, and how many criteria each has."""
    lines = ["| | milestone | where | exit criteria |", "|---|---|---|---|"]
    for number, (phase, members) in enumerate(groupby(milestones, key=lambda m: m.phase), start=1):
        lines.append(f"| **Phase {number}** | **{phase}** | | |")
        for m in members:
            count = f"[{len(m.spec.criteria)}]({m.folder}/README.md#checklist)" if m.is_built else "not built yet"
            lines.append(f"| {m.label.partition(' ')[0]} | {m.title} | `{m.folder}` | {count} |")
    return "\n".join([*lines, ""])


def demands() -> str:
    """What the ladder asks of every milestone."""
    lines = ["| criterion | what | why |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| `{id_}` | {what} | {why} |" for id_, (what, why, _) in DEMANDS.items()), ""])


def criteria_tables(milestones: Sequence[Milestone]) -> str:
    """The exit criteria of every milestone that has some."""
    lines: list[str] = []
    for m in milestones:
        if m.is_built:
            lines += [f"### {m.label}", "", m.spec.question, "", "| criterion | what | must be |", "|---|---|---|"]
            lines += [f"| `{c.id}` | {_cell(c.what)}{_source(c)} | `{c.expected}` |" for c in m.spec.criteria]
            lines.append("")
    return "\n".join(lines)


def _source(criterion: Criterion) -> str:
    if criterion.record:
        return " (from the record)"
    return " (measured time)" if criterion.noisy else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
