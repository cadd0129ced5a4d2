"""What this machine reaches: the two numbers of its roofline, and where a measured operation lies under it."""

from typing import Any

import torch

from llmm.foundations.torch_internals.meters import median_seconds
from llmm.foundations.torch_internals.roofline import Cost, attainable, elementwise_cost, matmul_cost


def measure_machine(size: int = 768, megabytes: int = 64) -> dict[str, float]:
    """{"peak", "bandwidth"} of this process's threads: float32 matmul of `size`, and out = a + b of `megabytes` each.

    What the best code at hand reaches, not what a data sheet says. Timings: never the same twice.
    """
    a, b = torch.ones(size, size), torch.ones(size, size)
    product = torch.empty(size, size)
    peak = matmul_cost(size, size, size).flops / median_seconds(lambda: torch.mm(a, b, out=product))
    numel = megabytes * 1_000_000 // 4
    x, y, total = (torch.ones(numel) for _ in range(3))
    moved = elementwise_cost(numel, inputs=2).bytes
    return {"peak": peak, "bandwidth": moved / median_seconds(lambda: torch.add(x, y, out=total))}


def measured_point(cost: Cost, seconds: float, machine: dict[str, float]) -> dict[str, Any]:
    """Where an operation that took `seconds` lies: intensity, flops per second, and its share of the roof above it."""
    rate = cost.flops / seconds
    share = rate / attainable(cost, machine["peak"], machine["bandwidth"])
    return {"intensity": cost.intensity, "flops_per_second": rate, "share_of_roof": share}
