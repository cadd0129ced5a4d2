"""Several answers to one question, and the one that most of them agree on. README, section 1.

Sources: Condorcet 1785, the jury theorem; Wang et al. 2022 (2203.11171), section 2, who call the vote among sampled
answers self-consistency.
"""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import TypeVar

Answer = TypeVar("Answer", bound=Hashable)


def plurality(answers: Sequence[Answer]) -> Answer:
    """The answer given most often; among equals the one that was given first.

    Raises ValueError without an answer.
    """
    if not answers:
        raise ValueError("no answer to count")
    counts = Counter(answers)  # keeps the order in which answers came
    return max(counts, key=counts.__getitem__)


def majority_of_independent(n: int, p: float) -> float:
    """Probability that more than half of `n` independent answers are right, each with probability `p`; ties count a
    half: (1.1)."""
    return _majority([math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)])


def majority_of_correlated(n: int, p: float, rho: float) -> float:
    """The same where tasks differ: each has its own probability, Beta distributed with mean `p`, and two answers to one
    task have the correlation `rho` in [0, 1): (1.3). With `rho` = 0 the answers are independent.

    Raises ValueError where p is not inside (0, 1) while rho > 0, or rho not in [0, 1).
    """
    if not 0 <= rho < 1:
        raise ValueError(f"rho = {rho}: expected a correlation in [0, 1)")
    if rho == 0:
        return majority_of_independent(n, p)
    if not 0 < p < 1:
        raise ValueError(f"p = {p}: expected a probability inside (0, 1) where answers are correlated")
    total = (1 - rho) / rho  # of the two parameters of the Beta distribution
    a, b = p * total, (1 - p) * total
    return _majority([math.exp(_log_beta_binomial(c, n, a, b)) for c in range(n + 1)])


def majority_of_many(p: float, rho: float) -> float:
    """What the vote tends to with ever more answers: the share of tasks that are right more often than not, (1.4)."""
    from scipy.stats import beta

    total = (1 - rho) / rho
    return float(beta.sf(0.5, p * total, (1 - p) * total))


def correlation(right: Sequence[Sequence[bool]]) -> float:
    """Correlation of two answers to one task, from `right` (tasks × answers), an equal number of answers each: (1.2).

    The variance between tasks of the share of right answers, less what chance alone would make of it; 0 where all are
    right or all are wrong. Raises ValueError with fewer than two answers or tasks.
    """
    if len(right) < 2 or min(map(len, right)) < 2:
        raise ValueError("a correlation needs two tasks and two answers to each")
    pairs = [_agreeing_pairs(row) for row in right]  # share of pairs that are both right
    p = sum(sum(row) / len(row) for row in right) / len(right)
    if p in (0.0, 1.0):
        return 0.0
    return (sum(pairs) / len(pairs) - p * p) / (p * (1 - p))


def _agreeing_pairs(row: Sequence[bool]) -> float:
    return math.comb(sum(row), 2) / math.comb(len(row), 2)


def _majority(law: Sequence[float]) -> float:
    """Probability of more than half, half of that of exactly half, by the law of the number of right answers."""
    n = len(law) - 1
    return math.fsum(share * (1.0 if 2 * c > n else 0.5 if 2 * c == n else 0.0) for c, share in enumerate(law))


def _log_beta_binomial(c: int, n: int, a: float, b: float) -> float:
    choose = math.lgamma(n + 1) - math.lgamma(c + 1) - math.lgamma(n - c + 1)
    return choose + _log_beta(a + c, b + n - c) - _log_beta(a, b)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
