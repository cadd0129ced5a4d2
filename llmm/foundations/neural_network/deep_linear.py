"""The one deep network whose learning is solved on paper: two linear layers, from a small aligned start.

With inputs that are white and orthogonal factors that are aligned with the target, every singular value of the product
W₂W₁ learns on its own, along an S-shaped curve. README, equations (18) to (20); Saxe et al. (1312.6120), section 1.
"""

from __future__ import annotations

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


def learn_modes(rng: np.random.Generator, strengths: Array, start: float, lr: float, steps: int, n: int = 16) -> Array:
    """Strengths of the modes of W₂W₁ before each step (steps, modes), under gradient descent on ½‖T - W₂W₁‖².

    T = U diag(strengths) Vᵀ is n × n with random orthogonal U and V, and W₁ = √start Vᵀ, W₂ = √start U at first.
    """
    k = len(strengths)
    U, V = orthogonal(rng, (n, n))[:, :k], orthogonal(rng, (n, n))[:, :k]
    target = U @ np.diag(strengths) @ V.T
    W1 = Tensor(np.sqrt(start) * V.T, requires_grad=True)
    W2 = Tensor(np.sqrt(start) * U, requires_grad=True)
    optimizer = SGD([W1, W2], lr)
    curves = []
    for _ in range(steps):
        product = W2 @ W1
        curves.append(np.diag(U.T @ product.data @ V))
        loss = 0.5 * ((product - target) ** 2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return np.array(curves)
