"""The written part of a milestone: what its README and the notes on its papers must have."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from llmm.errors import UserError
from llmm.generated import fill, part_names, without_parts
from llmm.ladder.citations import citation_faults, citations, local_links
from llmm.ladder.milestones import Milestone
from llmm.ladder.parts import README_PARTS, readme_parts
from llmm.ladder.prose import placeholder, words

# section -> fewest words of one's own in it
README_SECTIONS = {
    "Problem": 40,
    "Derivations": 150,
    "Implementation plan": 40,
    "Experiments": 40,
    "Misconceptions": 30,
    "Checklist": 0,
    "Planted bugs": 0,
    "Going further": 15,
}
FEWEST_EQUATIONS = 3
PAPER_SECTIONS = {
    "Claim": 20,
    "Method": 20,
    "Equations and where they live": 5,
    "Reproduced": 15,
    "Doubts": 15,
}
_POINTER = re.compile(r"`(\w+)[:.](\w+)(?:[:.]\w+)?(?:\(\))?`")


def readme_faults(milestone: Milestone) -> list[str]:
    """One line for each fault of the milestone's README."""
    path = milestone.folder / "README.md"
    if not path.is_file():
        return [f"{path} is not there"]
    text = path.read_text(encoding="utf-8")
    return [f"{path}: {fault}" for fault in _readme_faults(milestone, path, text)]


def paper_faults(milestone: Milestone) -> list[str]:
    """One line for each fault of the notes on the milestone's papers."""
    faults = [] if milestone.spec.papers else ["milestone.yaml names no paper"]
    for paper in map(Path, milestone.spec.papers):
        if not paper.is_file():
            faults.append(f"{paper} is not there")
            continue
        text = paper.read_text(encoding="utf-8")
        faults += [f"{paper}: {fault}" for fault in _paper_faults(milestone, text)]
    return faults


def _readme_faults(milestone: Milestone, path: Path, text: str) -> Iterator[str]:
    own = without_parts(text)
    if not text.startswith(f"# {milestone.label}\n"):
        yield f"does not begin with `# {milestone.label}`"
    yield from _sections(own, README_SECTIONS)
    if (equations := own.count("$$") // 2) < FEWEST_EQUATIONS:
        yield f"{equations} displayed equations ($$), expected at least {FEWEST_EQUATIONS}"
    if mark := placeholder(own):
        yield f"still says {mark!r}"
    if missing := [part for part in README_PARTS if part not in part_names(text)]:
        yield f"has no part `<!-- generated: {missing[0]} -->`"
    try:
        if fill(text, readme_parts(milestone)) != text:
            yield "its generated parts are not what the spec says: `llmm log` writes them"
    except UserError as error:
        yield str(error)
    for target in local_links(own):
        if not (path.parent / target).exists():
            yield f"links {target}, which is not there"
    yield from citation_faults(own)


def _paper_faults(milestone: Milestone, text: str) -> Iterator[str]:
    if not re.match(r"# .+\(.+\d{4}\)\n", text):
        yield "does not begin with `# Title (authors, year)`"
    yield from _sections(text, PAPER_SECTIONS)
    if mark := placeholder(text):
        yield f"still says {mark!r}"
    pointers = _POINTER.findall(_section(text, "Equations and where they live"))
    inside = [(module, name) for module, name in pointers if module in milestone.spec.modules]
    if not inside:
        yield "points to no `module:function` of the milestone"
    for module, name in inside:
        if name not in _defined(milestone.folder / f"{module}.py"):
            yield f"points to `{module}:{name}`, which is not there"
    if not citations(_section(text, "Reproduced")):
        yield "**Reproduced** cites no number of a record"
    yield from citation_faults(text)


def _sections(text: str, expected: dict[str, int]) -> Iterator[str]:
    for heading, fewest in expected.items():
        if not re.search(rf"^## {re.escape(heading)} *$", text, re.MULTILINE):
            yield f"no section `## {heading}`"
        elif (count := len(words(_section(text, heading)))) < fewest:
            yield f"`## {heading}` has {count} words, expected at least {fewest}"


def _section(text: str, heading: str) -> str:
    found = re.search(rf"^## {re.escape(heading)} *$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def _defined(module: Path) -> set[str]:
    """Names of functions, classes and constants at the top of a module."""
    if not module.is_file():
        return set()
    names = set()
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names
