"""The four tools: typed arguments with a JSON schema, and results that are short text for the model."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agents.tool_agent.calculator import CalculationError, calculate
from agents.tool_agent.sandbox import SandboxError, SandboxMissing, run_python
from agents.tool_agent.snippets import best_line
from llmm.corpus import PythonObject

MAX_RESULT_CHARS = 400
HITS = 3
ERROR = "error: "


class ToolError(Exception):
    """A failed call, in words for the model."""


class Arguments(BaseModel):
    """Arguments of a tool: nothing beyond what is declared, nothing converted silently.

    A string's "source" says what of the conversation it is made of (see evidence.py).
    """

    model_config = ConfigDict(extra="forbid", strict=True)


class CalculatorArguments(Arguments):
    """An arithmetic expression such as "12*7" or "sqrt(2)"."""

    expression: Annotated[
        str,
        Field(pattern=r"^[0-9a-z.,+\-*/%() ]+$", min_length=1, max_length=120, json_schema_extra={"source": "numbers"}),
    ]


class SearchArguments(Arguments):
    """What to look for, in a few words."""

    query: Annotated[str, Field(min_length=1, max_length=120, json_schema_extra={"source": "phrase"})]


class SignatureArguments(Arguments):
    """A qualified name such as "json.loads", or the end of one."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.]+$", max_length=120, json_schema_extra={"source": "name"})]


class PythonArguments(Arguments):
    """A small program; the value of its last expression is the result."""

    code: Annotated[str, Field(min_length=1, max_length=300, json_schema_extra={"source": "program"})]


@dataclass(frozen=True)
class Tool:
    """A function that the model may call. `run` raises ToolError with words for the model."""

    name: str
    description: str
    arguments: type[Arguments]
    run: Callable[[Any], str]

    def schema(self) -> dict[str, Any]:
        """JSON schema of the arguments."""
        return self.arguments.model_json_schema()


@dataclass(frozen=True)
class ToolResult:
    """What the model reads after its call."""

    text: str
    ok: bool


@dataclass(frozen=True)
class Passage:
    """One result of a search: the id of its document and its text."""

    source: str
    text: str


Search = Callable[[str, int], Sequence[Passage]]  # (query, k) → the k best passages


class Toolbox:
    """The tools by name; every call is checked against its schema and no exception leaves it."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self.tools = {tool.name: tool for tool in tools}

    def call(self, text: str) -> ToolResult:
        """Run the call in `text` (JSON with "name" and "arguments"). A fault becomes a result that says so."""
        try:
            tool, arguments = self.parse(text)
            result = tool.run(arguments)
        except ToolError as error:
            return ToolResult(shorten(f"{ERROR}{error}"), ok=False)
        return ToolResult(shorten(result), ok=True)

    def parse(self, text: str) -> tuple[Tool, Arguments]:
        """The tool and its checked arguments. Raises ToolError where the call is not valid."""
        try:
            call = json.loads(text)
        except (ValueError, RecursionError):  # also a number with more digits than Python reads
            raise ToolError("the call is no JSON") from None
        if not isinstance(call, dict) or set(call) != {"name", "arguments"}:
            raise ToolError("a call has a name and arguments")
        tool = self.tools.get(call["name"]) if isinstance(call["name"], str) else None
        if tool is None:
            raise ToolError(f"there is no such tool; there are {', '.join(self.tools)}")
        try:
            return tool, tool.arguments.model_validate(call["arguments"])
        except ValidationError as error:
            raise ToolError(f"wrong arguments for {tool.name}: {error.errors()[0]['msg']}") from None


def shorten(text: str) -> str:
    """At most MAX_RESULT_CHARS characters."""
    return text if len(text) <= MAX_RESULT_CHARS else text[: MAX_RESULT_CHARS - 1].rstrip() + "…"


def make_toolbox(search: Search | None, objects: Sequence[PythonObject]) -> Toolbox:
    """The four tools over one search function and one set of documented objects."""
    by_name = ObjectNames(objects)

    def run_search(arguments: SearchArguments) -> str:
        if search is None:
            raise ToolError("there is no index to search")
        hits = search(arguments.query, HITS)
        if not hits:
            raise ToolError("nothing found")
        return "\n".join(
            f"[{number}] {hit.source}: {best_line(hit.text, arguments.query)}" for number, hit in enumerate(hits, 1)
        )

    return Toolbox(
        [
            Tool("calculator", "Evaluate an arithmetic expression.", CalculatorArguments, _calculator),
            Tool("search_docs", "Search the documentation.", SearchArguments, run_search),
            Tool("signature", "Signature, module and summary of an object.", SignatureArguments, by_name.describe),
            Tool("python", "Run a small Python program in a sandbox.", PythonArguments, _python),
        ]
    )


class ObjectNames:
    """Documented objects by their qualified name or a suffix of it that no other object has."""

    def __init__(self, objects: Sequence[PythonObject]) -> None:
        self.exact = {found.qualname: found for found in objects}
        self.suffixes: dict[str, list[str]] = {}
        for qualname in self.exact:
            parts = qualname.split(".")
            for start in range(1, len(parts)):
                self.suffixes.setdefault(".".join(parts[start:]), []).append(qualname)

    def find(self, name: str) -> PythonObject:
        """Raises ToolError where no object, or more than one, is called so."""
        if name in self.exact:
            return self.exact[name]
        candidates = self.suffixes.get(name, [])
        if not candidates:
            raise ToolError(f"{name} not found")
        if len(candidates) > 1:
            raise ToolError(f"{name} is not unique: {', '.join(candidates[:3])}")
        return self.exact[candidates[0]]

    def describe(self, arguments: SignatureArguments) -> str:
        """Signature, module and summary, a line each."""
        found = self.find(arguments.name)
        return f"{one_line(found.signature, 220)}\nmodule {found.module}\n{one_line(found.summary, 160)}"


def one_line(text: str, limit: int) -> str:
    """`text` on one line of at most `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def _calculator(arguments: CalculatorArguments) -> str:
    try:
        return calculate(arguments.expression)
    except CalculationError as error:
        raise ToolError(str(error)) from None


def _python(arguments: PythonArguments) -> str:
    try:
        return run_python(arguments.code) or "(no output)"
    except (SandboxError, SandboxMissing) as error:
        raise ToolError(str(error)) from None
