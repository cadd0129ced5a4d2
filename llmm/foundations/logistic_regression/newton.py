"""Newton's method, and its other name in statistics: iteratively reweighted least squares. README, section 4."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmm.foundations.logistic_regression.stable import sigmoid

Array = NDArray[np.float64]
ENOUGH = 1e-4  # the share of the decrease promised by the slope that a step must deliver (Armijo's condition)
ROUNDING = 8 * np.finfo(np.float64).eps  # next to the minimum a change of the loss is smaller than its rounding


def newton(loss: Any, w: Array) -> Iterator[Array]:
    """w ← w - t H⁻¹ g with t = 1, ½, ¼, …, the first that lowers the loss enough. Yields w₀ (the `w` given), w₁, …

    `loss` has `value`, `gradient` and `hessian`. Where H is singular (softmax, collinear features) the step is the
    shortest of those that solve H step = -g.
    """
    while True:
        yield w
        g = loss.gradient(w)
        direction = -np.linalg.lstsq(loss.hessian(w), g)[0]
        w = w + backtrack(loss, w, direction) * direction


def backtrack(loss: Any, w: Array, direction: Array) -> float:
    """The first t of 1, ½, ¼, … with loss(w + t d) <= loss(w) + ENOUGH · t · gᵀd, but for rounding.

    `direction` d (D,) goes downhill: gᵀd <= 0, g the gradient at w. Gives 0.0 where no t down to 2⁻⁵⁰ will do.
    """
    start, slope = loss.value(w), loss.gradient(w) @ direction
    for t in 0.5 ** np.arange(50):
        if loss.value(w + t * direction) <= start + ENOUGH * t * slope + ROUNDING * abs(start):
            return float(t)
    return 0.0


def irls_step(X: Array, y: NDArray, w: Array) -> Array:
    """One full Newton step without penalty, as a weighted least squares fit: (N, D), (N,), (D,) -> the next w (D,).

    Weights r = σ(z)(1 - σ(z)), working response u = z + (y - σ(z)) / r, next w = argmin Σ_i r_i (u_i - x_iᵀw)² (4.5).
    For moderate logits: the response divides by r.
    """
    z = X @ w
    p = sigmoid(z)
    r = p * sigmoid(-z)
    response = z + (y - p) / r
    root = np.sqrt(r)
    return np.asarray(np.linalg.lstsq(root[:, None] * X, root * response)[0], dtype=np.float64)
