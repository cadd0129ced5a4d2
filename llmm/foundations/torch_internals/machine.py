"""What this machine reaches: the two numbers of its roofline, and where a measured operation lies under it."""

from typing import Any

import torch

from llmm.foundations.torch_internals.meters import seconds_of
from llmm.foundations.torch_internals.roofline import Cost, attainable, elementwise_cost, matmul_cost


def measure_machine(size: int = 768, megabytes: int = 64) -> dict[str, float]:
    """{"peak", "bandwidth"} of this process's threads: float32 matmul of `size`, sums and dot products of `megabytes`.

    A roof is what is reached at best: the shortest of several times. Never the same twice.
    """
    a, b = torch.ones(size, size), torch.ones(size, size)
    product = torch.empty(size, size)
    numel = megabytes * 1_000_000 // 4
    x, y, total = (torch.ones(numel) for _ in range(3))
    written_too = elementwise_cost(numel, inputs=2).bytes
    read_only = written_too - total.nbytes
    return {
        "peak": matmul_cost(size, size, size).flops / min(seconds_of(lambda: torch.mm(a, b, out=product))),
        "bandwidth": max(
            written_too / min(seconds_of(lambda: torch.add(x, y, out=total))),
            read_only / min(seconds_of(lambda: torch.dot(x, y))),
        ),
    }


def measured_point(cost: Cost, seconds: float, machine: dict[str, float]) -> dict[str, Any]:
    """Where an operation that took `seconds` lies: intensity, flops per second, and its share of the roof above it."""
    rate = cost.flops / seconds
    share = rate / attainable(cost, machine["peak"], machine["bandwidth"])
    return {"intensity": cost.intensity, "flops_per_second": rate, "share_of_roof": share}
