"""What a stored result depends on, as three short hashes: the models, the data and the code behind an evaluation."""

import ast
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from llmm.files import sha256_of
from llmm.lineage import open_artifact


@dataclass(frozen=True)
class Revisions:
    """Hashes of what the rows of an evaluation follow from, apart from its parameters."""

    model: str
    data: str
    code: str


def of_artifacts(artifacts: tuple[tuple[Path, str], ...], files: tuple[Path, ...] = ()) -> str:
    """One hash of `artifacts`, as (folder, kind), and of `files`; a folder there stands for all files in it.

    Raises UserError where an artifact is missing, damaged or of another kind.
    """
    parts = [open_artifact(folder, kind).sha256 for folder, kind in artifacts]
    for path in files:
        found = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        parts += [f"{file.as_posix()}:{sha256_of(file)}" for file in found]
    return sha256_of("\n".join(parts))[:16]


def of_code(module: str) -> str:
    """One hash of the project's own source files that `module` consists of (see `code_files`)."""
    return sha256_of("\n".join(sha256_of(file) for file in code_files(module)))[:16]


def code_files(module: str) -> list[Path]:
    """The file of `module` and of everything that it imports, directly or not, from this project's packages.

    Imports inside functions count as well. Files of other packages do not: their versions are locked.
    """
    own = {"llmm", "agents", module.partition(".")[0]}
    files: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in files or name.partition(".")[0] not in own:
            continue
        if (file := _file_of(name)) is None:  # `from package import function`: no module of that name
            continue
        files[name] = file
        waiting += _imports(file)
        waiting += [name.rpartition(".")[0]] if "." in name else []
    return [files[name] for name in sorted(files)]


def _file_of(name: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec and spec.origin else None


def _imports(file: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names
