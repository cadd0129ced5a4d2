"""Learning rates over a run, as factors in [0, 1] of the peak."""

import math
from collections.abc import Sequence

from torch.optim import Optimizer


def set_learning_rates(optimizers: Sequence[Optimizer], peaks: Sequence[float], factor: float) -> None:
    """Set the learning rate of each optimizer to `factor` times its peak."""
    for optimizer, peak in zip(optimizers, peaks, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = peak * factor


def warmup_stable_decay(step: int, steps: int, warmup_steps: int, cooldown_fraction: float) -> float:
    """Rise linearly over `warmup_steps`, stay at 1, fall linearly to 0 over the last `cooldown_fraction` of `steps`.

    Source: Hägele et al. 2024 (2405.18392), equation 1, with the linear cooldown.
    """
    warm = min(1.0, (step + 1) / (warmup_steps + 1))
    cool = min(1.0, (steps - step) / max(1.0, cooldown_fraction * steps))
    return min(warm, cool)


def cosine(step: int, steps: int, warmup_steps: int, floor: float = 0.0) -> float:
    """Rise linearly over `warmup_steps`, then follow half a cosine from 1 down to `floor`.

    Source: Loshchilov and Hutter 2016 (1608.03983), equation 5.
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
