"""The four tools as the assistant has them: an object has all names under which it can be used, and it is known what
their results answer."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from agents.tool_agent.answers import TOOL_OF, Kind
from agents.tool_agent.name_resolver import NameResolver
from agents.tool_agent.tools import ObjectNames, Search, Tool, Toolbox, make_toolbox
from llmm.corpus import PythonObject


@dataclass(frozen=True)
class AnsweringTool(Tool):
    """A tool whose results answer questions of these kinds, each in one way (answers.py)."""

    answers: tuple[Kind, ...] = ()


def assistant_toolbox(
    search: Search | None, objects: Sequence[PythonObject], module_texts: Callable[[], Mapping[str, str]] = dict
) -> Toolbox:
    """The four tools over one search function and one set of documented objects.

    `module_texts` gives the source of the modules, once an object is asked for by a name that it does not have.
    """
    names = UsedNames(objects, module_texts)
    return Toolbox(
        [
            AnsweringTool(
                tool.name,
                tool.description,
                tool.arguments,
                names.describe if tool.name == "signature" else tool.run,
                tuple(kind for kind, name in TOOL_OF.items() if name == tool.name),
            )
            for tool in make_toolbox(search, objects).tools.values()
        ]
    )


class UsedNames(ObjectNames):
    """Also by another name that the source of the modules gives an object."""

    def __init__(self, objects: Sequence[PythonObject], module_texts: Callable[[], Mapping[str, str]]) -> None:
        super().__init__(objects)
        self._module_texts = module_texts

    @functools.cached_property
    def _resolver(self) -> NameResolver:
        return NameResolver(self._module_texts(), self.exact)

    def find(self, name: str) -> PythonObject:
        """See ObjectNames. What Python would find comes before the end of another name; and what a class has from its
        base has the end of the class's name before it as well."""
        if name in self.exact or "." not in name:
            return super().find(name)
        meant = self._resolver.resolve(name)
        owner, _, last = name.rpartition(".")
        if not meant and name not in self.suffixes and len(self.suffixes.get(owner, ())) == 1:
            meant = self._resolver.resolve(f"{self.suffixes[owner][0]}.{last}")
        return super().find(meant or name)
