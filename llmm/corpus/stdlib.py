"""The Python standard library of the interpreter that runs: real English and real code, on every machine."""

import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llmm.corpus.document import SourceDocument
from llmm.corpus.formats import NotText, decode, to_text
from llmm.corpus.listing import Named, hash_of, sample, walk
from llmm.corpus.skipped import Skipped
from llmm.corpus.sources import SourceState
from llmm.errors import UserError

# tests are as large as the rest and mostly data; site-packages is not the standard library
_LEFT_OUT = frozenset(("test", "tests", "idle_test", "site-packages", "dist-packages"))


@dataclass(frozen=True)
class StdlibSource:
    """Every module without its tests, its dotted name as id; at most `limit` of them (0 for all)."""

    limit: int = 0

    def state(self, known: SourceState | None = None) -> SourceState:
        """Label, hash and count of the modules."""
        modules = stdlib_modules()
        version = ".".join(map(str, sys.version_info[:3]))
        return SourceState("stdlib", f"Python {version} standard library", hash_of(modules), len(modules))

    def read(self, skipped: Skipped) -> Iterator[SourceDocument]:
        """The modules in the order of their names."""
        for name, path in sample(stdlib_modules(), self.limit):
            try:
                text = decode(path.read_bytes())
            except (NotText, OSError) as error:
                skipped.add(str(error) if isinstance(error, NotText) else "unreadable", name)
                continue
            yield SourceDocument(name, to_text(f"{name}.py", text)[0].removesuffix(".py"), text, module=name)


def stdlib_modules(folder: Path | None = None) -> list[Named]:
    """Dotted names and files of the modules, sorted. Raises UserError where the interpreter comes without sources."""
    folder = folder or Path(sysconfig.get_paths()["stdlib"])
    modules = [
        (dotted_name(name), path) for name, path in walk(folder, _LEFT_OUT) if name.endswith(".py") and _is_module(name)
    ]
    if not modules:
        raise UserError(
            f"{folder} holds no .py files of the standard library: use a Python that has them, or corpus.source: files"
        )
    return sorted(modules)


def dotted_name(relative_path: str) -> str:
    """The module name of a relative path: "json/decoder.py" and "json/__init__.py" are json.decoder and json."""
    parts = relative_path.removesuffix(".py").split("/")
    if len(parts) > 1 and parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


def _is_module(relative_path: str) -> bool:
    """False for scripts in folders that are no packages, and for the record of how this Python was built."""
    parts = relative_path.removesuffix(".py").split("/")
    return all(part.isidentifier() for part in parts) and not parts[-1].startswith("_sysconfigdata")
