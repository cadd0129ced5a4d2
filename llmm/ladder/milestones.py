"""The fourteen milestones: what `milestones.yaml` lists, built or planned."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from llmm.errors import UserError
from llmm.ladder.spec import SPEC_FILE, Spec, load_spec, read_yaml
from llmm.paths import DATA

MILESTONES = Path("llmm/ladder/milestones.yaml")
REPORTS = DATA / "ladder" / "reports"
GROUND = "requirements.lock"  # what the first milestone stands on


@dataclass(frozen=True)
class Milestone:
    """One line of the ladder. `before` is the milestone that must be passed first, None for the first."""

    id: str
    phase: str
    title: str
    folder: Path
    figures: Path
    before: "Milestone | None"

    @property
    def is_built(self) -> bool:
        """Whether it has exit criteria."""
        return (self.folder / SPEC_FILE).exists()

    @property
    def package(self) -> str:
        """The Python name of its folder."""
        return ".".join(self.folder.parts)

    @property
    def label(self) -> str:
        """As headings say it: "M1 Logistic regression"."""
        return f"M{int(self.id[1:])} {self.title}"

    @property
    def earlier(self) -> "list[Milestone]":
        """All milestones below it, the nearest first."""
        return [self.before, *self.before.earlier] if self.before else []

    @property
    def report_path(self) -> Path:
        """Where the report of its check stands."""
        return REPORTS / f"{self.id}.json"

    @cached_property
    def spec(self) -> Spec:
        """Its milestone.yaml. Raises UserError where it is not there or is faulty."""
        if not self.is_built:
            raise UserError(f"{self.id} ({self.title}) is not built yet: it has no {self.folder / SPEC_FILE}")
        spec = load_spec(self.folder)
        if (spec.id, spec.title) != (self.id, self.title):
            raise UserError(f"{self.folder / SPEC_FILE} is of {spec.id} {spec.title}, expected {self.id} {self.title}")
        return spec


def load_milestones() -> list[Milestone]:
    """All milestones of the project in the current folder, in their order. Raises UserError for a faulty file."""
    content = read_yaml(MILESTONES)
    milestones: list[Milestone] = []
    for group in ("ladder", "planned"):
        for id_, entry in (content.get(group) or {}).items():
            milestones.append(_milestone(id_, entry, group, milestones[-1] if milestones else None))
    return milestones


def find_milestone(id_: str) -> Milestone:
    """The milestone called `id_`. Raises UserError, listing all, where there is none."""
    milestones = load_milestones()
    for milestone in milestones:
        if milestone.id == id_:
            return milestone
    raise UserError(f"no milestone {id_}: expected one of {', '.join(milestone.id for milestone in milestones)}")


def _milestone(id_: str, entry: Any, group: str, before: Milestone | None) -> Milestone:
    wanted = {"phase", "title", "folder"} | ({"figures", "prev"} if group == "ladder" else set())
    if not isinstance(entry, dict) or set(entry) != wanted:
        raise UserError(f"{MILESTONES}: {group}.{id_} must have exactly {', '.join(sorted(wanted))}")
    folder = Path(entry["folder"])
    figures = Path(f"visualizations/{id_}_{folder.name}")
    for key, expected in {"figures": figures.as_posix(), "prev": str(before.report_path) if before else GROUND}.items():
        if entry.get(key, expected) != expected:
            raise UserError(f"{MILESTONES}: {group}.{id_}.{key} is {entry[key]}: expected {expected}")
    return Milestone(id_, entry["phase"], entry["title"], folder, figures, before)
