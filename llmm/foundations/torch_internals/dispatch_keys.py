"""Dispatch keys in their order, and an array that carries them."""

from collections.abc import Callable
from enum import IntEnum
from typing import Any

import numpy as np


class Key(IntEnum):
    """What may have something to say about a call; the highest is asked first."""

    META = 0  # shapes without data
    CPU = 1
    PYTHON = 2  # modes that look on: below autograd, so they see what autograd calls and what its backward calls
    AUTOGRAD = 3
    AUTOCAST = 4


Keys = frozenset[Key]
BACKENDS: Keys = frozenset({Key.META, Key.CPU})
Kernel = Callable[..., Any]  # kernel(keys, *args): the keys with which it was called, for redispatch


class Array:
    """A NumPy array, or a shape only (META), with the keys that its operators dispatch on."""

    def __init__(
        self, data: Any = None, shape: tuple[int, ...] = (), requires_grad: bool = False, autograd: bool = True
    ):
        self.data = None if data is None else np.asarray(data)
        self.shape: tuple[int, ...] = shape if self.data is None else self.data.shape
        self.requires_grad = requires_grad
        self.node: Any = None  # the step that made it, if autograd has recorded one
        backend = Key.META if self.data is None else Key.CPU
        # As in PyTorch the autograd key is there whether or not a gradient is asked for: that is its kernel's question.
        # Only a tensor made in inference mode lacks it.
        self.keys: Keys = frozenset({backend, Key.AUTOGRAD} if autograd else {backend})


def arrays_in(args: Any) -> list[Array]:
    """The Arrays among arguments, lists and tuples looked into, in their order."""
    found: list[Array] = []
    for value in args:
        if isinstance(value, Array):
            found.append(value)
        elif isinstance(value, list | tuple):
            found.extend(arrays_in(value))
    return found
