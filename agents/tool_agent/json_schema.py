"""Arguments of tools that come with a JSON schema instead of a pydantic model: checked by the schema, kept as they are.

A schema is as little trusted as its server: nothing is fetched for it, and a check by it has a clock. Source: JSON
Schema, draft 2020-12, and the older drafts that a schema may name by "$schema".
"""

import json
import math
import re
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, ClassVar

import regex
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from jsonschema.validators import extend, validator_for
from pydantic import ConfigDict, create_model, model_validator
from pydantic_core import PydanticCustomError
from referencing import Registry
from referencing.exceptions import Unresolvable

from agents.tool_agent.tools import Arguments, one_line

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_MAX_DEPTH = 32
_MAX_REFERENCES = 20  # two in each of n parts are 2ⁿ checks, and what a $ref holds is walked without our clock too
_MOST_OF_PATTERN, _MOST_GROUPS = 500, 8  # `regex` takes time exponential in nested groups before its clock starts
_SECONDS = 1.0  # for one check: patterns, and references times the depth of a value, take exponential time
_END = ContextVar("_END", default=math.inf)  # of the check under way, on the clock of time.monotonic
_REFERRING = ("$ref", "$dynamicRef", "$recursiveRef")


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
    parts = list(_parts(schema))
    references = [part[key] for part in parts for key in _REFERRING if isinstance(part.get(key), str)]
    if foreign := [reference for reference in references if not reference.startswith("#")]:
        raise ValueError(f"its schema refers to {foreign[0]!r}, and nothing outside a schema is fetched")
    if schema.get("type") != "object":
        raise ValueError(f"its schema is that of {schema.get('type')!r}, but arguments are an object")
    if any(isinstance(part.get("$schema"), str) for part in parts[1:]):  # that part would be checked without our clock
        raise ValueError("its schema names a draft by '$schema' below its top")
    if len(references) > _MAX_REFERENCES:
        raise ValueError(f"its schema refers to other parts more than {_MAX_REFERENCES} times")
    patterns = [part["pattern"] for part in parts if isinstance(part.get("pattern"), str)]
    if any(len(pattern) > _MOST_OF_PATTERN or pattern.count("(") > _MOST_GROUPS for pattern in patterns):
        raise ValueError(f"its schema has a pattern of more than {_MOST_OF_PATTERN} signs or {_MOST_GROUPS} groups")
    if any("patternProperties" in part for part in parts):
        raise ValueError("its schema has names by patterns, which are not checked here")
    closed = "unevaluatedProperties" if "unevaluatedProperties" in kind.VALIDATORS else "additionalProperties"
    model = create_model(name, __base__=SchemaArguments)
    model.json_schema = {"properties": {}, **schema}
    checks = {key: _timed(check) for key, check in {**kind.VALIDATORS, "pattern": _pattern}.items()}
    model.validator = extend(kind, checks)({closed: False, **schema}, registry=Registry())
    return model


def _timed(check: Callable[..., Any]) -> Callable[..., Iterator[ValidationError]]:
    """A keyword's check that raises TimeoutError once the time of the whole check is over."""

    def timed(*of_keyword: Any) -> Iterator[ValidationError]:
        if time.monotonic() > _END.get():
            raise TimeoutError
        yield from check(*of_keyword) or ()

    return timed


def _pattern(validator: Any, pattern: str, value: Any, schema: Any) -> Iterator[ValidationError]:
    """The keyword `pattern` by `regex`, which, unlike `re`, can be stopped: it raises TimeoutError."""
    left = min(max(_END.get() - time.monotonic(), 0.001), _SECONDS)
    try:
        fits = not isinstance(value, str) or regex.search(pattern, value, timeout=left)
    except regex.error:
        fits = False
    if not fits:
        yield ValidationError(f"does not match {pattern!r}: {value!r}")


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    """A schema and every object in it."""
    if isinstance(schema, dict):
        yield schema
    for inner in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _parts(inner)


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
    started = _END.set(time.monotonic() + _SECONDS)
    try:
        error = best_match(validator.iter_errors(value))
    except TimeoutError:
        return f"the schema takes more than {_SECONDS:g} s to check"
    except (Unresolvable, RecursionError):
        return "the schema refers to something that it does not hold, or to itself for ever"
    finally:
        _END.reset(started)
    if error is None:
        return None
    where = error.json_path.removeprefix("$").removeprefix(".")
    return one_line(f"{where}: {error.message}" if where else error.message, 200)
