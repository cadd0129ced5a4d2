"""Intervals for means, rates and paired differences."""

import math
from collections.abc import Iterator
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Resampled means are computed in blocks of about so many numbers, so that memory does not grow with the resamples.
_BLOCK = 1 << 22


def bootstrap_interval(values: ArrayLike, samples: int, seed: int, level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of `values` (N,), from `samples` resamples.

    For a rate of few trials use `wilson_interval`: resampling nothing but successes gives an interval of width zero.
    Raises ValueError where there is no value or one is not finite.
    Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3.
    """
    data = _finite_vector(values, "values")
    means = np.concatenate(list(_resampled_means(data, samples, seed)))
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def paired_bootstrap(a: ArrayLike, b: ArrayLike, samples: int, seed: int, level: float = 0.95) -> dict[str, float]:
    """Mean of a - b (N,) with its percentile bootstrap interval: {"difference", "low", "high"}.

    Item i of `a` and of `b` must be the same query or task, so that its difficulty cancels out. The systems differ, at
    `level`, where the interval excludes zero. Raises ValueError where the lengths differ or are zero, or a value is not
    finite.
    """
    first, second = _finite_vector(a, "a"), _finite_vector(b, "b")
    if len(first) != len(second):
        raise ValueError(f"a has {len(first)} values and b {len(second)}: pairs are needed")
    difference = first - second
    low, high = bootstrap_interval(difference, samples, seed, level)
    return {"difference": float(difference.mean()), "low": low, "high": high}


def wilson_interval(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a rate, (0, 1) where `n` is 0. Raises ValueError unless 0 <= successes <= n.

    Wilson, Probable inference, the law of succession, and statistical inference (1927).
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes in {n} trials")
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + level) / 2)
    rate = successes / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    # exact at the ends, where rounding would leave 1e-17
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high


def _resampled_means(data: NDArray[np.float64], samples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    generator = np.random.default_rng(seed)
    rows = max(1, _BLOCK // len(data))
    for start in range(0, samples, rows):
        picks = generator.integers(len(data), size=(min(rows, samples - start), len(data)))
        yield data[picks].mean(axis=1)


def _finite_vector(values: ArrayLike, name: str) -> NDArray[np.float64]:
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or len(data) == 0:
        raise ValueError(f"{name} has shape {data.shape}: a vector of at least one number is needed")
    if not np.isfinite(data).all():
        raise ValueError(f"{name} holds a number that is not finite")
    return data
