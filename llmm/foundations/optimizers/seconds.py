"""Ratios of seconds: fast versions against plain ones and against torch's, measured in alternation in one process."""

import statistics
import time

import torch
from torch import Tensor

from llmm.foundations.optimizers import AdamW, Muon, plain
from llmm.foundations.optimizers.oracles import Make, by_rule, torch_muon_without_rounding
from llmm.foundations.optimizers.shapes import ADAMW_SHAPES, MUON_SHAPES, Shapes


def seconds_ratio(slow: Make, fast: Make, shapes: Shapes, repeats: int = 25) -> float:
    """Median over alternating steps of the seconds that `slow` takes over those that `fast` takes."""
    optimizers = [make(with_gradients(shapes)) for make in (slow, fast)]
    seconds: list[list[float]] = [[], []]
    for round_ in range(repeats + 2):
        for optimizer, taken in zip(optimizers, seconds, strict=True):
            start = time.perf_counter()
            optimizer.step()
            if round_ >= 2:  # the first steps make the state
                taken.append(time.perf_counter() - start)
    return statistics.median(a / b for a, b in zip(*seconds, strict=True))


def with_gradients(shapes: Shapes) -> list[Tensor]:
    """Parameters of these shapes, each with a gradient, both standard normal."""
    generator = torch.Generator().manual_seed(0)
    params = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
    for p in params:
        p.grad = torch.randn(p.shape, generator=generator)
    return params


def fast_over_plain() -> float:
    """Seconds of a plain AdamW step over those of a fast one, for 200 parameters of 8 × 8."""
    return seconds_ratio(by_rule(plain.adamw), AdamW, [(8, 8)] * 200)


def torch_over_adamw() -> float:
    """Seconds of torch's AdamW (foreach) over ours, for the parameters that AdamW moves in the default pretraining."""
    return seconds_ratio(lambda p: torch.optim.AdamW(p, foreach=True, weight_decay=0), AdamW, ADAMW_SHAPES)


def torch_over_fused_adamw() -> float:
    """The same where both leave the arithmetic to torch's fused kernel, as the pretraining does."""
    return seconds_ratio(
        lambda p: torch.optim.AdamW(p, fused=True, weight_decay=0),
        lambda p: AdamW(p, fused=True),
        ADAMW_SHAPES,
        repeats=101,
    )


def torch_over_muon() -> float:
    """Seconds of torch's Muon, iterating in float32 too, over ours, for the matrices of the default pretraining."""
    with torch_muon_without_rounding():
        return seconds_ratio(lambda p: torch.optim.Muon(p, weight_decay=0), Muon, MUON_SHAPES, repeats=7)
