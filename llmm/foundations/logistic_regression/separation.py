"""Can a hyperplane part the classes? If so, the likelihood has no maximum. README, section 9.

Both questions are small convex programs, and SciPy's solvers answer them.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog, nnls

Array = NDArray[np.float64]
TOLERANCE = 1e-9  # a margin is positive above this; `linprog` is exact to about 1e-10 once rows have length 1


def separation(X: Array, y: NDArray) -> Literal["complete", "quasi-complete", "overlap"]:
    """How y in {0, 1} (N,) is parted by hyperplanes xᵀw = 0 over X (N, D); append ones for an intercept.

    complete: some w has every margin s_i x_iᵀw > 0. quasi-complete: none has, but some w has all margins >= 0 and one
    above. overlap: neither; only then does the unpenalised loss have a minimum (9.2).
    """
    A = _signed_rows(X, y)
    N, D = A.shape
    in_box = [(-1.0, 1.0)] * D

    # the largest t such that some w in the box has all margins >= t
    widest = linprog(np.r_[np.zeros(D), -1.0], np.c_[-A, np.ones(N)], np.zeros(N), bounds=[*in_box, (None, None)])
    if -widest.fun > TOLERANCE:
        return "complete"
    # the largest sum of margins, none of them negative
    touching = linprog(-A.sum(axis=0), -A, np.zeros(N), bounds=in_box)
    return "quasi-complete" if -touching.fun > TOLERANCE * N else "overlap"


def max_margin(X: Array, y: NDArray) -> Array:
    """The hard-margin SVM through the origin: the shortest w (D,) with s_i x_iᵀw >= 1 for all i, X (N, D), y in {0, 1}.

    Raises ValueError where there is none. Solved as Lawson and Hanson's least distance program: with A the signed rows,
    the residual of the non-negative fit of [Aᵀ; 1ᵀ] u to (0, …, 0, 1) points along w, and u > 0 on the support vectors.
    """
    A = (2.0 * y - 1.0)[:, None] * X
    N, D = A.shape
    system, target = np.vstack([A.T, np.ones(N)]), np.r_[np.zeros(D), 1.0]
    u, _ = nnls(system, target)
    residual = target - system @ u
    if residual[-1] < TOLERANCE:
        raise ValueError("no hyperplane through the origin parts the classes")
    return -residual[:-1] / residual[-1]


def _signed_rows(X: Array, y: NDArray) -> Array:
    """s_i x_i, each scaled to length 1: the scale changes no sign, and makes one tolerance fit all."""
    A = (2.0 * y - 1.0)[:, None] * X
    return A / np.maximum(np.linalg.norm(A, axis=1, keepdims=True), np.finfo(np.float64).tiny)
