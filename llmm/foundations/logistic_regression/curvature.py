"""How curved the loss is, and how fast gradient descent is for that reason. README, section 5."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def smoothness(X: Array, penalty: Array | float = 0.0) -> float:
    """L of the binary loss, the largest curvature anywhere: λ_max(XᵀX / 4N + diag(penalty)), equation (5.1).

    X is (N, D), `penalty` (D,) or one number. Attained at w = 0, where every sample is undecided.
    """
    N, D = X.shape
    return float(np.linalg.eigvalsh(X.T @ X / (4 * N) + np.diag(np.broadcast_to(penalty, D)))[-1])


def softmax_smoothness(X: Array, penalty: Array | float = 0.0) -> float:
    """A bound on the curvature of the softmax loss: λ_max(XᵀX / 2N + diag(penalty)), equation (8.6)."""
    N, D = X.shape
    return float(np.linalg.eigvalsh(X.T @ X / (2 * N) + np.diag(np.broadcast_to(penalty, D)))[-1])


def extreme_curvatures(loss: Any, w: Array) -> tuple[float, float]:
    """(μ, L) at w (D,): the smallest and largest eigenvalue of `loss.hessian(w)`."""
    eigenvalues = np.linalg.eigvalsh(loss.hessian(w))
    return float(eigenvalues[0]), float(eigenvalues[-1])


def contraction(mu: float, L: float, lr: float) -> float:
    """The factor by which a step of gradient descent shrinks the distance to a minimum with curvatures in [μ, L] (5.5).

    Below 1 for 0 < lr < 2 / L if μ > 0; smallest, (κ - 1) / (κ + 1) with κ = L / μ, at lr = 2 / (L + μ).
    """
    return max(abs(1 - lr * mu), abs(1 - lr * L))
