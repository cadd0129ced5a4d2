"""What the solvers have in common: a solver is an endless stream of points w₀, w₁, w₂, …, and something else stops it.

So a solver's file holds its update and nothing more: no tolerance, no counter, no history.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Loss(Protocol):
    """A function of one vector with two derivatives: what a solver may ask for."""

    def value(self, w: Array) -> float:
        """The loss at w (D,)."""

    def gradient(self, w: Array) -> Array:
        """Its gradient (D,)."""

    def hessian(self, w: Array) -> Array:
        """Its Hessian (D, D)."""


@dataclass(frozen=True)
class Solution:
    """Where a solver was stopped: the point, the number of updates, the norm of the gradient there."""

    w: Array
    steps: int
    gradient_norm: float
    converged: bool


def solve(loss: Loss, iterates: Iterator[Array], tolerance: float = 1e-10, max_steps: int = 1000) -> Solution:
    """Follow `iterates` until ‖∇ loss‖ <= tolerance, or for `max_steps` updates."""
    w, steps = next(iterates), 0
    while (norm := float(np.linalg.norm(loss.gradient(w)))) > tolerance and steps < max_steps:
        w, steps = next(iterates), steps + 1
    return Solution(w, steps, norm, norm <= tolerance)


def steps_until(loss: Loss, iterates: Iterator[Array], value: float, max_steps: int) -> int | None:
    """How many updates until loss <= value; None where `max_steps` do not suffice."""
    return next((steps for steps, w in enumerate(islice(iterates, max_steps + 1)) if loss.value(w) <= value), None)


def at_steps(iterates: Iterator[Array], steps: Sequence[int]) -> list[Array]:
    """The points after each of the given numbers of updates, which must increase."""
    gaps = np.diff(steps, prepend=-1)
    return [next(islice(iterates, int(gap) - 1, None)) for gap in gaps]
