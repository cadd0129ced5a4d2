"""Sigmoid, softmax and their logarithms, for logits of any size.

The one rule: exp is only ever called on numbers that are zero or less, where it cannot overflow. README, section 2.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def sigmoid(z: ArrayLike) -> Array:
    """1 / (1 + exp(-z)), elementwise, any shape. Keeps full relative precision where it is close to zero.

    For 1 - sigmoid(z) write sigmoid(-z): the difference would lose every digit from z = 37 on.
    """
    z = np.asarray(z, dtype=np.float64)
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1.0, e) / (1.0 + e)


def log_sigmoid(z: ArrayLike) -> Array:
    """log(1 / (1 + exp(-z))), elementwise, any shape: about z for z << 0, about -exp(-z) for z >> 0."""
    z = np.asarray(z, dtype=np.float64)
    return np.minimum(z, 0.0) - np.log1p(np.exp(-np.abs(z)))


def log_sum_exp(Z: ArrayLike) -> Array:
    """log Σ_k exp(Z[..., k]) over the last axis: (..., K) -> (...)."""
    Z = np.asarray(Z, dtype=np.float64)
    top = Z.max(axis=-1)
    return top + np.log(np.exp(Z - top[..., None]).sum(axis=-1))


def softmax(Z: ArrayLike) -> Array:
    """exp(Z[..., k]) / Σ_j exp(Z[..., j]) over the last axis: (..., K) -> (..., K), rows that sum to 1."""
    Z = np.asarray(Z, dtype=np.float64)
    e = np.exp(Z - Z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)
