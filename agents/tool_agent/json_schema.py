"""Arguments of tools that come with a JSON schema instead of a pydantic model: checked by the schema, kept as they are.

Two questions are asked of such a schema: can calls be checked by it (`arguments_of`), and can the grammar of our own
model write nothing else than what fits it (`check_grammar`)? Source: JSON Schema, draft 2020-12, and the older drafts
that a schema may name by "$schema".
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import regex
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from jsonschema.validators import extend, validator_for
from pydantic import ConfigDict, create_model, model_validator
from pydantic_core import PydanticCustomError
from referencing import Registry
from referencing.exceptions import Unresolvable

from agents.tool_agent.grammar import CallGrammar
from agents.tool_agent.tools import Arguments, Tool, one_line
from llmm.errors import UserError
from llmm.training.lora.chat import ChatCodec

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_MAX_DEPTH = 32
_MAX_REFERENCES = 20  # two in each of n parts are 2ⁿ checks
_PATTERN_SECONDS = 0.5  # some patterns take exponential time
_HELD = {"type", "minLength", "maxLength", "pattern"}  # what grammar.py keeps of an argument's schema
_NOTES = {"title", "description", "default", "examples", "format", "$comment"}  # what refuses no value
_OF_OBJECTS = {"type", "properties", "required", "additionalProperties", "$schema", "$id", "$defs", "definitions"}


class SchemaArguments(Arguments):
    """Arguments under `json_schema`; their values are in `model_extra`, as they came."""

    model_config = ConfigDict(extra="allow")
    json_schema: ClassVar[dict[str, Any]]
    validator: ClassVar[Any]

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The schema as it was given."""
        return cls.json_schema

    @model_validator(mode="before")
    @classmethod
    def _fits(cls, value: Any) -> Any:
        if fault := _unsendable(value) or _misfit(value, cls.validator):
            raise PydanticCustomError("json_schema", "{fault}", {"fault": fault})
        return value


def arguments_of(name: str, schema: dict[str, Any]) -> type[SchemaArguments]:
    """A model of what `schema` allows, for the tool `name`; keys that it does not mention are refused.

    Raises ValueError for a name that is none and for a schema by which nothing can be checked.
    """
    if not _NAME.fullmatch(name):
        raise ValueError("a name has 1 to 128 letters, digits and signs of _.-")
    kind = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(schema, format_checker=kind.FORMAT_CHECKER)  # with it, patterns too
    except SchemaError as error:
        raise ValueError(f"its schema is no JSON schema: {one_line(error.message, 160)}") from None
    if foreign := [reference for reference in _references(schema) if not reference.startswith("#")]:
        raise ValueError(f"its schema refers to {foreign[0]!r}, and nothing outside a schema is fetched")
    if schema.get("type") != "object":
        raise ValueError(f"its schema is that of {schema.get('type')!r}, but arguments are an object")
    if len(list(_references(schema))) > _MAX_REFERENCES:
        raise ValueError(f"its schema refers to other parts more than {_MAX_REFERENCES} times")
    if '"patternProperties"' in json.dumps(schema):
        raise ValueError("its schema has names by patterns, which are not checked here")
    closed = "unevaluatedProperties" if "unevaluatedProperties" in kind.VALIDATORS else "additionalProperties"
    model = create_model(name, __base__=SchemaArguments)
    model.json_schema = {"properties": {}, **schema}
    model.validator = extend(kind, {"pattern": _pattern})({closed: False, **schema}, registry=Registry())
    return model


def _pattern(validator: Any, pattern: str, value: Any, schema: Any) -> Iterator[ValidationError]:
    """The keyword `pattern`, under a clock."""
    try:
        fits = not isinstance(value, str) or regex.search(pattern, value, timeout=_PATTERN_SECONDS)
    except (TimeoutError, regex.error):
        fits = False
    if not fits:
        yield ValidationError(f"does not match {pattern!r}: {value!r}")


def check_grammar(tools: Iterable[Tool], codec: ChatCodec) -> None:
    """Raises UserError where our model's grammar could write a call of a tool that the tool's schema refuses."""
    for tool in tools:
        if (beyond := _beyond_grammar(tool.schema())) is None:
            beyond = CallGrammar(codec, [tool]).matcher(()).get_error().strip() or None
        if beyond is not None:
            raise UserError(
                f"the grammar of our model does not hold the tool {tool.name!r}: {one_line(beyond, 160)}; "
                "use a model behind a server (--server), which needs no grammar"
            )


def _beyond_grammar(schema: dict[str, Any]) -> str | None:
    if extra := sorted(set(schema) - _OF_OBJECTS - _NOTES):
        return f"its schema uses {extra[0]!r}"
    if missing := sorted(set(schema.get("required", ())) - set(schema["properties"])):
        return f"the schema of its argument {missing[0]!r} is missing"
    for name, field in schema["properties"].items():
        if not isinstance(field, dict):
            return f"the schema of its argument {name!r} is {field}"
        if extra := sorted(set(field) - _HELD - _NOTES):
            return f"the schema of its argument {name!r} uses {extra[0]!r}"
    return None


def _references(schema: Any) -> Iterator[str]:
    """Everything that a schema refers to."""
    if isinstance(schema, dict):
        yield from (schema[key] for key in ("$ref", "$dynamicRef") if isinstance(schema.get(key), str))
    for inner in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _references(inner)


def _unsendable(value: Any) -> str | None:
    """Why a value cannot be sent as JSON, None where it can."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        return "the values are nested too deeply" if _depth(value) > _MAX_DEPTH else None
    except (ValueError, RecursionError):  # NaN, infinity, half a surrogate pair, a thousand brackets
        return "a value is none that JSON can hold"


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0)


def _misfit(value: Any, validator: Any) -> str | None:
    """Where and why a value does not fit a schema, None where it does."""
    try:
        error = best_match(validator.iter_errors(value))
    except (Unresolvable, RecursionError):
        return "the schema refers to something that it does not hold, or to itself for ever"
    if error is None:
        return None
    where = error.json_path.removeprefix("$").removeprefix(".")
    return one_line(f"{where}: {error.message}" if where else error.message, 200)
