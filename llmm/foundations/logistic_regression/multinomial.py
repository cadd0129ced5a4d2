"""Logistic regression of K classes: softmax instead of sigmoid. README, section 8.

    loss(W) = 1/N Σ_i [log Σ_k exp(z_ik) - z_i,y_i]  +  ½ Σ_jk penalty_j W_jk²,        z_i = Wᵀx_i

The weights W (D, K) travel as one vector w = W.ravel() of length D·K, so that every solver of this folder takes them.
Adding one number to all K logits of a sample changes nothing: the loss is flat in D directions, its Hessian singular.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from llmm.foundations.logistic_regression.stable import log_sum_exp, softmax

Array = NDArray[np.float64]


@dataclass(frozen=True)
class MultinomialLoss:
    """Mean negative log-likelihood of labels y in {0, …, K-1} under P(y=k | x) = softmax(Wᵀx)_k, plus the penalty.

    X is (N, D) float64, y is (N,) of integers, K is the number of classes; `penalty` is (D,) or one number for all.
    """

    X: Array
    y: NDArray[np.intp]
    K: int
    penalty: Array | float = 0.0

    def logits(self, w: Array) -> Array:
        """z_ik = x_iᵀW_k: (D·K,) -> (N, K)."""
        return self.X @ w.reshape(-1, self.K)

    def value(self, w: Array) -> float:
        """The loss at w (D·K,), equation (8.2)."""
        Z = self.logits(w)
        own = Z[np.arange(len(Z)), self.y]
        return float((log_sum_exp(Z) - own).mean() + 0.5 * np.sum(self._penalties() * w**2))

    def gradient(self, w: Array) -> Array:
        """∇ loss at w: (D·K,) -> (D·K,), equation (8.4)."""
        residual = softmax(self.logits(w))
        own = (np.arange(len(residual)), self.y)
        residual[own] = 0.0
        residual[own] = -residual.sum(axis=1)  # p_y - 1 as minus the sum of the others: no cancellation
        return (self.X.T @ residual).ravel() / len(self.y) + self._penalties() * w

    def hessian(self, w: Array) -> Array:
        """∇² loss at w: (D·K,) -> (D·K, D·K), positive semi-definite, equation (8.5)."""
        P = softmax(self.logits(w))
        D = self.X.shape[1]
        H = np.zeros((D, self.K, D, self.K))
        for k in range(self.K):
            for j in range(self.K):
                weight = P[:, k] * ((k == j) - P[:, j])
                H[:, k, :, j] = self.X.T @ (weight[:, None] * self.X)
        H = H.reshape(D * self.K, D * self.K) / len(self.y)
        H[np.diag_indices_from(H)] += self._penalties()
        return H

    def rows(self, index: NDArray[np.intp]) -> "MultinomialLoss":
        """The same loss over the samples of `index` only: a minibatch."""
        return replace(self, X=self.X[index], y=self.y[index])

    def _penalties(self) -> Array:
        """The penalty of each entry of w: that of its row of W."""
        return np.repeat(np.broadcast_to(self.penalty, self.X.shape[1]), self.K)
