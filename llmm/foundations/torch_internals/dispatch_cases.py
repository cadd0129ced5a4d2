"""One operator registered alike with PyTorch and with `dispatcher`, in every combination: which kernels run, when?"""

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from llmm.foundations.torch_internals import dispatcher
from llmm.foundations.torch_internals.dispatch_keys import Array, Kernel, Key, Keys

CHOICES = ("none", "kernel", "fallthrough")
NAMESPACE = "llmm_dispatch_cases"


@dataclass(frozen=True)
class Registration:
    """What one operator has: a CPU kernel, a composite, and one of CHOICES at autograd and at autocast."""

    cpu: bool
    composite: bool
    autograd: str
    autocast: str


@dataclass(frozen=True)
class Situation:
    """How it is called: with autocast on, on an inference tensor, under a mode."""

    autocast: bool
    inference: bool
    mode: bool


REGISTRATIONS = [Registration(*row) for row in itertools.product((True, False), (True, False), CHOICES, CHOICES)]
SITUATIONS = [Situation(*row) for row in itertools.product((False, True), repeat=3)]


def orders() -> Iterator[tuple[str, list[str], list[str]]]:
    """(question, PyTorch's order of kernels, ours) for each registration and situation; "error" where none is found."""
    with torch.library._scoped_library(NAMESPACE, "DEF") as library:
        for number, registration in enumerate(REGISTRATIONS):
            theirs = _TorchOperator(library, f"op{number}", registration)
            ours = _OurOperator(registration)
            for situation in SITUATIONS:
                yield f"{registration} {situation}", theirs.order(situation), ours.order(situation)


class _OurOperator:
    def __init__(self, registration: Registration) -> None:
        self.log: list[str] = []
        table = dispatcher.Dispatcher()
        table.fallback(Key.AUTOGRAD, dispatcher.FALLTHROUGH)
        table.fallback(Key.AUTOCAST, dispatcher.FALLTHROUGH)
        table.fallback(Key.PYTHON, dispatcher.python_fallback)
        self.operator = table.define("op")
        if registration.cpu:
            self.operator.register(Key.CPU, self._computes("cpu"))
        if registration.composite:
            self.operator.register_composite(self._computes("composite"))
        for key, choice in ((Key.AUTOGRAD, registration.autograd), (Key.AUTOCAST, registration.autocast)):
            if choice != "none":
                self.operator.register(key, self._wraps(key) if choice == "kernel" else dispatcher.FALLTHROUGH)

    def order(self, situation: Situation) -> list[str]:
        self.log.clear()
        with contextlib.ExitStack() as stack:
            if situation.autocast:
                stack.enter_context(dispatcher.included(Key.AUTOCAST))
            if situation.mode:
                stack.enter_context(dispatcher.mode(self._look_on))
            try:
                self.operator(Array(np.ones(2), autograd=not situation.inference))
            except NotImplementedError:
                self.log.append("error")
        return list(self.log)

    def _computes(self, label: str) -> Kernel:
        def kernel(keys: Keys, x: Array) -> Array:
            self.log.append(label)
            return Array(np.asarray(x.data) + 1)

        return kernel

    def _wraps(self, key: Key) -> Kernel:
        def kernel(keys: Keys, x: Array) -> Any:
            self.log.append(key.name.lower())
            with dispatcher.excluded(key):
                return self.operator.redispatch(dispatcher.below(keys, key), x)

        return kernel

    def _look_on(self, operator: dispatcher.Operator, x: Array) -> Any:
        self.log.append("mode")
        return operator(x)


class _TorchOperator:
    def __init__(self, library: torch.library.Library, name: str, registration: Registration) -> None:
        self.log: list[str] = []
        library.define(f"{name}(Tensor x) -> Tensor")
        self.operator = getattr(getattr(torch.ops, NAMESPACE), name).default
        if registration.cpu:
            library.impl(name, self._computes("cpu"), "CPU")
        if registration.composite:
            library.impl(name, self._computes("composite"), "CompositeImplicitAutograd")
        if registration.autograd != "none":
            wrapper = self._autograd if registration.autograd == "kernel" else torch.library.fallthrough_kernel
            library.impl(name, wrapper, "AutogradCPU", with_keyset=registration.autograd == "kernel")
        if registration.autocast != "none":
            wrapper = self._autocast if registration.autocast == "kernel" else torch.library.fallthrough_kernel
            library.impl(name, wrapper, "AutocastCPU")

    def order(self, situation: Situation) -> list[str]:
        self.log.clear()
        with torch.inference_mode(situation.inference):
            x = torch.ones(2)
        with contextlib.ExitStack() as stack:
            if situation.autocast:
                stack.enter_context(torch.autocast("cpu"))
            if situation.mode:
                stack.enter_context(_LookOn(self.operator, self.log))
            try:
                self.operator(x)
            except NotImplementedError:
                self.log.append("error")
        return list(self.log)

    def _computes(self, label: str) -> Any:
        def kernel(x: torch.Tensor) -> torch.Tensor:
            self.log.append(label)
            return x + 1

        return kernel

    def _autograd(self, keyset: Any, x: torch.Tensor) -> Any:
        self.log.append("autograd")
        with torch._C._AutoDispatchBelowAutograd():
            return self.operator.redispatch(keyset & torch._C._after_autograd_keyset, x)

    def _autocast(self, x: torch.Tensor) -> Any:
        self.log.append("autocast")
        with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)):
            return self.operator(x)


class _LookOn(TorchDispatchMode):
    def __init__(self, operator: Any, log: list[str]) -> None:
        super().__init__()
        self.operator, self.log = operator, log

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is self.operator:
            self.log.append("mode")
        return func(*args, **(kwargs or {}))
