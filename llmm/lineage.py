"""Which artifact was made from which: checked whenever one is opened, never trusted.

Every artifact is a folder with a `lineage.json` beside its files. It names the kind of the artifact, the sha256 of each
file, one sha256 for the whole, and the sha256 of every artifact that it was made from. So a truncated file, a model
beside another tokenizer or an adapter on another base is refused by name before anything is computed with it.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from llmm.errors import UserError
from llmm.files import read_json, sha256_of, write_json

LINEAGE_FILE = "lineage.json"


@dataclass(frozen=True)
class Artifact:
    """One artifact on disk. `made_from` maps a kind ("tokenizer") to the sha256 of the artifact of that kind."""

    path: Path
    kind: str
    sha256: str
    made_from: dict[str, str]

    @property
    def short(self) -> str:
        """Twelve characters of the hash, for messages."""
        return self.sha256[:12]

    def require(self, parent: "Artifact") -> None:
        """Refuse (UserError) unless this artifact was made from exactly `parent`."""
        expected = self.made_from.get(parent.kind)
        if expected is None:
            raise UserError(
                f"{self.path} ({self.kind}) does not say which {parent.kind} it was made from: run `dvc repro`"
            )
        if expected != parent.sha256:
            raise UserError(
                f"{self.path} ({self.kind}) belongs to {parent.kind} {expected[:12]}, but {parent.path} is "
                f"{parent.short}: run `dvc repro`, or put the {parent.kind} that it belongs to back"
            )


def seal(folder: Path, kind: str, made_from: list[Artifact], final_path: Path | None = None) -> Artifact:
    """Write `lineage.json` for the files now in `folder` and return the artifact.

    `final_path` is where the folder will stand, when it is still a temporary one (see `files.atomic_folder`).
    """
    folder = Path(folder)
    files = {
        file.relative_to(folder).as_posix(): sha256_of(file)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != LINEAGE_FILE
    }
    parents = {parent.kind: parent.sha256 for parent in made_from}
    whole = sha256_of(json.dumps({"kind": kind, "files": files}, sort_keys=True))
    write_json(folder / LINEAGE_FILE, {"kind": kind, "sha256": whole, "made_from": parents, "files": files})
    return Artifact(Path(final_path or folder), kind, whole, parents)


def open_artifact(folder: Path, kind: str) -> Artifact:
    """Check the artifact in `folder` and return it.

    Raises UserError where it is missing, of another kind, or where a file is missing or differs from its recorded hash.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not there: `dvc repro` makes the {kind}")
    record = read_json(folder / LINEAGE_FILE)
    try:
        found, files, whole, made_from = (record[key] for key in ("kind", "files", "sha256", "made_from"))
        whole_record = all(map(isinstance, (found, files, whole, made_from), (str, dict, str, dict)))
    except (KeyError, TypeError):
        whole_record = False
    if not whole_record:
        raise UserError(f"{folder / LINEAGE_FILE} is no lineage record: delete {folder} and run `dvc repro`") from None
    if found != kind:
        raise UserError(f"{folder} holds a {found}, but a {kind} was expected: check the path")
    for name, expected in files.items():
        file = folder / name
        if not file.is_file():
            raise UserError(f"{file} is missing from the {kind}: delete {folder} and run `dvc repro`")
        if sha256_of(file) != expected:
            raise UserError(
                f"{file} is damaged or was edited (its sha256 is not {expected[:12]}…): delete {folder} "
                "and run `dvc repro`"
            )
    if sha256_of(json.dumps({"kind": kind, "files": files}, sort_keys=True)) != whole:
        raise UserError(f"{folder / LINEAGE_FILE} was edited: delete {folder} and run `dvc repro`")
    return Artifact(folder, kind, whole, dict(made_from))


def code_sha256(*names: str) -> str:
    """One hash of all Python files below the given folders of this project: which code made this."""
    root = Path(__file__).parents[1]
    files = sorted(file for name in names for file in (root / name).rglob("*.py"))
    return sha256_of(*(part for file in files for part in (file.relative_to(root).as_posix(), file)))
