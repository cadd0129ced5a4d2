"""What the evaluations found, now or at another time: figures (`metrics`) and a row for every item (`evaluations`).

Figures are in git, rows in DVC's cache. So any revision has its figures, and its rows where the cache still has them.
"""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from llmm import paths
from llmm.errors import UserError
from llmm.evaluation import Row
from llmm.files import read_json


class Results(Protocol):
    """Figures and rows of one state of the project."""

    @property
    def where(self) -> str:
        """What messages call it."""
        ...

    def metrics(self, name: str) -> dict[str, Any]:
        """The figures of the evaluation `name`. Raises UserError where there are none."""
        ...

    def rows(self, name: str) -> list[Row] | None:
        """A row for every item, None where there are none or they are not at hand."""
        ...


@dataclass(frozen=True)
class FolderResults:
    """Results in a folder with `metrics` and `evaluations`, such as `data`, or in a folder that holds such a `data`."""

    folder: Path

    @property
    def where(self) -> str:
        """The folder."""
        return str(self.folder)

    @property
    def _data(self) -> Path:
        inner = self.folder / paths.DATA.name
        return inner if (inner / paths.METRICS.name).is_dir() else self.folder

    def metrics(self, name: str) -> dict[str, Any]:
        """See `Results`."""
        file = self._data / paths.METRICS.name / f"{name}.json"
        return _mapping(read_json(file), str(file))

    def rows(self, name: str) -> list[Row] | None:
        """See `Results`."""
        file = self._data / paths.EVALUATIONS.name / f"{name}.jsonl"
        return parse_rows(file.read_text(encoding="utf-8"), str(file)) if file.is_file() else None


@dataclass(frozen=True)
class RevisionResults:
    """Results at a git revision of this project; `commit` is its hash."""

    revision: str
    commit: str

    @property
    def where(self) -> str:
        """The revision with the commit that it stands for."""
        return f"{self.revision} ({self.commit[:10]})"

    def metrics(self, name: str) -> dict[str, Any]:
        """See `Results`."""
        path = (paths.METRICS / f"{name}.json").as_posix()
        found = _git("show", f"{self.commit}:./{path}")
        if found is None:
            raise UserError(f"{path} is not in git at {self.where}: name a revision that has it, or a folder")
        try:
            return _mapping(json.loads(found), f"{path} at {self.where}")
        except json.JSONDecodeError as error:
            raise UserError(f"{path} at {self.where} is no readable JSON ({error})") from None

    def rows(self, name: str) -> list[Row] | None:
        """See `Results`. DVC finds them in its cache, or in a remote where one is set."""
        import dvc.api

        path = (paths.EVALUATIONS / f"{name}.jsonl").as_posix()
        try:
            text = dvc.api.read(path, rev=self.commit, encoding="utf-8")
        except Exception:  # not in the cache, no remote, no repository of DVC: the library raises many kinds
            return None
        return parse_rows(text, f"{path} at {self.where}")


def open_results(name: str) -> Results:
    """The results in the folder `name`, or at the git revision `name`. Raises UserError where it is neither."""
    if name and Path(name).is_dir():  # an empty name would be the folder that one stands in
        return FolderResults(Path(name))
    commit = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if commit is None:
        raise UserError(f"{name!r} is no folder and no revision of this project's git: name one of them")
    return RevisionResults(name, commit.strip())


def parse_rows(text: str, where: str) -> list[Row]:
    """The rows of a JSON-lines file. Raises UserError, naming the line, where one has no id or suite."""
    rows = []
    for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):  # a row may hold U+2028
        try:
            row = json.loads(line)
            row["id"], row["suite"]
        except (json.JSONDecodeError, KeyError, TypeError):
            raise UserError(f"{where}, line {number}: no row with an id and a suite: run `dvc repro`") from None
        rows.append(row)
    return rows


def at(tree: Any, path: str) -> Any:
    """The value at `path`, "a.b.c", None where there is none."""
    for key in path.split("."):
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{where}: found {type(value).__name__}, expected figures by name: run `dvc repro`")
    return value


def _git(*arguments: str) -> str | None:
    """What git says, None where it fails."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, check=False)
    except FileNotFoundError:
        raise UserError("git is not installed: give a folder of results instead of a revision") from None
    return done.stdout.decode() if done.returncode == 0 else None
