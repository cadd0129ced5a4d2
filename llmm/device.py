"""Where tensors live, and in which precision they are multiplied."""

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

import torch

from llmm.errors import UserError

P = ParamSpec("P")
R = TypeVar("R")

_GAIN = 1.3  # bfloat16 has to be this much faster to be worth its rounding


def pick_device() -> torch.device:
    """LLMM_DEVICE where it is set, else a CUDA GPU where there is one, else the CPU.

    Raises UserError where LLMM_DEVICE names no device that torch can use here.
    """
    name = os.environ.get("LLMM_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"LLMM_DEVICE = {name!r} cannot be used here: {str(error).splitlines()[0]}") from None
    return torch.device(name)


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype of matrix products that `name` stands for; "auto" is bfloat16 where that is clearly faster here.

    A processor is asked: with bfloat16 instructions its products are two to four times as fast as in float32, without
    them they are emulated, at half the speed or less. A GPU has them from compute capability 8.0 (Ampere) on.
    """
    return _faster_dtype(device) if name == "auto" else getattr(torch, name)


def precision(dtype: torch.dtype, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Matrix products in `dtype`; weights and sums stay float32, unless a model keeps its residual stream lower."""
    return torch.autocast(device.type, dtype) if dtype != torch.float32 else contextlib.nullcontext()


def compiled(function: Callable[P, R], device: torch.device, dynamic: bool | None = None) -> Callable[P, R]:
    """`function` by torch.compile, which `dynamic` is for.

    On a GPU a softmax takes its maximum in one pass and its sum in the next. The single pass that torch would take
    ("online") scales the sum whenever the maximum rises, and is slower over a vocabulary.
    """
    options = {"online_softmax": False} if device.type == "cuda" else None
    _spare_trials_of_the_compiler()
    return torch.compile(function, dynamic=dynamic, options=options)


def leave_uncompiled(module: torch.nn.Module) -> None:
    """Have graphs call `module` instead of holding it, in place."""
    module.forward = torch.compiler.disable(module.forward)


def compile_blocks(blocks: Iterable[torch.nn.Module]) -> None:
    """Compile each block, in place: one graph stands for all, ready in about half the time of the whole model's."""
    _spare_trials_of_the_compiler()
    for block in blocks:
        block.compile(dynamic=False)


def _spare_trials_of_the_compiler() -> None:
    """Where nothing has been compiled before, torch builds and loads a program for each of a processor's vector units.

    That takes ten seconds, to learn whether the compiler knows AVX2 and AVX-512: whichever can read torch's headers
    does. Trials of bfloat16 and of matrix tiles, which are younger and quicker to try, stay.
    """
    from torch._inductor import config  # on demand: it takes a while

    config.cpp.vec_isa_ok = True


def compiling_nothing_new() -> contextlib.AbstractContextManager[None]:
    """Within it what would have to be compiled first runs uncompiled: for a look at a model in mid-training."""
    return torch.compiler.set_stance("eager_on_recompile")


@functools.cache
def _faster_dtype(device: torch.device) -> torch.dtype:
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float32
    seconds = {dtype: _seconds(dtype, device) for dtype in (torch.float32, torch.bfloat16)}
    return torch.bfloat16 if seconds[torch.float32] > _GAIN * seconds[torch.bfloat16] else torch.float32


def _seconds(dtype: torch.dtype, device: torch.device) -> float:
    """The shortest of ten products of the size that a small model's layer has."""
    a = torch.ones(1024, 256, dtype=dtype, device=device)
    b = torch.ones(256, 1024, dtype=dtype, device=device)
    times = []
    for _ in range(10):
        started = time.perf_counter()
        (a @ b).sum().item()
        times.append(time.perf_counter() - started)
    return min(times)
