"""Gradient descent, on all samples and on minibatches. README, sections 5 and 6."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def gradient_descent(loss: Any, w: Array, lr: float) -> Iterator[Array]:
    """w ← w - lr ∇loss(w), for ever. Yields w₀ (the `w` given), w₁, w₂, …

    `loss` has `gradient(w)`. Falls at every step if 0 < lr < 2 / L, L the largest curvature (README, 5.3).
    """
    while True:
        yield w
        w = w - lr * loss.gradient(w)


def stochastic_gradient_descent(
    loss: Any, w: Array, lr: Callable[[int], float], batch_size: int, seed: int
) -> Iterator[Array]:
    """The same on a few samples at a time: each epoch visits every sample once, in a new random order.

    `loss` has `y` (N,) and `rows(index)`, the loss over some samples; `lr` gives the rate of update 0, 1, 2, …
    An epoch's last batch may be smaller. Yields w₀ (the `w` given), w₁, …; repeats with `seed`.
    """
    generator = np.random.default_rng(seed)
    step = 0
    while True:
        order = generator.permutation(len(loss.y))
        for start in range(0, len(order), batch_size):
            yield w
            w = w - lr(step) * loss.rows(order[start : start + batch_size]).gradient(w)
            step += 1


def one_over_t(lr: float, half_life: float) -> Callable[[int], float]:
    """The rate lr / (1 + t / half_life): large at first, small enough in the end to silence the noise (README, 6.3)."""
    return lambda t: lr / (1.0 + t / half_life)
