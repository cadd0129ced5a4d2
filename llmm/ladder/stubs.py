"""Stubs for a learner, made from the reference: what each module of the contract must offer, and nothing of how.

Kept: module docstring, imports, constants and dataclasses, signatures and docstrings of the contract. Functions lose
their bodies, classes keep their public methods as stubs, everything else is dropped.
"""

import ast
from pathlib import Path

from llmm.errors import UserError
from llmm.files import write_text
from llmm.ladder.journal import template
from llmm.ladder.milestones import Milestone

NOT_WRITTEN = "not written yet"
JOURNAL_NAME = "journal.md"
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def learner_folder(milestone: Milestone, root: Path) -> Path:
    """Where a learner's modules of this milestone lie below their folder."""
    return root / f"{milestone.id}_{milestone.folder.name}"


def begin(milestone: Milestone, root: Path) -> list[Path]:
    """Write a stub of every module of the contract and a journal entry to fill in; returns the files.

    Files that are there already are someone's work: nothing is written (UserError) where one is.
    """
    folder = learner_folder(milestone, root)
    texts = {folder / f"{module.replace('.', '/')}.py": stub(milestone, module) for module in milestone.spec.contract}
    texts[folder / JOURNAL_NAME] = template(milestone)
    if there := [path for path in texts if path.exists()]:
        raise UserError(f"{there[0]} is there already: remove it, or begin in another folder")
    for path, text in texts.items():
        write_text(path, text)
    return list(texts)


def stub(milestone: Milestone, module: str) -> str:
    """The stub of one module of the contract. Raises UserError where the reference lacks a name of the contract."""
    path = milestone.folder / f"{module.replace('.', '/')}.py"
    names = milestone.spec.contract[module]
    text = path.read_text(encoding="utf-8")
    body = ast.parse(text).body
    known = {name for node in body for name in _names(node)}
    if missing := [name for name in names if name not in known]:
        raise UserError(f"{path} defines no {missing[0]}, which the contract of {milestone.id} names")
    lines = text.splitlines()
    while True:
        stubs = "\n".join(_gap(node, lines) + "\n".join(kept) for node in body if (kept := _kept(node, names, lines)))
        used = {node.id for node in ast.walk(ast.parse(stubs)) if isinstance(node, ast.Name)}
        # a type or a base class that signatures speak of
        spoken_of = [name for node in body if not isinstance(node, _Function) for name in _names(node) if name in used]
        if set(spoken_of) <= set(names):
            return stubs + "\n"
        names = [*names, *spoken_of]


def _kept(node: ast.stmt, names: list[str], lines: list[str]) -> list[str]:
    """The lines of a statement at the top of a module that a learner gets to see."""
    if isinstance(node, _Function):
        return _without_body(node, lines) if node.name in names else []
    if isinstance(node, ast.ClassDef):
        is_data = any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)
        return _stub_class(node, lines) if node.name in names or is_data else []
    if isinstance(node, ast.Assign | ast.AnnAssign):
        constant = any(name in names or name.lstrip("_").isupper() for name in _names(node))
        return _lines_of(node, lines) if constant and _is_plain(node) else []
    is_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    keep = _is_docstring(node) or isinstance(node, ast.Import | ast.ImportFrom) or is_types
    return _lines_of(node, lines) if keep else []


def _stub_class(node: ast.ClassDef, lines: list[str]) -> list[str]:
    """Docstring, fields, and the public methods (with __init__, __call__ and the like) without their bodies."""
    body: list[str] = []
    for inner in node.body:
        if isinstance(inner, _Function):
            is_dunder = inner.name.startswith("__") and inner.name.endswith("__")
            if is_dunder or not inner.name.startswith("_"):
                gap = [""] if body and body[-1] else []
                body += [*gap, *_without_body(inner, lines), ""]
        elif _is_docstring(inner) or (isinstance(inner, ast.Assign | ast.AnnAssign) and _is_plain(inner)):
            body += _lines_of(inner, lines) + ([""] if _is_docstring(inner) else [])
    while body and not body[-1]:
        body.pop()
    return [*_head(node, lines), *(body or [" " * (node.col_offset + 4) + "pass"])]


def _without_body(node: _Function, lines: list[str]) -> list[str]:
    docstring = _lines_of(node.body[0], lines) if _is_docstring(node.body[0]) else []
    refusal = f'raise NotImplementedError("{node.name} is {NOT_WRITTEN}")'
    if node.name == "__post_init__":  # it runs by itself, where a module's constant is made of the class too
        refusal = f"pass  # {NOT_WRITTEN}: nothing is refused so far"
    return [*_head(node, lines), *docstring, " " * (node.col_offset + 4) + refusal]


def _head(node: _Function | ast.ClassDef, lines: list[str]) -> list[str]:
    """Decorators and signature, without the comments between them and the body."""
    first = node.body[0]
    if first.lineno == node.lineno:  # all on one line
        return [*lines[_start(node) - 1 : node.lineno - 1], lines[node.lineno - 1][: first.col_offset].rstrip()]
    head = lines[_start(node) - 1 : _start(first) - 1]
    return [line for line in head if line.strip() and not line.lstrip().startswith("#")]


def _start(node: ast.stmt) -> int:
    """The line on which it starts, decorators included."""
    return min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])


def _lines_of(node: ast.stmt, lines: list[str]) -> list[str]:
    return lines[_start(node) - 1 : node.end_lineno]


def _names(node: ast.stmt) -> list[str]:
    """The names that a statement at the top of a module defines."""
    if isinstance(node, ast.ClassDef | _Function):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_plain(node: ast.Assign | ast.AnnAssign) -> bool:
    """Whether the value is data or a type: a lambda or a comprehension would give some of the solution away."""
    solution = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    return not any(isinstance(inner, solution) for inner in ast.walk(node))


def _gap(node: ast.stmt, lines: list[str]) -> str:
    """Empty lines before a statement at the top: two around functions and classes, else as in the reference."""
    if isinstance(node, ast.ClassDef | _Function):
        return "\n\n"
    return "" if _start(node) == 1 or lines[_start(node) - 2].strip() else "\n"
