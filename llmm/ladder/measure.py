"""What runs in a worker to measure a criterion. Imports nothing heavy: every criterion pays for it."""

import importlib

from llmm.ladder.expect import WrongAnswer


def measure(module: str, function: str) -> bool | int | float:
    """The number that a check returns. Raises WrongAnswer where it is none."""
    value = getattr(importlib.import_module(module), function)()
    if hasattr(value, "item") and getattr(value, "shape", None) == ():  # numpy's and torch's scalars
        value = value.item()
    if not isinstance(value, bool | int | float):
        shape = f" of shape {tuple(value.shape)}" if hasattr(value, "shape") else ""
        raise WrongAnswer(f"measured a {type(value).__name__}{shape}, expected a number or a bool")
    return value
