"""Derivatives by differences: the referee of every gradient in this project. README, section 11."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def central_difference(function: Callable[[Array], float | Array], w: Array, h: float = 1e-5) -> Array:
    """(f(w + h e_j) - f(w - h e_j)) / 2h for each j. A scalar f gives the gradient (D,), a vector one the rows ∂f/∂w_j.

    The default is near the best step: its error h² (truncation) + ε / h (rounding) is least at h ~ ε^⅓ ~ 6e-6 (11.3).
    """
    return np.array([(function(w + h * e) - function(w - h * e)) / (2 * h) for e in np.eye(len(w))])


def forward_difference(function: Callable[[Array], float | Array], w: Array, h: float = 1e-8) -> Array:
    """(f(w + h e_j) - f(w)) / h: half the calls, but an error of h + ε / h, at best ~ ε^½ ~ 1.5e-8."""
    return np.array([(function(w + h * e) - function(w)) / h for e in np.eye(len(w))])


def relative_error(a: Array, b: Array) -> float:
    """‖a - b‖ / (‖a‖ + ‖b‖), 0 where both are zero."""
    scale = np.linalg.norm(a) + np.linalg.norm(b)
    return float(np.linalg.norm(a - b) / scale) if scale > 0 else 0.0
