"""The tools: what they compute, and what they refuse."""

import contextlib
import json
import math
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.tool_agent import sandbox
from agents.tool_agent.calculator import CalculationError, calculate
from agents.tool_agent.sandbox import SandboxError, SandboxMissing, run_python
from agents.tool_agent.snippets import MAX_CHARS, best_line
from agents.tool_agent.tools import MAX_RESULT_CHARS, make_toolbox
from llmm.training.lora.chat import call_text
from tests.tiny_agent import OBJECTS, toolbox

_EXPRESSIONS = st.recursive(
    st.integers(0, 9999).map(str) | st.decimals(0, 999, places=2).map(str),
    lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda t: f"({t[0]}{t[1]}{t[2]})"),
    max_leaves=6,
)


@given(_EXPRESSIONS)
@settings(max_examples=200, deadline=None)
def test_calculator_agrees_with_python(expression: str) -> None:
    try:
        expected = eval(expression)
    except ZeroDivisionError:
        with pytest.raises(CalculationError, match="division by zero"):
            calculate(expression)
        return
    assert math.isclose(float(calculate(expression)), expected, rel_tol=1e-9, abs_tol=1e-12)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("12*7", "84"),
        ("84/2", "42"),
        ("2000000000000001/1", "2000000000000001"),
        ("10**20/2", "50000000000000000000"),
        ("7/2", "3.5"),
        ("1/3", "0.3333333333"),
        ("sqrt(49)", "7"),
        ("-7%3", "2"),
        ("2**10", "1024"),
        ("0.1+0.2", "0.3"),
    ],
)
def test_calculator_shows_whole_numbers_whole(expression: str, value: str) -> None:
    assert calculate(expression) == value


@pytest.mark.parametrize(
    "expression",
    [
        "9**9**9",
        "10**201",
        "2**100000",
        "(10**50)*(10**50)",
        "__import__('os')",
        "a",
        "1 if 1 else 2",
        "[1]*10**9",
        "'a'*9",
        "sqrt(-1)",
        "(-8)**0.5",
        "1e400",
        "round(1,-10)",
        "abs(1,2)",
        "1+",
        "lambda: 1",
        "1<2",
        "True",
        "f(1)",
        "(" * 150,
        "1" * 61,
        "sqrt.x",
        "10**200/10**-200",
        "min()",
        "1j*1j",
    ],
)
def test_calculator_refuses(expression: str) -> None:
    with pytest.raises(CalculationError):
        calculate(expression)


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_calculator_never_raises_anything_else(expression: str) -> None:
    with contextlib.suppress(CalculationError):
        assert isinstance(calculate(expression), str)


@pytest.mark.parametrize(
    ("code", "output"),
    [
        ("sum(i*i for i in range(1,10+1))", "385"),
        ("'abc'[::-1]", "cba"),
        ("print('a')\nprint(2)", "a\n2"),
        ("import math\nmath.factorial(20)", "2432902008176640000"),
        ("sorted([3,1,2])", "[1, 2, 3]"),
        ("x=1", ""),
        ("", ""),
        ("# nothing", ""),
        ("x = 5\nx\n\n# the end", "5"),
        ("x=1; x+1", "2"),
        ("print('é'); 'é' + 'ü'", "é\néü"),
        ("'''a\n  b'''", "a\n  b"),
        ("if 1:\n    5", ""),
        ("'\x0c'\r7", "7"),
        ("print(1)\nNone", "1"),
        ("x=[]\nx.append(x)\nx", "[[...]]"),
    ],
)
def test_sandbox_runs_programs(code: str, output: str) -> None:
    assert run_python(code) == output


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("open('/etc/passwd').read()", "PermissionError"),
        ("open('/tmp/x','w')", "PermissionError"),
        ("import os\nos.listdir('/')", "PermissionError"),
        ("import os\nos.system('true')", "Error"),
        ("import socket", "ModuleNotFoundError"),
        ("import subprocess", "ModuleNotFoundError"),
        ("import urllib.request", "ModuleNotFoundError"),
        ("import ctypes", "ModuleNotFoundError"),
        ("while True: pass", "time limit exceeded"),
        ("x=[0]*10**9", "memory limit exceeded"),
        ("10**10**8", "memory limit exceeded"),
        ("x=[]\nwhile True: x.append('a'*1000)", "memory limit exceeded"),
        ("def f(): return f()\nf()", "RecursionError"),
        ("print('x'*10**6)", "limit|output"),
        ("'x'*1000", "output"),
        ("x=[1]\nfor i in range(60): x=[x,x]\nx", "memory limit|output"),  # small inside, endless as text
        ("x=[]\nfor i in range(10**5): x=[x]\nx", "."),
        ("'\ud800'", "surrogates"),
        ("a b", "."),
        ("1/0", "ZeroDivisionError"),
        ("__import__('os')", "NameError"),
        ("().__class__.__base__.__subclasses__()", "Error"),
        ("x" * 3000, "characters"),
    ],
)
def test_sandbox_refuses_and_limits(code: str, fault: str) -> None:
    with pytest.raises(SandboxError, match=fault):
        run_python(code)
    assert run_python("1+1") == "2"  # and goes on working


