"""How large a batch is worth it: the gradient noise scale, and the trade of steps against examples.

Source: McCandlish et al. 2018 (1812.06162), section 2 and appendix A.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import least_squares
from torch import Tensor


@dataclass
class NoiseScale:
    """B_simple = tr Σ / |G|², from gradients of a small and of a large batch taken at the same weights.

    The two squares that it divides are estimated without bias (README 3.4) and averaged before they are divided: a
    mean of ratios would not be one of the estimates, and a single ratio may have any sign.
    """

    signal: float = 0.0  # sum of the estimates of |G|²
    noise: float = 0.0  # sum of the estimates of tr Σ
    estimates: int = 0

    def add(self, small_square: float, big_square: float, small: int, big: int) -> None:
        """Take in E|g_b|², measured on `small` examples, and |g_B|² on `big`: README (3.4).

        Raises ValueError unless small < big.
        """
        if not 0 < small < big:
            raise ValueError(f"batches of {small} and {big}: expected a smaller and a larger one")
        self.signal += (big * big_square - small * small_square) / (big - small)
        self.noise += (small_square - big_square) / (1 / small - 1 / big)
        self.estimates += 1

    @property
    def value(self) -> float:
        """B_simple, in examples; infinite where noise drowns the gradient."""
        return self.noise / self.signal if self.signal > 0 else float("inf")


def squares(gradients: Iterable[Sequence[Tensor]]) -> tuple[float, float]:
    """(mean of |g_k|², |mean of g_k|²) over micro-batches k of equal size: all that the estimators need (README 3.3).

    Each gradient is one tensor for each parameter; one at a time is held, beside their sum.
    """
    total: list[Tensor] = []
    count, mean_square = 0, 0.0
    for gradient in gradients:
        wide = [g.double() for g in gradient]
        mean_square += sum(float(g.square().sum()) for g in wide)
        total = [t + g for t, g in zip(total, wide, strict=True)] if total else wide
        count += 1
    return mean_square / count, sum(float(t.div(count).square().sum()) for t in total)


@torch.no_grad()
def gradient_of(parameters: Iterable[Tensor]) -> list[Tensor]:
    """The gradients of the last backward pass, as copies."""
    return [p.grad.clone() for p in parameters if p.grad is not None]


@dataclass(frozen=True)
class TradeOff:
    """(S / S_min - 1) (E / E_min - 1) = 1 with E = B S: steps against examples to the same loss, README (3.8)."""

    fewest_steps: float  # S_min: no batch, however large, needs fewer
    fewest_examples: float  # E_min: no batch, however small, needs fewer

    @property
    def critical_batch(self) -> float:
        """E_min / S_min: there both cost twice their least."""
        return self.fewest_examples / self.fewest_steps

    def steps(self, batch: float) -> float:
        """S(B) = S_min (1 + B_crit / B), README (3.7)."""
        return self.fewest_steps * (1 + self.critical_batch / batch)

    def examples(self, batch: float) -> float:
        """E(B) = E_min (1 + B / B_crit), README (3.9)."""
        return self.fewest_examples * (1 + batch / self.critical_batch)


def fit_trade_off(batches: Sequence[float], steps: Sequence[float]) -> TradeOff:
    """The curve through runs of `batches` examples a step that took `steps` steps to one loss.

    Least squares on log S, so that a run of 5 steps weighs as much as one of 5,000. Raises ValueError for fewer than
    two different batches.
    """
    sizes, log_steps = np.asarray(batches, float), np.log(np.asarray(steps, float))
    if len(set(batches)) < 2:
        raise ValueError("one size of batch says nothing about the trade: at least two are needed")

    def residuals(theta: np.ndarray) -> np.ndarray:
        return np.logaddexp(theta[0], theta[1] - np.log(sizes)) - log_steps

    start = [log_steps.min(), float(log_steps[sizes.argmin()] + np.log(sizes.min()))]
    found = least_squares(residuals, start, xtol=1e-14, ftol=1e-14, gtol=1e-14)
    return TradeOff(*map(float, np.exp(found.x)))
