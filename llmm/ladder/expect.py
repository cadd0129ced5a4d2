"""What checks use to look at an answer before they measure it, so that a wrong shape or type becomes one clear line.

NumPy broadcasts (N, 1) against (N,) without a word; a check that only takes a difference then reports a large error and
not its cause.
"""

from collections.abc import Sequence
from typing import Any


class WrongAnswer(Exception):
    """What a checked function returned is not what its docstring promises; the message says both in one line."""


def expect_shape(name: str, value: Any, shape: Sequence[int], kind: type | None = None) -> Any:
    """`value` if it is an array or tensor (of type `kind`, if given) of this shape. Raises WrongAnswer otherwise."""
    if kind is not None and not isinstance(value, kind):
        raise WrongAnswer(f"{name} is {_described(value)}, expected {_article(kind.__name__)} of shape {tuple(shape)}")
    if not hasattr(value, "shape"):
        raise WrongAnswer(f"{name} is {_described(value)}, expected an array of shape {tuple(shape)}")
    if tuple(value.shape) != tuple(shape):
        raise WrongAnswer(f"{name} has shape {tuple(value.shape)}, expected {tuple(shape)}")
    return value


def expect_number(name: str, value: Any) -> float:
    """`value` as a float if it is a number or an array of no dimensions. Raises WrongAnswer otherwise."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if getattr(value, "shape", None) == ():
        return float(value)
    raise WrongAnswer(f"{name} is {_described(value)}, expected a number")


def expect_type(name: str, value: Any, kind: type | tuple[type, ...]) -> Any:
    """`value` if it is an instance of `kind`. Raises WrongAnswer otherwise."""
    if not isinstance(value, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        raise WrongAnswer(f"{name} is {_described(value)}, expected {' or '.join(_article(k.__name__) for k in kinds)}")
    return value


def _described(value: Any) -> str:
    if value is None:
        return "None"
    shape = f" of shape {tuple(value.shape)}" if hasattr(value, "shape") else ""
    return f"{_article(type(value).__name__)}{shape}"


def _article(name: str) -> str:
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
