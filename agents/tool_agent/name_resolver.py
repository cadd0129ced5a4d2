"""What a dotted name stands for: imports, assignments and base classes, followed in the source and never run.

People know things by the names under which they use them, and often those are not where they are defined:
`os.path.join` is a function of posixpath, `random.choice` a method of a hidden `Random`, and what
`ArgumentParser.add_argument` does stands in a base class.
"""

import ast
import contextlib
import functools
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from llmm.corpus.python_objects import parse

_MOST_STEPS, _LONGEST = 200, 300  # no real name takes as many, or has as many characters on its way


@dataclass
class _Scope:
    """What a module and the classes in it give other names to; a target is "" where it is no name."""

    targets: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    instances: set[str] = field(default_factory=set)  # names whose targets are classes of which they are instances
    bases: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    stars: list[str] = field(default_factory=list)  # modules all of whose names are imported


class NameResolver:
    """Which of the `known` qualified names another name means, by the `texts` of modules under their dotted names."""

    def __init__(self, texts: Mapping[str, str], known: Container[str]) -> None:
        self._texts, self._known = texts, known
        self._packages = {name.rpartition(".")[0] for name in texts}
        self._scope_of = functools.cache(self._read)

    def resolve(self, name: str) -> str | None:
        """The known name of what Python would find under `name`, as far as that can be told without running anything;
        None where it is nothing, or nothing known. Of several branches the first counts that leads to a known name."""
        return self._follow(name, set())

    def _follow(self, name: str, seen: set[str]) -> str | None:
        if name in self._known:
            return name
        if name in seen or len(seen) == _MOST_STEPS or len(name) > _LONGEST:
            return None
        seen.add(name)
        parts = name.split(".")
        for size in range(len(parts) - 1, 0, -1):
            module = ".".join(parts[:size])
            if module in self._texts:
                found = (self._follow(other, seen) for other in self._other_names(module, parts[size:]))
                return next((one for one in found if one), None)
        return None

    def _other_names(self, module: str, parts: Sequence[str]) -> Iterator[str]:
        """What `parts`, one after the other from inside `module`, are called elsewhere."""
        scope = self._scope_of(module)
        for size in range(len(parts), 0, -1):
            name, rest = ".".join(parts[:size]), parts[size:]
            if name in scope.targets:  # it hides what a base class or a star would give
                if rest or name not in scope.instances:
                    yield from (".".join([target, *rest]) for target in scope.targets[name] if target)
                return
            if rest and name in scope.bases:
                yield from (".".join([base, *rest]) for base in scope.bases[name])
                return
        yield from (".".join([star, *parts]) for star in scope.stars)

    def _read(self, module: str) -> _Scope:
        scope = _Scope()
        tree = parse(self._texts[module])
        with contextlib.suppress(RecursionError):  # of a thousand branches, one inside the other, the first ones count
            self._bind(tree.body if tree else [], module, [], scope)
        return scope

    def _bind(self, body: Sequence[ast.stmt], module: str, owners: list[str], scope: _Scope) -> None:
        """Put into `scope` what statements of a module, or of the class `owners`, bind, whichever branch is taken."""
        for node in body:
            if isinstance(node, ast.ClassDef):
                for base in node.bases:  # IO[str] has all that IO has
                    base = base.value if isinstance(base, ast.Subscript) else base
                    scope.bases[".".join([*owners, node.name])] += _dotted(base, module, owners)
                self._bind(node.body, module, [*owners, node.name], scope)
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                _bind_value(node, module, owners, scope)
            elif isinstance(node, ast.Import):
                for imported in node.names:
                    top = imported.name.partition(".")[0]
                    scope.targets[imported.asname or top].append(imported.name if imported.asname else top)
            elif isinstance(node, ast.ImportFrom):
                self._bind_from(node, module, scope)
            elif isinstance(node, ast.If | ast.Try | ast.With):
                handled = [statement for handler in getattr(node, "handlers", []) for statement in handler.body]
                self._bind([*node.body, *getattr(node, "orelse", []), *handled], module, owners, scope)

    def _bind_from(self, node: ast.ImportFrom, module: str, scope: _Scope) -> None:
        parts = module.split(".")
        up = node.level - (module in self._packages)  # a package is what its own single dot means
        package = parts[: len(parts) - up] if node.level else []
        origin = ".".join([*package, *([node.module] if node.module else [])])
        for imported in node.names:
            if imported.name == "*":
                scope.stars.append(origin)
            else:
                scope.targets[imported.asname or imported.name].append(f"{origin}.{imported.name}")


def _bind_value(node: ast.Assign | ast.AnnAssign, module: str, owners: Sequence[str], scope: _Scope) -> None:
    """`name = value`, where the value may be a name or an instance of one."""
    instance = isinstance(node.value, ast.Call)
    targets = _dotted(node.value.func if isinstance(node.value, ast.Call) else node.value, module, owners)
    for named in node.targets if isinstance(node, ast.Assign) else [node.target]:
        if isinstance(named, ast.Name) and node.value is not None:
            name = ".".join([*owners, named.id])
            scope.targets[name] += targets or [""]
            if instance:
                scope.instances.add(name)


def _dotted(value: ast.expr | None, module: str, owners: Sequence[str]) -> list[str]:
    """The dotted names that a name, or an attribute of one, may be: of its class and of its module."""
    attributes: list[str] = []
    while isinstance(value, ast.Attribute):
        attributes.insert(0, value.attr)
        value = value.value
    if not isinstance(value, ast.Name):
        return []
    return [".".join([module, *within, value.id, *attributes]) for within in ([owners, []] if owners else [[]])]
