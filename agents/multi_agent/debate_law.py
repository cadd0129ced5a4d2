"""A debate in which each takes over what it hears: it ends in agreement, and on average nobody is wiser. README,
section 2.

Each of n debaters says again what one of all n, itself included, said in the round before, drawn alike: the voter model
(Wright 1931 and Fisher 1930 in genetics). Source for debates of language models: Choi et al. 2025 (2508.17536),
section 4, who show that beliefs move like a martingale.
"""

from math import comb

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]


def one_round(n: int, weight: float = 0.0) -> Matrix:
    """Transition matrix (n + 1, n + 1) of the number of debaters who are right: row i, from i right ones.

    `weight` in [0, 1] is how often a debater finds out the truth by itself instead of listening, (2.4). With 0 the
    expected number of right ones never changes, (2.1).
    """
    rows = np.zeros((n + 1, n + 1))
    for i in range(n + 1):
        right = weight + (1 - weight) * i / n
        rows[i] = [comb(n, j) * right**j * (1 - right) ** (n - j) for j in range(n + 1)]
    return rows


def after(n: int, p: float, rounds: int, weight: float = 0.0) -> Matrix:
    """Law (n + 1,) of the number of right ones after `rounds`, each right at first with probability `p`."""
    law = np.array([comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(n + 1)])
    return law @ np.linalg.matrix_power(one_round(n, weight), rounds)


def absorbed(n: int) -> Matrix:
    """Probability (n + 1,) that all end up right, from i right ones: i / n, (2.2). Solved, not assumed."""
    inner = one_round(n)[1:n]
    solution = np.linalg.solve(np.eye(n - 1) - inner[:, 1:n], inner[:, n])
    return np.concatenate([[0.0], solution, [1.0]])


def disagreement(n: int, rounds: int) -> float:
    """What is left of the probability that two debaters, drawn with repetition, disagree: (1 - 1/n)^rounds, (2.3)."""
    return float((1 - 1 / n) ** rounds)
