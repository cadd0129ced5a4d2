"""What a dotted name stands for: on modules made for it, and against what Python itself finds."""

import importlib
import inspect
from dataclasses import replace
from functools import cache
from types import ModuleType

import pytest

from agents.tool_agent.assistant_tools import assistant_toolbox
from agents.tool_agent.name_resolver import NameResolver
from llmm.corpus.python_objects import find_objects
from llmm.corpus.stdlib import stdlib_modules
from llmm.training.lora.chat import call_text
from tests.tiny_agent import OBJECTS

TEXTS = {
    "pack": "from .inner import Thing as Other, run\nfrom . import inner\n"
    "import pack.inner as short\nfrom .star import *\nhidden_by = 1\n",
    "pack.inner": (
        "import pack\n"
        "class Base:\n    def kept(self): ...\n    called = kept\n"
        "class Thing(Base):\n    def own(self): ...\n    again = own\n"
        "class Many(list[int], Base): ...\n"
        "class Hides(Base):\n    kept = None\n"
        "class Unknown(Base): ...\n"
        "item = Base['x']\n"
        "def run(): ...\n"
        "_hidden = Thing()\nmade = _hidden.own\nrun_too = also = run\ntyped: object = run\n"
    ),
    "pack.star": "from pack.inner import run as everywhere, run as hidden_by\n"
    "if True:\n    from missing import quick as run2\n"
    "try:\n    from missing import fast\nexcept ImportError:\n    from pack.inner import run as fast\n",
    "circle": "from circle import here\nfrom square import there\n",
    "square": "from circle import there",
    "broken": "def (",
    "notes": "Some words, and no Python.",
}
KNOWN = {f"pack.inner.{name}" for name in ("Base", "Base.kept", "Thing", "Thing.own", "Many", "run")}


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("pack.inner.run", "pack.inner.run"),
        ("pack.run", "pack.inner.run"),  # imported
        ("pack.Other", "pack.inner.Thing"),  # under another name
        ("pack.Other.own", "pack.inner.Thing.own"),
        ("pack.inner.Thing.kept", "pack.inner.Base.kept"),  # of a base class
        ("pack.Other.called", "pack.inner.Base.kept"),
        ("pack.inner.Many.kept", "pack.inner.Base.kept"),  # of the second one, beside list[int]
        ("pack.inner.Thing.again", "pack.inner.Thing.own"),  # another name in a class
        ("pack.inner._hidden.own", "pack.inner.Thing.own"),  # of an instance
        ("pack.inner._hidden", None),  # which is no class
        ("pack.inner.Hides.kept", None),  # no longer a function
        ("pack.inner.item", None),  # whatever is in a class
        ("pack.inner.Unknown", None),  # and not its base
        ("pack.hidden_by", None),  # a star gives what the module has not bound
        ("pack.inner.made", "pack.inner.Thing.own"),
        ("pack.inner.also", "pack.inner.run"),
        ("pack.inner.typed", "pack.inner.run"),
        ("pack.short.run", "pack.inner.run"),  # of a module under another name
        ("pack.everywhere", "pack.inner.run"),  # through a star
        ("pack.fast", "pack.inner.run"),  # where the first import finds nothing
        ("pack.run2", None),
        ("pack.inner.pack.inner.pack.run", "pack.inner.run"),
        ("pack.inner.Thing.none", None),
        ("pack", None),
        ("run", None),
        ("circle.here", None),
        ("circle.there", None),
        ("broken.x", None),
        ("notes.words", None),
        ("", None),
        ("..", None),
    ],
)
def test_a_name_is_followed_to_where_it_is_defined(name: str, meant: str | None) -> None:
    assert NameResolver(TEXTS, KNOWN).resolve(name) == meant


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"x{i} = x{i + 1}\n" for i in range(5000)),
        "if a:\n    pass\n" + "".join(f"elif a == {i}:\n    x0 = x{i}\n" for i in range(5000)),
        "import m" + ".m" * 5000,
        "x0 = " + "a." * 5000 + "a",
        "x0 = x0.x0",
        "".join(f"x{i} = x{i + 1}.a\nx{i} = x{i + 1}.b\n" for i in range(40)),  # two ways at each step
    ],
)
def test_a_module_made_to_be_hard_is_no_trouble(text: str) -> None:
    assert NameResolver({"m": text}, {"m.x5000"}).resolve("m.x0.y") is None


