"""Two systems on the same tasks: only where one is right and the other wrong is there anything to see. README,
section 5.

Source: McNemar 1947, Note on the sampling error of the difference between correlated proportions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Paired:
    """Tasks that only the first or only the second did right, and how surprising that is if neither is better."""

    only_first: int
    only_second: int
    p_value: float


def exact_p(only_first: int, only_second: int) -> float:
    """Two-sided p-value of the exact test, (5.1): twice the smaller tail of a binomial law of one half, at most 1."""
    n, smaller = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(n, k) for k in range(smaller + 1))
    return min(1.0, 2 * tail / 2**n)


def paired(first: Sequence[bool], second: Sequence[bool]) -> Paired:
    """Compare what two systems did right, task by task. Raises ValueError where the lengths differ."""
    only_first = sum(a and not b for a, b in zip(first, second, strict=True))
    only_second = sum(b and not a for a, b in zip(first, second, strict=True))
    return Paired(only_first, only_second, exact_p(only_first, only_second))


def smallest_difference(discordant: int, level: float = 0.05) -> int | None:
    """How far apart the two counts must be, of so many discordant tasks, to be told apart at `level`: (5.2).

    None where so few tasks can show nothing.
    """
    found = (b - a for a, b in ((k, discordant - k) for k in range(discordant // 2, -1, -1)) if exact_p(a, b) <= level)
    return next(found, None)
