"""L-BFGS: Newton's direction without a Hessian, from the last few steps and what they did to the gradient.

README, section 7. Nocedal and Wright, Numerical Optimization (2006), algorithms 7.4 and 7.5.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
ENOUGH, FLATTER = 1e-4, 0.9  # the two constants of Wolfe's conditions
ROUNDING = 8 * np.finfo(np.float64).eps


def lbfgs(loss: Any, w: Array, memory: int = 10) -> Iterator[Array]:
    """w ← w - t B g with B ≈ H⁻¹ from the last `memory` steps, t from `wolfe_step`. Yields w₀ (the `w` given), w₁, …

    `loss` has `value` and `gradient`.
    """
    pairs: deque[tuple[Array, Array]] = deque(maxlen=memory)
    g = loss.gradient(w)
    while True:
        yield w
        direction = -inverse_hessian_product(pairs, g)
        step = wolfe_step(loss, w, direction) * direction
        before, g = g, loss.gradient(w + step)
        if step @ (g - before) > 0:  # true after every Wolfe step; false only where rounding has taken over
            pairs.append((step, g - before))
        w = w + step


def inverse_hessian_product(pairs: Sequence[tuple[Array, Array]], g: Array) -> Array:
    """B g (D,), with B the BFGS estimate of H⁻¹ from `pairs` (s, q), oldest first: s a step, q the change of gradient.

    Starts from γI, γ = sᵀq / qᵀq of the newest pair (I where there is none), and never forms B (equation 7.4).
    """
    v = g.copy()
    alphas = []
    for s, q in reversed(pairs):
        alpha = (s @ v) / (s @ q)
        v -= alpha * q
        alphas.append(alpha)
    if pairs:
        s, q = pairs[-1]
        v *= (s @ q) / (q @ q)
    for (s, q), alpha in zip(pairs, reversed(alphas), strict=True):
        beta = (q @ v) / (s @ q)
        v += (alpha - beta) * s
    return v


def wolfe_step(loss: Any, w: Array, direction: Array) -> float:
    """A t > 0 with both of Wolfe's conditions, by doubling and bisection; `direction` d (D,) must go downhill.

    Low enough:   loss(w + t d) <= loss(w) + ENOUGH · t · gᵀd (but for rounding), else t is too long.
    Flat enough:  ∇loss(w + t d)ᵀd >= FLATTER · gᵀd, else t is too short.
    Gives the last t tried where 60 do not suffice.
    """
    start, slope = loss.value(w), loss.gradient(w) @ direction
    short, long, t = 0.0, np.inf, 1.0
    for _ in range(60):
        if loss.value(w + t * direction) > start + ENOUGH * t * slope + ROUNDING * abs(start):
            long = t
        elif loss.gradient(w + t * direction) @ direction < FLATTER * slope:
            short = t
        else:
            break
        t = 2 * short if np.isinf(long) else (short + long) / 2
    return t
