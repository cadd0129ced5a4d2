"""What looks on while PyTorch works: which operators ran, how many bytes are alive or kept for backward, a clock.

A `TorchDispatchMode` sees every operator call after autograd has had it: forward and backward, one aten operator at a
time.
"""

from collections import Counter
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class OpCounter(TorchDispatchMode):
    """Counts operator calls by name, and keeps them in their order: `with OpCounter() as ops: ...; ops.calls`."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.log.append(func._schema.name.removeprefix("aten::"))
        return func(*args, **(kwargs or {}))  # modes are off in here: this call goes on to the kernel

    @property
    def calls(self) -> Counter[str]:
        return Counter(self.log)


class StorageLedger(TorchDispatchMode):
    """Bytes of the storages that were made while it looked on and are still alive: now (`live`) and at most (`peak`).

    It asks the storages themselves, by weak references, whatever keeps them: autograd, a hook, a variable.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._bound = 0  # of what is alive: asking every storage after every operator would be slow
        self._seen: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = {_storage_id(tensor) for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and _storage_id(tensor) not in known:
                storage = tensor.untyped_storage()
                self._seen[_storage_id(tensor)] = StorageWeakRef(storage), storage.nbytes()
                self._bound += storage.nbytes()
        if self._bound > self.peak:
            self._bound = self.live
            self.peak = max(self.peak, self._bound)
        return result

    @property
    def live(self) -> int:
        self._seen = {key: (ref, size) for key, (ref, size) in self._seen.items() if not ref.expired()}
        return sum(size for _, size in self._seen.values())


class SavedTensors:
    """Bytes that autograd packs while it looks on: a storage counts once, those of `module`'s parameters not at all."""

    def __init__(self, module: torch.nn.Module | None = None) -> None:
        self._parameters = {_storage_id(parameter) for parameter in module.parameters()} if module else set()
        self._sizes: dict[int, int] = {}
        self._alive: list[Tensor] = []  # so that no address is used twice
        self._hooks = saved_tensors_hooks(self._pack, lambda tensor: tensor)

    def __enter__(self) -> "SavedTensors":
        self._hooks.__enter__()
        return self

    def __exit__(self, *failure: Any) -> None:
        self._hooks.__exit__(*failure)

    @property
    def bytes(self) -> int:
        return sum(self._sizes.values())

    def holds(self, tensor: Tensor) -> bool:
        """Whether the storage of `tensor` is among what was packed."""
        return _storage_id(tensor) in self._sizes

    def _pack(self, tensor: Tensor) -> Tensor:
        if _storage_id(tensor) not in self._parameters:
            self._sizes[_storage_id(tensor)] = tensor.untyped_storage().nbytes()
            self._alive.append(tensor.detach())
        return tensor


def seconds_of(run: Callable[[], Any], repeats: int = 7, number: int = 1) -> list[float]:
    """Wall time of one call, `repeats` times, each taken over `number` calls; one call before warms up."""
    run()
    times = []
    for _ in range(repeats):
        start = perf_counter()
        for _ in range(number):
            run()
        times.append((perf_counter() - start) / number)
    return times


def median_seconds(run: Callable[[], Any], repeats: int = 7, number: int = 1) -> float:
    """The median of `seconds_of`: what a call usually takes."""
    return median(seconds_of(run, repeats, number))


def _storage_id(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
