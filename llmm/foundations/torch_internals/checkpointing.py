"""Activation checkpointing by saved-tensor hooks: keep a block's input, run it again when backward needs the rest.

Autograd asks before it keeps a tensor for backward (pack) and before it uses one (unpack). Pack here keeps a number
instead; the first unpack runs the function again, from the same random state and under the same autocast, catches
what that run packs, in the same order, and hands it out. Three things make the gradients equal bit by bit:

- the second run sees the same random numbers, so dropout drops the same units, and the stream afterwards goes on as if
  there had been no second run;
- each tensor of the second run must have the shape, the dtype and the version of the one it stands for: a version
  counts changes in place, so a parameter that was updated after forward is an error, as it is in plain autograd;
- arguments, which are kept, must have the version that they had.

The second run stops at the last tensor that backward needs: what the block computes after it is not computed again.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks


class _AllCaught(Exception):
    """Ends a second run that has nothing left to give."""


@dataclass
class _Segment:
    """One checkpointed call: all that is needed to run it again, and what a second run has caught so far."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    states: "_States"
    versions: list[int]
    promised: list["_Promise"] = field(default_factory=list)  # one for each tensor that was not kept
    caught: dict[int, Tensor] = field(default_factory=dict)

    def pack(self, tensor: Tensor) -> int:
        self.promised.append(_promise(tensor))
        return len(self.promised) - 1

    def unpack(self, index: int) -> Tensor:
        if index not in self.caught:
            self._run_again()
        return self.caught.pop(index)  # popped: each tensor is let go as soon as backward has used it

    def _run_again(self) -> None:
        if [tensor._version for tensor in _tensors(self.args)] != self.versions:
            raise RuntimeError("an argument of a checkpointed call was changed in place after forward")
        self.caught.clear()
        args = [_detached(value) for value in self.args]
        catching = saved_tensors_hooks(self._catch, _never)
        with contextlib.suppress(_AllCaught), self.states.restored(), torch.enable_grad(), catching:
            self.function(*args)
        if len(self.caught) < len(self.promised):
            raise RuntimeError(
                f"the second run kept {len(self.caught)} tensors for backward, the first {len(self.promised)}: "
                "the checkpointed function does not do the same each time"
            )

    def _catch(self, tensor: Tensor) -> None:
        index = len(self.caught)
        if _promise(tensor) != self.promised[index]:
            raise RuntimeError(
                f"tensor {index} of the second run is {_promise(tensor)}, of the first {self.promised[index]}: the "
                "function does not do the same each time, or what it uses was changed in place after forward"
            )
        self.caught[index] = tensor.detach()
        if len(self.caught) == len(self.promised):
            raise _AllCaught


def checkpoint(function: Callable[..., Any], *args: Any) -> Any:
    """`function(*args)`, without keeping what its backward needs: that is computed again from `args` in backward.

    Gradients are equal bit by bit to those of the plain call, dropout included; the global random state is left as the
    plain call leaves it, after forward and after backward. Backward may run twice (retain_graph) and be differentiated
    (create_graph). `function` must be the same function of its arguments both times and have no side effects; in
    backward, RuntimeError is raised where the second run keeps fewer tensors or tensors of another shape or dtype, and
    where an argument or a parameter was changed in place after forward.
    """
    if not torch.is_grad_enabled():
        return function(*args)
    versions = [tensor._version for tensor in _tensors(args)]
    segment = _Segment(function, args, _States.now(_tensors(args)), versions)
    with saved_tensors_hooks(segment.pack, segment.unpack):
        return function(*args)


def checkpoint_sequential(blocks: Sequence[Callable[[Tensor], Tensor]], segments: int, x: Tensor) -> Tensor:
    """The blocks one after another on `x`, in `segments` runs of nearly equal length, each run checkpointed.

    Raises ValueError unless 1 <= segments <= number of blocks.
    """
    if not 1 <= segments <= len(blocks):
        raise ValueError(f"{segments} segments of {len(blocks)} blocks")
    edges = [len(blocks) * k // segments for k in range(segments + 1)]
    for start, stop in itertools.pairwise(edges):
        x = checkpoint(_chain(blocks[start:stop]), x)
    return x


def _chain(blocks: Sequence[Callable[[Tensor], Tensor]]) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        for block in blocks:
            x = block(x)
        return x

    return run


@dataclass(frozen=True)
class _States:
    """What a computation depends on besides its arguments: random states, and the autocast of each kind of device."""

    cpu_rng: Tensor
    cuda_rng: dict[int, Tensor]
    autocasts: list[tuple[str, torch.dtype, bool, bool]]

    @classmethod
    def now(cls, tensors: list[Tensor]) -> "_States":
        devices = sorted({tensor.get_device() for tensor in tensors if tensor.is_cuda})
        kinds = ["cpu", "cuda"] if devices else ["cpu"]
        cache = torch.is_autocast_cache_enabled()
        return cls(
            torch.get_rng_state(),
            {device: torch.cuda.get_rng_state(device) for device in devices},
            [(kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind), cache) for kind in kinds],
        )

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        """These states inside the block; those of the caller again after it."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(devices=list(self.cuda_rng)))
            torch.set_rng_state(self.cpu_rng)
            for device, state in self.cuda_rng.items():
                torch.cuda.set_rng_state(state, device)
            for kind, dtype, enabled, cache in self.autocasts:
                stack.enter_context(torch.autocast(kind, dtype, enabled, cache))
            yield


_Promise = tuple[tuple[int, ...], torch.dtype, int]


def _promise(tensor: Tensor) -> _Promise:
    return tuple(tensor.shape), tensor.dtype, tensor._version


def _tensors(values: Sequence[Any]) -> list[Tensor]:
    return [value for value in values if isinstance(value, Tensor)]


def _detached(value: Any) -> Any:
    """A leaf in the place of a tensor, so that the second run's graph ends at the segment's edge."""
    return value.detach().requires_grad_(value.requires_grad) if isinstance(value, Tensor) else value


def _never(_: Any) -> Tensor:
    raise RuntimeError("the graph of a second run is never walked")
