"""Why scores are divided by √d: how sharp a softmax over random scores is. README, section 1.

Source: Vaswani et al. 2017 (1706.03762), section 3.2.1 and its footnote; the freezing is that of Derrida's random
energy model (1981).
"""

import math

import torch
from torch import Tensor


def entropy(weights: Tensor) -> Tensor:
    """-Σ p log p along the last axis, in nats; 0 log 0 counts as 0."""
    return -torch.special.xlogy(weights, weights).sum(-1)


def slope(weights: Tensor) -> Tensor:
    """1 - Σ p² along the last axis: the trace of the softmax's Jacobian, what a gradient can get through (2.5)."""
    return 1 - weights.square().sum(-1)


def expected_entropy(deviation: float, keys: int) -> float:
    """Entropy in nats of a softmax over `keys` independent scores N(0, deviation²), equation (1.4), for many keys.

    log S - deviation²/2 until the largest score takes all at deviation = √(2 log S), nothing from there on.
    """
    return max(0.0, math.log(keys) - deviation**2 / 2) if deviation**2 < 2 * math.log(keys) else 0.0
