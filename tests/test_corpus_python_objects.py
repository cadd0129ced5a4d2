"""Objects of Python source: what is found, and that offsets, code and docstrings are exact."""

import ast
import inspect
import json.decoder
import textwrap

from hypothesis import given
from hypothesis import strategies as st

from llmm.corpus.python_objects import find_objects, module_docstring, summary_of

SOURCE = '''\
# comment
"""Module doc."""
import sys

if sys.platform == "win32":
    def pick(path): return path
else:
    def pick(path, /, *rest: int, key=None, **more) -> str:
        """Pick é — from `path`. Second sentence."""
        return path


class Base(dict, metaclass=type):
    """A base."""

    @property
    def size(self):
        return 1

    @size.setter
    def size(self, value):
        """Sets the size."""

    class Inner:
        def __init__(self, a, b=2): "Doc é"; self.a = a

    async def wait(self):
        """wait(self) -> None

        Waits for it, e.g. long. Really.
        """

        text = """
not indented
"""
        def local(): pass
        return text


try:
    from x import y
except ImportError:
    def y(): pass
'''


def test_what_is_found() -> None:
    objects = {item.qualname: item for item in find_objects(SOURCE, "pkg/mod.py", "pkg.mod", "val")}
    assert {name.removeprefix("pkg.mod."): item.kind for name, item in objects.items()} == {
        "pick": "function",
        "Base": "class",
        "Base.size": "method",
        "Base.Inner": "class",
        "Base.Inner.__init__": "method",
        "Base.wait": "method",
        "y": "function",
    }
    assert {item.module for item in objects.values()} == {"pkg/mod.py"}
    assert {item.split for item in objects.values()} == {"val"}
    pick = objects["pkg.mod.pick"]
    assert pick.signature == "pick(path, /, *rest: int, key=None, **more) -> str"
    assert pick.summary == "Pick é — from `path`."
    assert pick.source == "def pick(path, /, *rest: int, key=None, **more) -> str:\n    return path"
    assert SOURCE[pick.start : pick.end].startswith("def pick(path, /")
    assert SOURCE[pick.start : pick.end].endswith("return path")
    assert objects["pkg.mod.Base"].signature == "class Base(dict, metaclass=type)"
    assert objects["pkg.mod.Base.Inner"].signature == "Inner(a, b=2)"
    assert objects["pkg.mod.Base.Inner.__init__"].source == "def __init__(self, a, b=2): self.a = a"
    assert objects["pkg.mod.Base.size"].source == "@size.setter\ndef size(self, value):\n    ..."
    wait = objects["pkg.mod.Base.wait"]
    assert wait.summary == "Waits for it, e.g. long."
    assert wait.source == (
        'async def wait(self):\n    text = """\nnot indented\n"""\n    def local(): pass\n    return text'
    )


def test_the_standard_library_agrees_with_inspect() -> None:
    """Real code: the objects of a module are those that Python itself reports, with their docs and code."""
    module = json.decoder
    text = inspect.getsource(module)
    objects = {item.qualname: item for item in find_objects(text, "json.decoder", "json.decoder", "train")}
    decode = objects["json.decoder.JSONDecoder.raw_decode"]
    assert decode.doc == inspect.getdoc(module.JSONDecoder.raw_decode)
    assert text[decode.start : decode.end] == inspect.getsource(module.JSONDecoder.raw_decode).strip()
    for item in objects.values():
        body = ast.parse(item.source).body[0]
        assert isinstance(body, ast.FunctionDef | ast.ClassDef)
        assert body.name == item.qualname.rpartition(".")[2]
        if item.doc:
            assert ast.get_docstring(body) is None
        original = ast.parse(textwrap.dedent(" " * 80 + "x") and text[item.start : item.end].lstrip())
        assert isinstance(original.body[0], type(body))


def test_unreadable_python_has_no_objects() -> None:
    for text in ("def f(:", "x = '\0'", "(" * 5000, "print 'two'"):
        assert find_objects(text, "m", "m", "train") == []


@given(st.text(max_size=200))
def test_any_text_is_survived(text: str) -> None:
    find_objects(text, "m", "m", "train")
    summary = summary_of(text)
    assert "\n" not in summary
    assert isinstance(module_docstring(text), str)


def test_summaries() -> None:
    assert summary_of("") == ""
    assert summary_of("One.  Two.") == "One."
    assert summary_of("Like i.e. this or v1.2 of it (see x.y). Next.") == "Like i.e. this or v1.2 of it (see x.y)."
    assert summary_of("Makes one (eg. `a`). 'plat' is what for.") == "Makes one (eg. `a`)."
    assert summary_of("f(a, b) -> c\n\nDoes c.") == "Does c."
    assert summary_of("Wrapped over\n   two lines\n\nMore.") == "Wrapped over two lines"


def test_module_docstrings() -> None:
    assert module_docstring("#!/bin/sh\n\n'''Doc.\n\n   More.\n   '''\nx") == "Doc.\n\nMore."
    assert module_docstring("import os\n'''no doc'''") == ""
    assert module_docstring("b'bytes'") == ""
