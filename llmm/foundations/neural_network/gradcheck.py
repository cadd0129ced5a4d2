"""Derivatives against finite differences: the one oracle that needs no other library.

A central difference (f(x + hv) - f(x - hv)) / 2h has an error of order h² from the curvature and of order ε/h from
rounding; in float64 the sum is smallest near h = ε^(1/3) ≈ 6e-6, at about 1e-10. README, equation (8).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmm.foundations.neural_network.autograd import grad, jvp
from llmm.foundations.neural_network.tensor import Tensor, no_grad

STEP = 6e-6


def gradcheck(function: Callable[..., Tensor], *points: ArrayLike, seed: int = 0) -> float:
    """Largest error of reverse and forward mode against central differences, for function(*Tensors) at `points`.

    For each argument a random direction v and a random weighting u of the outputs: uᵀJv by reverse mode, by forward
    mode and by differences must agree. Errors are relative above 1, absolute below. A random direction meets every
    entry of J, so a wrong one is hidden with probability zero, at the price of two evaluations an argument.
    """
    rng = np.random.default_rng(seed)
    arrays = [np.asarray(point, dtype=np.float64) for point in points]
    variables = [Tensor(a, requires_grad=True) for a in arrays]
    output = function(*variables)
    u = rng.standard_normal(output.shape)
    gradients = grad(output, variables, u) if output.requires_grad else [Tensor(np.zeros_like(a)) for a in arrays]
    worst = 0.0
    for i, g in enumerate(gradients):
        v = rng.standard_normal(arrays[i].shape)
        only_i = [v if i == j else np.zeros_like(a) for j, a in enumerate(arrays)]
        expected = np.sum(u * _central_difference(function, arrays, only_i))
        _, tangent = jvp(function, [Tensor(a) for a in arrays], only_i)
        for found in (np.sum(g.data * v), np.sum(u * tangent.data)):
            error = float(abs(found - expected) / max(1.0, abs(expected)))
            worst = max(worst, error if np.isfinite(error) else np.inf)
    return worst


def gradgradcheck(function: Callable[..., Tensor], *points: ArrayLike, seed: int = 0) -> float:
    """`gradcheck` of the gradient itself: of (x₁, x₂, …, g) ↦ Σᵢ wᵢ · Jᵢ(x)ᵀ g with random weights wᵢ."""
    rng = np.random.default_rng(seed)
    with no_grad():
        shape = function(*(Tensor(np.asarray(point, dtype=np.float64)) for point in points)).shape
    weights = [rng.standard_normal(np.shape(point)) for point in points]

    def gradient(*arguments: Tensor) -> Tensor:
        *inputs, seed_tensor = arguments
        variables = [x if x.requires_grad else Tensor(x, requires_grad=True) for x in inputs]
        gradients = grad(function(*variables), variables, seed_tensor, create_graph=True)
        total = (gradients[0] * weights[0]).sum()
        for g, w in zip(gradients[1:], weights[1:], strict=True):
            total = total + (g * w).sum()
        return total

    return gradcheck(gradient, *points, rng.standard_normal(shape), seed=seed + 1)


def _central_difference(
    function: Callable[..., Tensor], arrays: list[NDArray[Any]], direction: list[NDArray[Any]]
) -> NDArray[Any]:
    ahead = function(*(Tensor(a + STEP * v) for a, v in zip(arrays, direction, strict=True)))
    behind = function(*(Tensor(a - STEP * v) for a, v in zip(arrays, direction, strict=True)))
    return (ahead.data - behind.data) / (2 * STEP)
