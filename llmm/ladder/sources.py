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


def _hashes(files: Iterable[Path]) -> dict[str, str]:
    present = sorted({file for file in files if file.is_file() and file.as_posix() not in FRAME})
    return {file.as_posix(): sha256_of(file) for file in present}


def _closure(roots: Iterable[Path]) -> set[Path]:
    """The files and all of this project that they import, directly or not, the packages around them included."""
    found: set[Path] = set()
    seen: set[Path] = set()  # most names are of other packages or of functions: no such file, looked for once
    waiting = [root for root in roots if "__pycache__" not in root.parts]
    while waiting:
        file = waiting.pop()
        if file in seen:
            continue
        seen.add(file)
        if file.is_file():
            found.add(file)
            for name in _imports(str(file.absolute()), file.stat().st_mtime_ns):
                waiting += _files_of(name, file.parent)
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
def _files_of(name: str, beside: Path) -> tuple[Path, ...]:
    """Where the module `name` may lie, its packages first, for a file in the folder `beside`."""
    parts = name.split(".")
    packages = [Path(*parts[:depth], "__init__.py") for depth in range(1, len(parts) + 1)]
    return (*packages, Path(*parts).with_suffix(".py"), beside / f"{parts[0]}.py")
