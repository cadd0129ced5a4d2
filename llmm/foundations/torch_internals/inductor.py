"""Reading what torch.compile makes: how many graphs it captured, and which kernels it wrote for them.

Dynamo runs the bytecode symbolically until it meets something that it cannot put into a graph (a value that is needed
now, a print), compiles the graph so far, lets Python do that step, and begins anew: a graph break. Inductor turns each
graph into C++: loops that compute many operators at once (`cpp_fused_...`) and calls of kernels that exist
(`extern_kernels.mm`). Counting graphs needs no compiler. Generated code does.
"""

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from llmm.foundations.torch_internals.compilers import require_compiler

_DEFINED = re.compile(r"^(cpp_fused_\w+) = async_compile\.cpp_pybinding", re.M)
_CALLED = re.compile(r"^ {8}(cpp_fused_\w+)\(", re.M)
_EXTERN = re.compile(
    r"^ {8}(?:buf\d+ = )?(?:extern_kernels\.(\w+)|torch\.ops\.(?:aten|mkldnn|mkl)\.(\w+)[\w.]*)\(", re.M
)
_BUFFER = re.compile(r"^ {8}buf\d+ = empty_strided_cpu\(", re.M)


@dataclass(frozen=True)
class Kernels:
    """What one generated program runs: fused loops and ready kernels by name, and the buffers that it allocates."""

    fused: list[str]
    extern: list[str]
    buffers: int


def count_graphs(function: Callable[..., Any], *inputs: Any) -> int:
    """How many graphs torch.compile captures for one call of `function`: 1 where there is no break."""
    graphs = 0

    def backend(graph_module: torch.fx.GraphModule, _: Any) -> Callable[..., Any]:
        nonlocal graphs
        graphs += 1
        return graph_module.forward

    torch._dynamo.reset()
    logger = logging.getLogger("torch._dynamo")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns of each break, and breaks are what is counted here
    try:
        torch.compile(function, backend=backend)(*inputs)
    finally:
        logger.setLevel(level)
        torch._dynamo.reset()
    return graphs


@dataclass(frozen=True)
class Compiled:
    """A function compiled from nothing: what to call, what the first call took, and the programs that were written."""

    run: Callable[..., Any]
    first_call_seconds: float
    programs: list[str]

    @property
    def kernels(self) -> list[Kernels]:
        """The kernels of each program, one program a graph."""
        return [read_kernels(program) for program in self.programs]


def compile_cold(function: Callable[..., Any], *inputs: Any) -> Compiled:
    """Compile with an empty cache and call once with `inputs`. Raises UserError where no C++ compiler is found."""
    require_compiler("torch.compile")
    started = time.perf_counter()
    from torch._inductor.utils import fresh_cache, run_and_get_code

    torch._dynamo.reset()
    compiled = torch.compile(function)
    with torch._inductor.config.patch(compile_threads=1), fresh_cache():
        _, programs = run_and_get_code(compiled, *inputs)
    return Compiled(compiled, time.perf_counter() - started, list(programs))


def read_kernels(program: str) -> Kernels:
    """The kernels that a generated program calls, in their order; fused ones count if it defines them."""
    body = program.partition("class Runner")[2] or program.partition("\ndef call(")[2]
    defined = set(_DEFINED.findall(program))
    return Kernels(
        fused=[name for name in _CALLED.findall(body) if name in defined],
        extern=[plain or operator for plain, operator in _EXTERN.findall(body)],
        buffers=len(_BUFFER.findall(body)),
    )
