"""Logistic regression of two classes: the loss, its gradient, its Hessian. README, sections 1 and 3.

    loss(w) = 1/N Σ_i -log σ(s_i x_iᵀw)  +  ½ Σ_j penalty_j w_j²,        s = 2y - 1 in {-1, +1}

The product m_i = s_i x_iᵀw is the margin of sample i: positive where it is classified correctly, large where surely so.
Everything below is written in margins, never as σ(z) - y, because that difference rounds to zero once |z| > 37.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmm.foundations.logistic_regression.stable import log_sigmoid, sigmoid

Array = NDArray[np.float64]


def with_intercept(X: ArrayLike) -> Array:
    """Append a column of ones, so that the last weight is the intercept: (N, D) -> (N, D + 1)."""
    X = np.asarray(X, dtype=np.float64)
    return np.hstack([X, np.ones((len(X), 1))])


def ridge(D: int, strength: float) -> Array:
    """The penalty (D,) of L2 regularisation: `strength` for every weight but the last, the intercept, which is free."""
    penalty = np.full(D, strength, dtype=np.float64)
    penalty[-1] = 0.0
    return penalty


@dataclass(frozen=True)
class BinaryLoss:
    """Mean negative log-likelihood of labels y in {0, 1} under P(y=1 | x) = σ(xᵀw), plus ½ Σ_j penalty_j w_j².

    X is (N, D) float64, y is (N,) of zeros and ones; `penalty` is (D,) or one number for all weights.
    """

    X: Array
    y: NDArray
    penalty: Array | float = 0.0

    @cached_property
    def signs(self) -> Array:
        """s = 2y - 1 (N,). Raises ValueError where a label is neither 0 nor 1."""
        if not ((self.y == 0) | (self.y == 1)).all():
            raise ValueError(f"labels must be 0 or 1, found {np.unique(self.y)[:5]}")
        return 2.0 * self.y - 1.0

    def margins(self, w: Array) -> Array:
        """s_i x_iᵀw for every sample: (D,) -> (N,)."""
        return self.signs * (self.X @ w)

    def value(self, w: Array) -> float:
        """The loss at w (D,), equation (1.4)."""
        return float(-log_sigmoid(self.margins(w)).mean() + 0.5 * np.sum(self.penalty * w**2))

    def gradient(self, w: Array) -> Array:
        """∇ loss at w: (D,) -> (D,), equation (3.2)."""
        residual = -self.signs * sigmoid(-self.margins(w))  # σ(z) - y, without the cancellation
        return self.X.T @ residual / len(self.y) + self.penalty * w

    def hessian(self, w: Array) -> Array:
        """∇² loss at w: (D,) -> (D, D), symmetric, positive semi-definite, equation (3.4)."""
        m = self.margins(w)
        weight = sigmoid(m) * sigmoid(-m)  # σ(1 - σ), again without the cancellation
        H = self.X.T @ (weight[:, None] * self.X) / len(self.y)
        H[np.diag_indices_from(H)] += self.penalty
        return H

    def rows(self, index: NDArray[np.intp]) -> "BinaryLoss":
        """The same loss over the samples of `index` only: a minibatch."""
        return replace(self, X=self.X[index], y=self.y[index])
