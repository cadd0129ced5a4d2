"""Is a model that says 90% right nine times in ten? How to see it, and how one number mends most of it.

README, section 10. Guo et al. 2017 (1706.04599).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmm.foundations.logistic_regression.stable import log_sum_exp, softmax

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Reliability:
    """For each of B equal bins of confidence: how many samples, their mean confidence, the share that is right.

    All three are (B,); mean and share of an empty bin are 0.
    """

    count: NDArray[np.intp]
    confidence: Array
    accuracy: Array


def reliability(confidence: ArrayLike, correct: ArrayLike, bins: int = 15) -> Reliability:
    """Sort predictions by confidence (N,) in [0, 1] into `bins` equal bins; `correct` (N,) says which are right.

    Bin b holds confidences in (b / bins, (b + 1) / bins]; a confidence of exactly 0 belongs to the first.
    """
    confidence = np.asarray(confidence, dtype=np.float64)
    edges = np.linspace(0.0, 1.0, bins + 1)
    index = np.maximum(np.searchsorted(edges, confidence, side="left") - 1, 0)
    count = np.bincount(index, minlength=bins)
    some = np.maximum(count, 1)  # an empty bin divides 0 by 1
    return Reliability(
        count,
        np.bincount(index, weights=confidence, minlength=bins) / some,
        np.bincount(index, weights=np.asarray(correct, dtype=np.float64), minlength=bins) / some,
    )


def expected_calibration_error(confidence: ArrayLike, correct: ArrayLike, bins: int = 15) -> float:
    """Σ_b (n_b / N) |accuracy_b - confidence_b|, equation (10.2): how far off a stated confidence is on average."""
    table = reliability(confidence, correct, bins)
    return float(np.sum(table.count / table.count.sum() * np.abs(table.accuracy - table.confidence)))


def tempered_loss(logits: Array, y: NDArray[np.intp], temperature: float) -> float:
    """Mean negative log-likelihood of y (N,) under softmax(logits / temperature), logits (N, K)."""
    Z = logits / temperature
    return float((log_sum_exp(Z) - Z[np.arange(len(Z)), y]).mean())


def fit_temperature(logits: Array, y: NDArray[np.intp], tolerance: float = 1e-12) -> float:
    """The T > 0 that minimises `tempered_loss` of logits (N, K) and labels y (N,) in {0, …, K-1}.

    The loss is convex in β = 1 / T, so its slope E[z] - z_y has one root, found by Newton's method inside a bracket.
    Raises ValueError where the minimum is at T = 0 (all samples are right) or T = ∞ (logits worse than none).
    """
    own = logits[np.arange(len(logits)), y]
    if (own == logits.max(axis=1)).all():
        raise ValueError("every sample is classified correctly: the likelihood grows for ever as T goes to 0")
    if logits.mean() >= own.mean():
        raise ValueError("the logits say less than none: the likelihood grows for ever as T goes to infinity")

    low, high, beta = 0.0, np.inf, 1.0
    while True:
        P = softmax(beta * logits)
        mean = (P * logits).sum(axis=1)
        slope = (mean - own).mean()  # (10.4)
        curvature = (P * (logits - mean[:, None]) ** 2).sum(axis=1).mean()  # (10.5)
        low, high = (low, beta) if slope > 0 else (beta, high)
        after = beta - slope / curvature if curvature > 0 else np.inf
        if not low < after < high:
            after = 2 * low if np.isinf(high) else (low + high) / 2
        if abs(after - beta) <= tolerance * beta:
            return 1.0 / after
        beta = after
