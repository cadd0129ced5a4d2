"""Functions, classes and methods of Python source, read by `ast`: the user's code is never imported or run."""

import ast
import inspect
import io
import re
import tokenize
import warnings
from collections.abc import Iterator

from llmm.corpus.document import PythonObject

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

# a full stop before a word that does not start small, abbreviations aside; CJK ones stand alone
_SENTENCE_END = re.compile(
    r"""(?<!e\.g)(?<!i\.e)(?<!\beg)(?<!\bie)(?<!etc)(?<! vs)[.!?]["')\]]*"""
    r"""(?=\s+(?:["'`(\[*:]+\w|[^\W_a-z])|$)|[。！？]"""
)
_SIGNATURE = re.compile(r"[\w.]+\(.*\)(\s*->.*)?$")


def parse(source: str) -> ast.Module | None:
    """The syntax tree, or None where `source` is no Python that this interpreter reads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in other people's strings
        try:
            return ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def module_docstring(source: str) -> str:
    """The cleaned docstring of a module, '' where it has none or is no Python; reads no further than that."""
    passed_over = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE)
    try:
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        first = next(token for token in tokens if token.type not in passed_over)
        doc = ast.literal_eval(first.string) if first.type == tokenize.STRING else None
    except (tokenize.TokenError, SyntaxError, ValueError, StopIteration):
        return ""
    return inspect.cleandoc(doc) if isinstance(doc, str) else ""


def summary_of(doc: str) -> str:
    """The first sentence of a docstring on one line; a first paragraph that is only a signature is passed over."""
    for paragraph in re.split(r"\n[ \t]*\n", doc.strip()):
        line = " ".join(paragraph.split())
        if line and not _SIGNATURE.match(line):
            end = _SENTENCE_END.search(line)
            return line[: end.end()] if end else line
    return ""


def find_objects(text: str, document_id: str, module: str, split: str) -> list[PythonObject]:
    """All functions, classes and methods that `text` defines, in order, each qualified name once.

    Definitions under `if`, `try` and `with` count; functions inside functions do not, nobody can name them. Of several
    with one name (overloads, a property's setter, platform variants) the first with a docstring is taken. Empty where
    the text is no Python.
    """
    tree = parse(text)
    if tree is None:
        return []
    lines = _Lines(text)
    found: dict[str, PythonObject] = {}
    for node, owners in _definitions(tree.body, []):
        item = _describe(node, owners, lines, document_id, module, split)
        known = found.get(item.qualname)
        if known is None or (item.doc and not known.doc):
            found[item.qualname] = item
    return sorted(found.values(), key=lambda item: (item.start, -item.end))


def _definitions(body: list[ast.stmt], owners: list[str]) -> Iterator[tuple[Definition, list[str]]]:
    for node in body:
        if isinstance(node, Definition):
            yield node, owners
            if isinstance(node, ast.ClassDef):
                yield from _definitions(node.body, [*owners, node.name])
        elif isinstance(node, ast.If | ast.Try | ast.With):
            yield from _definitions(node.body, owners)
            yield from _definitions(getattr(node, "orelse", []), owners)
            for handler in getattr(node, "handlers", []):
                yield from _definitions(handler.body, owners)


def _describe(
    node: Definition, owners: list[str], lines: "_Lines", document_id: str, module: str, split: str
) -> PythonObject:
    doc = ast.get_docstring(node) or ""
    is_class = isinstance(node, ast.ClassDef)
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return PythonObject(
        qualname=".".join([module, *owners, node.name]),
        kind="class" if is_class else "method" if owners else "function",
        module=document_id,
        signature=_signature(node),
        summary=summary_of(doc),
        doc=doc,
        source=_without_docstring(node, first, lines, bool(doc)),
        split=split,
        start=lines.starts[first - 1] + node.col_offset,
        end=lines.offset(node.end_lineno or node.lineno, node.end_col_offset or 0),
    )


def _signature(node: Definition) -> str:
    """`name(arguments) -> result`; of a class its constructor without `self`, else `class Name(Base)`."""
    if isinstance(node, ast.ClassDef):
        for statement in node.body:
            if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
                arguments = statement.args
                own = arguments.posonlyargs or arguments.args
                shown = ast.arguments(
                    posonlyargs=arguments.posonlyargs[1:],
                    args=arguments.args if arguments.posonlyargs else arguments.args[1:],
                    vararg=arguments.vararg,
                    kwonlyargs=arguments.kwonlyargs,
                    kw_defaults=arguments.kw_defaults,
                    kwarg=arguments.kwarg,
                    defaults=arguments.defaults if own else [],
                )
                return f"{node.name}({ast.unparse(shown)})"
        bases = ", ".join(ast.unparse(base) for base in [*node.bases, *node.keywords])
        return f"class {node.name}({bases})" if bases else f"class {node.name}"
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{node.name}({ast.unparse(node.args)}){result}"


def _without_docstring(node: Definition, first: int, lines: "_Lines", has_doc: bool) -> str:
    start, end = lines.starts[first - 1], lines.offset(node.end_lineno or node.lineno, node.end_col_offset or 0)
    text = lines.text
    if not has_doc:
        code = text[start:end]
    else:
        docstring = node.body[0]
        cut_from = lines.offset(docstring.lineno, docstring.col_offset)
        cut_to = lines.offset(docstring.end_lineno or 0, docstring.end_col_offset or 0)
        if len(node.body) == 1:
            code = text[start:cut_from] + "..." + text[cut_to:end]
        elif node.body[1].lineno == docstring.end_lineno:  # 'doc'; x = 1
            code = text[start:cut_from] + text[lines.offset(node.body[1].lineno, node.body[1].col_offset) : end]
        else:
            code = text[start:cut_from].rstrip(" \t") + text[cut_to:end].partition("\n")[2].lstrip("\n")
    indent = " " * node.col_offset
    return "\n".join(line.removeprefix(indent) for line in code.split("\n"))


class _Lines:
    """Character offsets of a text from what `ast` reports: lines from 1 and columns in UTF-8 bytes."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.starts = [0]
        for line in text.split("\n"):
            self.starts.append(self.starts[-1] + len(line) + 1)

    def offset(self, line: int, column: int) -> int:
        start = self.starts[line - 1]
        content = self.text[start : self.starts[line] - 1]
        return start + (column if content.isascii() else len(content.encode()[:column].decode()))
