"""Which files decide a result: followed from import to import, without importing anything, and hashed.

A record is true to the code, and a report to all that it judged, only while these files are what they were.
"""

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from llmm.files import sha256_of
from llmm.ladder.journal import entry_sha256
from llmm.ladder.milestones import GROUND, Milestone
from llmm.ladder.records import record_path, timings_path

# how files are written, where things lie, what a person sees: none of it shapes a result
FRAME = {f"llmm/{name}.py" for name in ("device", "errors", "figures", "files", "lineage", "paths", "stage")}
_IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import[ \t]+(\([^)]*\)|[^\n]+)|import[ \t]+([^\n]+))", re.M)
_NAME = re.compile(r"[A-Za-z_][\w.]*")


def experiment_inputs(milestone: Milestone) -> dict[str, str]:
    """file -> sha256 for all that decides the records: experiments.py and what it imports."""
    return _hashes(_closure([milestone.folder / "experiments.py"]))


def code_inputs(milestone: Milestone) -> dict[str, str]:
    """file -> sha256 for the code that a check judges and judges by: modules, checks, tests, spec, planted bugs."""
    roots = [*milestone.folder.rglob("*.py"), *map(Path, milestone.spec.tests), Path("llmm/ladder/check.py")]
    return _hashes([*_closure(roots), *(milestone.folder / name for name in ("milestone.yaml", "mutants.yaml"))])


def check_inputs(milestone: Milestone) -> dict[str, str]:
    """file -> sha256 for all that people write and a check judges: the code, the README, notes, the journal's entry."""
    written = [milestone.folder / "README.md", *map(Path, milestone.spec.papers)]
    return code_inputs(milestone) | _hashes(written) | entry_sha256(milestone)


def made_inputs(milestone: Milestone) -> dict[str, str]:
    """file -> sha256 for what the experiments made: records and figures."""
    return _hashes([record_path(milestone.id), *milestone.figures.glob("*")])


def machine_inputs(milestone: Milestone) -> dict[str, str]:
    """file -> sha256 for all that decides the machine's part of a check: code, records, figures, locked environment."""
    return code_inputs(milestone) | made_inputs(milestone) | _hashes([Path(GROUND), timings_path(milestone.id)])


def report_inputs(milestone: Milestone) -> dict[str, str]:
    """file -> sha256 for all that a report speaks of."""
    return check_inputs(milestone) | made_inputs(milestone)


def _hashes(files: Iterable[Path | str]) -> dict[str, str]:
    names = {file if isinstance(file, str) else file.as_posix() for file in files} - FRAME
    return {name: sha256_of(Path(name)) for name in sorted(names) if Path(name).is_file()}


def _closure(roots: Iterable[Path]) -> set[str]:
    """The files and all of this project that they import, directly or not, the packages around them included."""
    packages = {entry.name for entry in Path().iterdir()}  # what is imported from others is not looked for at all
    found: set[str] = set()
    seen: set[str] = set()  # most names are of functions and classes: no such file, looked for once
    waiting = [root.as_posix() for root in roots if "__pycache__" not in root.parts]
    while waiting:
        file = waiting.pop()
        if file in seen:
            continue
        seen.add(file)
        path = Path(file)
        if path.is_file():
            found.add(file)
            folder = path.parent.as_posix()
            for name in _imports(str(path.absolute()), path.stat().st_mtime_ns):
                top = name.partition(".")[0]
                waiting += _files_of(name) if top in packages else [f"{folder}/{top}.py"]
    return found


@cache
def _imports(path: str, _: int) -> frozenset[str]:
    """Names that the file imports; a name from a module may be a function or a module, so both are in. The second
    argument, its time of change, makes the cache forget an edited file."""
    names: set[str] = set()
    for module, members, plain in _IMPORT.findall(Path(path).read_text(encoding="utf-8")):
        names.update(_NAME.findall(plain))
        if module:
            names.update((module, *(f"{module}.{member}" for member in _NAME.findall(members))))
    return frozenset(names)


@cache
def _files_of(name: str) -> tuple[str, ...]:
    """Where a module or name of this project may lie, its packages first."""
    parts = name.split(".")
    packages = ("/".join([*parts[:depth], "__init__.py"]) for depth in range(1, len(parts) + 1))
    return (*packages, "/".join(parts) + ".py")