def test_sandbox_gives_the_same_result_every_time() -> None:
    code = "import random\nimport datetime\n(random.random(), str(datetime.datetime.now()))"
    assert run_python(code) == run_python(code)


def test_without_a_sandbox_code_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox._pool.cache_clear()
    monkeypatch.setitem(sys.modules, "pydantic_monty", None)
    try:
        with pytest.raises(SandboxMissing):
            run_python("1+1")
        result = toolbox().call(call_text("python", {"code": "1+1"}))
        assert not result.ok and "no Python sandbox" in result.text
    finally:
        sandbox._pool.cache_clear()


def test_signature_by_exact_name_and_by_unique_suffix() -> None:
    tools = toolbox()
    expected = "unpack(s, *, strict=True)\nmodule zed\nParse a zed text."
    assert tools.call(call_text("signature", {"name": "zed.unpack"})).text == expected
    assert tools.call(call_text("signature", {"name": "unpack"})).text == expected
    missing = tools.call(call_text("signature", {"name": "nothing.here"}))
    assert missing.text == "error: nothing.here not found" and not missing.ok
    several = tools.call(call_text("signature", {"name": "loads"}))
    assert several.text == "error: loads is not unique: jay.loads, zed.loads" and not several.ok


def test_search_numbers_its_hits_and_works_without_an_index() -> None:
    call = call_text("search_docs", {"query": "json"})
    assert toolbox().call(call).text == "[1] jay: Parse a JSON document."
    assert make_toolbox(None, OBJECTS).call(call).text == "error: there is no index to search"
    assert make_toolbox(lambda query, k: [], OBJECTS).call(call).text == "error: nothing found"


@pytest.mark.parametrize(
    "call",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"name":"calculator"}',
        '{"name":"rm","arguments":{}}',
        '{"name":["calculator"],"arguments":{}}',
        '{"name":"calculator","arguments":{"expression":7}}',
        '{"name":"calculator","arguments":{"expression":"1","extra":"2"}}',
        '{"name":"calculator","arguments":"1"}',
        '{"name":"calculator","arguments":{"expression":"import os"},"x":1}',
        '{"name":"signature","arguments":{"name":"a b"}}',
        "[" * 5000,
        '{"name":' + "1" * 5000 + "}",
    ],
)
def test_a_wrong_call_is_a_message_and_no_exception(call: str) -> None:
    result = toolbox().call(call)
    assert not result.ok and result.text.startswith("error: ") and len(result.text) <= MAX_RESULT_CHARS


@given(st.text(max_size=80))
@settings(max_examples=100, deadline=None)
def test_any_text_as_a_call(call: str) -> None:
    assert isinstance(toolbox().call(call).text, str)
    assert isinstance(toolbox().call(json.dumps({"name": "signature", "arguments": {"name": call}})).text, str)


@given(st.text(max_size=300), st.text(max_size=40))
def test_best_line_is_short_and_from_the_text(text: str, query: str) -> None:
    line = best_line(text, query)
    assert len(line) <= MAX_CHARS
    assert "\n" not in line