@cache
def _defined(module: str) -> set[str]:
    return {item.qualname for item in find_objects(_stdlib()[module], module, module, "train")}


@cache
def _stdlib() -> dict[str, str]:
    return {name: path.read_text(encoding="utf-8", errors="replace") for name, path in stdlib_modules()}


class _Known:
    """The objects of the standard library, of each module once it is asked for."""

    def __contains__(self, name: str) -> bool:
        parts = name.split(".")
        modules = (".".join(parts[:size]) for size in range(len(parts) - 1, 0, -1))
        return any(name in _defined(module) for module in modules if module in _stdlib())


def _of_python(module: ModuleType) -> dict[str, str]:
    """Public names in a module, its classes and the modules that it imports, and where Python says they are defined."""
    within = {f"{module.__name__}.{name}": value for name, value in vars(module).items()}
    for name, value in list(within.items()):
        if inspect.isclass(value) or inspect.ismodule(value):
            within |= {f"{name}.{attribute}": getattr(value, attribute, None) for attribute in dir(value)}
    public = {
        name: value for name, value in within.items() if not any(part.startswith("_") for part in name.split("."))
    }
    bare = {name: inspect.getattr_static(value, "__func__", value) for name, value in public.items()}
    defined = {name: value for name, value in bare.items() if inspect.isfunction(value) or inspect.isclass(value)}
    return {name: f"{inspect.unwrap(value).__module__}.{value.__qualname__}" for name, value in defined.items()}


def _constants(module: ModuleType) -> list[str]:
    """Public names in a module and its classes of numbers, texts and the like: no object of the source."""
    within = {f"{module.__name__}.{name}": value for name, value in vars(module).items()}
    for name, value in list(within.items()):
        if inspect.isclass(value):
            within |= {f"{name}.{attribute}": one for attribute, one in vars(value).items()}
    return [name for name, value in within.items() if isinstance(value, int | str | tuple | dict | list | None)]


MODULES = (
    "argparse",
    "configparser",
    "http.server",
    "json",
    "logging",
    "os",
    "random",
    "shutil",
    "tempfile",
    "unittest",
)


def test_python_finds_the_same() -> None:
    resolver, known = NameResolver(_stdlib(), _Known()), _Known()
    meant = {name: where for module in MODULES for name, where in _of_python(importlib.import_module(module)).items()}
    # not of what a module defines in a branch that Python has not taken
    meant = {name: where for name, where in meant.items() if where in known and (name == where or name not in known)}
    found = {name: resolver.resolve(name) for name in meant}
    assert sum(name != where for name, where in meant.items()) > 300  # so many stand elsewhere
    assert {name: where for name, where in found.items() if where not in (None, meant[name])} == {}
    assert sum(where is not None for where in found.values()) >= 0.98 * len(meant)
    constants = [name for module in MODULES for name in _constants(importlib.import_module(module))]
    assert len(constants) > 300
    assert {name: where for name in constants if (where := resolver.resolve(name))} == {}


def test_the_tool_looks_an_object_up_by_the_names_that_it_is_used_by() -> None:
    read: list[str] = []

    def texts() -> dict[str, str]:
        read.append("once")
        return {"jay": "from zed import unpack as open_up\n", "zed": "class Sub(Base): ...\n"}

    made = [replace(OBJECTS[0], qualname=name) for name in ("zed.Base", "zed.Base.kept", "zed.Sub", "zed.Sub.own")]
    tools = assistant_toolbox(None, [*OBJECTS, *made], texts)

    def asked(name: str) -> str:
        return tools.call(call_text("signature", {"name": name})).text

    assert asked("jay.loads") == "loads(s, *, strict=True)\nmodule jay\nParse a jay text."
    assert read == []  # no source is read for a name that is known
    assert asked("jay.open_up") == asked("zed.unpack") == asked("unpack")
    assert asked("Sub.kept") == asked("zed.Sub.kept") == asked("zed.Base.kept") == asked("Base.kept")
    for nothing in ("jay.open", "Sub.lost", "loads.kept", "Nobody.kept"):
        assert asked(nothing) == f"error: {nothing} not found"
    assert read == ["once"]
