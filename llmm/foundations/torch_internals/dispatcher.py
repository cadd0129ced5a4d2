"""A dispatcher in one page: which kernel runs when an operator is called, and how a call comes by again lower down.

A call carries a set of keys: those of its arguments, plus what this thread includes, minus what it excludes. The
operator's table is asked for the highest key of the set; that kernel does its part and sends the call on with the keys
below its own. So autocast wraps autograd, autograd wraps the kernel that computes, and each is written without knowing
the others.

- `Key` (dispatch_keys.py) is the order; PyTorch packs the set into 64 bits, the order among these is the same.
- `Operator.entry` is PyTorch's rule for filling the table: own kernel, else composite, else fallback, else nothing.
- FALLTHROUGH is an entry that is never stopped at: the key is left out before the highest is taken.
- `redispatch` goes below one key for this call; `excluded` switches a key off for everything that is called inside.

`checks.py` registers the same kernels with PyTorch itself and compares which of them run, and in which order.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from llmm.foundations.torch_internals.dispatch_keys import BACKENDS, Kernel, Key, Keys, arrays_in


def FALLTHROUGH(keys: Keys, *args: Any) -> Any:
    """Stands in a table for "not my business". It is never called."""
    raise AssertionError("the dispatcher skips this entry")


class _ThreadState(threading.local):
    def __init__(self) -> None:
        self.included: Keys = frozenset()
        self.excluded: Keys = frozenset()
        self.modes: list[Kernel] = []


_state = _ThreadState()


class Dispatcher:
    """All operators (`operators`: name -> Operator), and fallbacks for those that have nothing better for a key."""

    def __init__(self) -> None:
        self.operators: dict[str, Operator] = {}
        self.fallbacks: dict[Key, Kernel] = {}

    def define(self, name: str) -> "Operator":
        """A new operator without kernels. Raises ValueError where the name is taken."""
        if name in self.operators:
            raise ValueError(f"operator {name} is defined already")
        self.operators[name] = Operator(name, self)
        return self.operators[name]

    def fallback(self, key: Key, kernel: Kernel) -> None:
        """`kernel(keys, *args, operator=...)`, or FALLTHROUGH, for operators with nothing of their own at `key`."""
        self.fallbacks[key] = kernel


class Operator:
    """One operator: its kernels by key, and perhaps a composite one made of other operators."""

    def __init__(self, name: str, dispatcher: Dispatcher) -> None:
        self.name, self.dispatcher = name, dispatcher
        self.kernels: dict[Key, Kernel] = {}
        self.composite: Kernel | None = None

    def register(self, key: Key, kernel: Kernel) -> None:
        """`kernel(keys, *args)`, or FALLTHROUGH, at `key`."""
        self.kernels[key] = kernel

    def register_composite(self, kernel: Kernel) -> None:
        """A kernel made of other operators, for backends and autograd: these dispatch anew and bring derivatives."""
        self.composite = kernel

    def entry(self, key: Key) -> Kernel | None:
        """What the table holds at `key`, in this order; None where the operator cannot be called with it.

        1. the kernel registered for exactly this key; 2. the composite, at a backend, or at autograd while no backend
        has a kernel of its own (with one, its derivative would have to be written: the composite's no longer fits); 3.
        the dispatcher's fallback for the key.
        """
        if key in self.kernels:
            return self.kernels[key]
        if self.composite is not None:
            own_backend = not BACKENDS.isdisjoint(self.kernels)
            if key in BACKENDS or (key is Key.AUTOGRAD and not own_backend):
                return self.composite
        fallback = self.dispatcher.fallbacks.get(key)
        if fallback is None or fallback is FALLTHROUGH:
            return fallback
        return lambda keys, *args: fallback(keys, *args, operator=self)

    def __call__(self, *args: Any) -> Any:
        """Call with the keys of the Arrays among `args` (lists are looked into), and those of this thread."""
        keys = frozenset().union(*(array.keys for array in arrays_in(args)))
        return self.redispatch((keys | _state.included) - _state.excluded, *args)

    def redispatch(self, keys: Keys, *args: Any) -> Any:
        """Call the kernel of the highest of `keys` that is no fallthrough. NotImplementedError where there is none."""
        for key in sorted(keys, reverse=True):
            kernel = self.entry(key)
            if kernel is FALLTHROUGH:
                continue
            if kernel is None:
                break
            return kernel(keys, *args)
        asked = " ".join(key.name for key in sorted(keys, reverse=True)) or "no key"
        have = " ".join(key.name for key in sorted(self.kernels, reverse=True)) or "none"
        raise NotImplementedError(f"{self.name} has no kernel for a call with {asked} (registered: {have})")

    def table(self) -> dict[str, str]:
        """What stands at each key, highest first: "kernel", "composite", "fallback", "fallthrough" or "missing"."""
        return {key.name: self._describe(key) for key in sorted(Key, reverse=True)}

    def _describe(self, key: Key) -> str:
        kernel = self.entry(key)
        if kernel is None or kernel is FALLTHROUGH:
            return "missing" if kernel is None else "fallthrough"
        if key in self.kernels:
            return "kernel"
        return "composite" if kernel is self.composite else "fallback"


def below(keys: Keys, key: Key) -> Keys:
    """The keys of the set that are lower than `key`: what is left to ask once `key` has had its turn."""
    return frozenset(other for other in keys if other < key)


@contextlib.contextmanager
def excluded(*keys: Key) -> Iterator[None]:
    """Switch keys off for every call inside the block, in this thread: calls of calls too, unlike `redispatch`."""
    with _changed(_state.included, _state.excluded | frozenset(keys)):
        yield


@contextlib.contextmanager
def included(*keys: Key) -> Iterator[None]:
    """Add keys to every call inside the block, in this thread; one that is excluded stays off."""
    with _changed(_state.included | frozenset(keys), _state.excluded):
        yield


@contextlib.contextmanager
def _changed(include: Keys, exclude: Keys) -> Iterator[None]:
    before = _state.included, _state.excluded
    _state.included, _state.excluded = include, exclude
    try:
        yield
    finally:
        _state.included, _state.excluded = before


@contextlib.contextmanager
def mode(handler: Callable[..., Any]) -> Iterator[None]:
    """`handler(operator, *args)` is asked instead of the kernel, for each call inside; it goes on by `operator(*args)`.

    Modes stack: the last one entered is asked first, and while it works only those entered before it are active.
    """
    _state.modes.append(handler)
    try:
        with included(Key.PYTHON):
            yield
    finally:
        _state.modes.pop()


def python_fallback(keys: Keys, *args: Any, operator: Operator) -> Any:
    """The kernel of PYTHON for all operators: hand the call to the topmost mode, with that mode taken off meanwhile."""
    handler = _state.modes.pop()
    try:
        with contextlib.nullcontext() if _state.modes else excluded(Key.PYTHON):
            return handler(operator, *args)
    finally:
        _state.modes.append(handler)
