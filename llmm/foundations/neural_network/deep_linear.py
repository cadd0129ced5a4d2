"""The one deep network whose learning is solved on paper: two linear layers, from a small aligned start.

With inputs that are white and orthogonal factors that are aligned with the target, every singular value of the product
W₂W₁ learns on its own, along an S-shaped curve. README, equations (18) to (20); Saxe et al. (1312.6120), section 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmm.foundations.neural_network.initialisation import orthogonal
from llmm.foundations.neural_network.tensor import Tensor
from llmm.foundations.neural_network.training import SGD

Array = NDArray[Any]


def mode_curve(t: Array, s: float, start: float) -> Array:
    """Strength at times t of a mode of final strength s that starts at `start`, with du/dt = 2 u (s - u)."""
    growth = np.exp(2 * s * t)
    return s * growth / (growth - 1 + s / start)


def learn_modes(
    rng: np.random.Generator, strengths: Array, start: float, lr: float, steps: int, n: int = 16, aligned: bool = True
) -> Array:
    """Strengths of the modes of W₂W₁ before each step (steps, modes), under gradient descent on ½‖T - W₂W₁‖².

    T = U diag(strengths) Vᵀ is n × n with random orthogonal U and V. At first W₁ = √start Vᵀ and W₂ = √start U, or,
    if not `aligned`, random matrices with √start for each of their singular values.
    """
    U, V = _factors(rng, n, len(strengths))
    k = n if not aligned else len(strengths)
    first, second = (V.T, U) if aligned else (orthogonal(rng, (k, n)), orthogonal(rng, (n, k)))
    W1 = Tensor(np.sqrt(start) * first, requires_grad=True)
    W2 = Tensor(np.sqrt(start) * second, requires_grad=True)
    return _descend([W1, W2], lambda: W2 @ W1, U, V, strengths, lr, steps)


def learn_modes_shallow(rng: np.random.Generator, strengths: Array, lr: float, steps: int, n: int = 16) -> Array:
    """The same with a single layer W, zero at first."""
    U, V = _factors(rng, n, len(strengths))
    W = Tensor(np.zeros((n, n)), requires_grad=True)
    return _descend([W], lambda: W * 1, U, V, strengths, lr, steps)


def _factors(rng: np.random.Generator, n: int, modes: int) -> tuple[Array, Array]:
    return orthogonal(rng, (n, n))[:, :modes], orthogonal(rng, (n, n))[:, :modes]


def _descend(
    weights: list[Tensor], product: Callable[[], Tensor], U: Array, V: Array, strengths: Array, lr: float, steps: int
) -> Array:
    target = U @ np.diag(strengths) @ V.T
    optimizer = SGD(weights, lr)
    curves = []
    for _ in range(steps):
        current = product()
        curves.append(np.diag(U.T @ current.data @ V))
        loss = 0.5 * ((current - target) ** 2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return np.array(curves)
