"""Functions of neural networks, composed of the engine's primitives: none of them needs a derivative of its own.

The softmax functions subtract the maximum first. That changes no value (README, equation (9)) and keeps e^x finite; the
shift is taken as a constant, since the derivative with respect to it is zero.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from llmm.foundations.neural_network.tensor import Tensor

Array = NDArray[np.generic]


def logsumexp(x: Tensor, axis: int = -1, keepdims: bool = False) -> Tensor:
    """log Σ e^x over `axis`, finite for any finite x; -inf where all entries are -inf."""
    shift = _shift(x, axis)
    total = (x - shift).exp().sum(axis, keepdims=True).log() + shift
    return total if keepdims else total.sum(axis)


def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    """x - logsumexp(x): logarithms of probabilities that sum to 1 over `axis`."""
    centred = x - _shift(x, axis)
    return centred - centred.exp().sum(axis, keepdims=True).log()


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """e^x / Σ e^x over `axis`. Entries of -inf get probability 0; where all are -inf the result is NaN."""
    weights = (x - _shift(x, axis)).exp()
    return weights / weights.sum(axis, keepdims=True)


def cross_entropy(logits: Tensor, targets: Array) -> Tensor:
    """Mean of -log softmax(logits)[target], in nats: logits (..., V), integer targets (...).

    Raises ValueError where a shape does not fit or a target is outside 0 … V - 1.
    """
    V = logits.shape[-1]
    labels = np.asarray(targets)
    if labels.shape != logits.shape[:-1]:
        raise ValueError(f"targets of shape {labels.shape} do not fit logits of shape {logits.shape}")
    if labels.size and not 0 <= labels.min() <= labels.max() < V:
        raise ValueError(f"targets from {labels.min()} to {labels.max()} are not among 0 to {V - 1}")
    log_p = log_softmax(logits).reshape(labels.size, V)
    return -log_p[np.arange(labels.size), labels.reshape(-1)].mean()


def mean_squared_error(prediction: Tensor, target: Array | Tensor) -> Tensor:
    """Mean of (prediction - target)² over all entries."""
    error = prediction - target
    return (error * error).mean()


def gelu(x: Tensor, approximate: bool = False) -> Tensor:
    """x Φ(x) with the normal distribution Φ, by the error function; or GPT-2's approximation by tanh."""
    if approximate:
        return 0.5 * x * (1 + (math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)).tanh())
    return 0.5 * x * (1 + (x * math.sqrt(0.5)).erf())


def silu(x: Tensor) -> Tensor:
    """x σ(x), also called swish."""
    return x * x.sigmoid()


def leaky_relu(x: Tensor, slope: float = 0.01) -> Tensor:
    """x where x > 0, slope · x elsewhere."""
    return x.where(x > 0, slope * x)


def layer_norm(
    x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5, axes: int = 1
) -> Tensor:
    """(x - mean) / √(var + eps) over the last `axes` axes, then · weight + bias. var divides by n, not by n - 1."""
    over = tuple(range(-axes, 0))
    normalised = (x - x.mean(over, keepdims=True)) / (x.var(over, keepdims=True) + eps).sqrt()
    return _affine(normalised, weight, bias)


def dropout(x: Tensor, p: float, rng: np.random.Generator) -> Tensor:
    """Zero each entry with probability `p` and divide the others by 1 - p, so that the expectation stays.

    Draws one uniform number an entry from `rng`. Raises ValueError unless 0 ≤ p < 1.
    """
    if not 0 <= p < 1:
        raise ValueError(f"dropout with p = {p}: 0 ≤ p < 1 is needed")
    keep = rng.random(x.shape) >= p
    return x * (keep / (1 - p))


def embedding(ids: Array, table: Tensor) -> Tensor:
    """Row ids[…] of `table` (V, D) for integer `ids` (...): (..., D). The gradients of an id that repeats add up.

    Raises ValueError for ids outside 0 … V - 1: a negative index would silently count from the end.
    """
    index = np.asarray(ids)
    if index.size and not 0 <= index.min() <= index.max() < len(table):
        raise ValueError(f"ids from {index.min()} to {index.max()} are not among 0 to {len(table) - 1}")
    return table[index.astype(np.intp)]


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    scaled = x if weight is None else x * weight
    return scaled if bias is None else scaled + bias


def _shift(x: Tensor, axis: int) -> Array:
    """The maximum over `axis`, as a constant; 0 where that is infinite, since inf - inf has no value."""
    if not x.shape[axis]:
        return np.zeros((), x.dtype)
    largest = x.data.max(axis=axis, keepdims=True)
    return np.where(np.isfinite(largest), largest, 0)
