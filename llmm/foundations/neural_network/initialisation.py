"""Where weights start, so that a signal neither dies out nor explodes on its way through many layers.

A layer y = W x with independent weights of variance v multiplies the mean square of its input by n_in · v; a ReLU after
it halves that. README, equations (15) to (17).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """(n_in, n_out) of a weight (out, in, ...): how many inputs each output sums, and outputs each input reaches."""
    receptive = math.prod(shape[2:])
    return shape[1] * receptive, shape[0] * receptive


def he_normal(rng: np.random.Generator, shape: tuple[int, ...], gain: float = 1.0) -> Array:
    """Normal with variance gain · 2 / n_in, for layers before a ReLU. He et al. (1502.01852), equation 10."""
    n_in, _ = fans(shape)
    return rng.standard_normal(shape) * math.sqrt(gain * 2 / max(1, n_in))


def xavier_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Normal with variance 2 / (n_in + n_out), for layers before a symmetric activation. Glorot and Bengio (2010)."""
    n_in, n_out = fans(shape)
    return rng.standard_normal(shape) * math.sqrt(2 / max(1, n_in + n_out))


def orthogonal(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """A random matrix with orthonormal rows (or columns, where there are fewer). Saxe et al. (1312.6120), section 3."""
    rows, columns = shape
    q, r = np.linalg.qr(rng.standard_normal((max(shape), min(shape))))
    q = q * np.sign(np.diag(r))  # QR fixes signs by convention; undone, every orthogonal matrix is equally likely
    return q if rows >= columns else q.T
