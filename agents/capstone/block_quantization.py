"""Weights in few bits: every 32 share a scale, which their largest decides.

With 8 bits this is GGUF's type q8_0, bit for bit. README, section 6. Sources: the description of that type in ggml;
Bennett 1948, "Spectra of quantized signals", for (6.2).
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.stats import norm

BLOCK = 32
Weights = NDArray[np.float32]


def quantize(weights: Weights, bits: int) -> tuple[NDArray[np.float16], NDArray[np.int8]]:
    """Scales (N, 1) in half precision and codes (N, 32) of weights that are taken in rows of 32. Equation (6.1).

    Raises ValueError for a number of weights that 32 does not divide, or bits other than 2 to 8.
    """
    if weights.size % BLOCK or not 2 <= bits <= 8:
        raise ValueError(f"{weights.size} weights in {bits} bits: expected rows of {BLOCK} and 2 to 8 bits")
    blocks = weights.astype(np.float32).reshape(-1, BLOCK)
    scales = np.abs(blocks).max(1, keepdims=True) / np.float32(most(bits))
    with np.errstate(divide="ignore"):
        inverse = np.where(scales == 0, np.float32(0), np.float32(1) / scales)
    scaled = blocks * inverse
    codes = np.sign(scaled) * np.floor(np.abs(scaled) + np.float32(0.5))  # a half goes away from zero
    return scales.astype(np.float16), codes.astype(np.int8)


def dequantize(scales: NDArray[np.float16], codes: NDArray[np.int8]) -> Weights:
    """The weights (N, 32) that are left."""
    return scales.astype(np.float32) * codes


def most(bits: int) -> int:
    """The largest code."""
    return 2 ** (bits - 1) - 1


def bits_per_weight(bits: int) -> float:
    """What a weight takes, its share of the scale included."""
    return bits + 16 / BLOCK


def relative_noise(bits: int) -> float:
    """Expected √(mean squared error) of normal weights of standard deviation 1. Equation (6.2)."""
    squared_largest, _ = quad(lambda x: 2 * x * -math.expm1(BLOCK * math.log1p(-2 * norm.sf(x))), 1e-9, 12)
    return math.sqrt((1 - 1 / BLOCK) * squared_largest / 12) / most(bits)
