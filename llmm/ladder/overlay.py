"""Other sources in the place of named modules: how a planted bug or a learner's file gets under an unchanged check.

An `Overlay` stands first on `sys.meta_path` and answers for the modules that it was given; all other imports go on as
always. So `from llmm.foundations.x.losses import gradient` in a check means whatever the overlay says it means.
"""

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType

from llmm.errors import UserError


@dataclass(frozen=True)
class Source:
    """Python source to load as a module; `path` is what tracebacks name."""

    path: str
    text: str


class Overlay(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Finds and loads the modules of `sources` (full module name -> source) and no other."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self.sources = dict(sources)

    def install(self) -> None:
        """Put it before all other finders. Raises RuntimeError where a module of it is loaded already."""
        if loaded := sorted(self.sources.keys() & sys.modules.keys()):
            raise RuntimeError(f"{loaded[0]} is loaded already: an overlay comes before the first import")
        sys.meta_path.insert(0, self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """A spec for a module of the overlay, None for every other one."""
        source = self.sources.get(fullname)
        if source is None:
            return None
        spec = importlib.machinery.ModuleSpec(fullname, self, origin=source.path)
        spec.has_location = True
        return spec

    def get_source(self, fullname: str) -> str:
        """The source text; also what shows lines in tracebacks."""
        return self.sources[fullname].text

    def get_code(self, fullname: str) -> CodeType:
        """The compiled source, its file name being the source's path."""
        source = self.sources[fullname]
        return compile(source.text, source.path, "exec", dont_inherit=True)

    def is_package(self, fullname: str) -> bool:
        """Modules only."""
        return False


def learner_sources(package: str, modules: Sequence[str], folder: Path) -> dict[str, Source]:
    """`folder`/<module>.py for each module of the contract, to stand in for `package`.<module>.

    Raises UserError where a file is missing or is no Python.
    """
    sources = {}
    for module in modules:
        path = folder / f"{module.replace('.', '/')}.py"
        try:
            text = path.read_text(encoding="utf-8")
            ast.parse(text)
        except FileNotFoundError:
            raise UserError(f"{path} is not there: `llmm begin` writes a stub of it") from None
        except SyntaxError as error:
            raise UserError(f"{path}:{error.lineno}: {error.msg}") from None
        except (UnicodeDecodeError, ValueError) as error:
            raise UserError(f"{path} is no Python: {error}") from None
        sources[f"{package}.{module}"] = Source(str(path), text)
    return sources
