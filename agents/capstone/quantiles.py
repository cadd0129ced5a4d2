"""The time that nineteen of twenty wait less than, and how well a sample knows it.

README, section 3. Source: David and Nagaraja 2003, "Order Statistics", section 7.1.
"""

import math
from collections.abc import Sequence

from scipy.stats import binom


def quantile(values: Sequence[float], q: float) -> float:
    """The smallest of `values` that at least the share `q` of them does not exceed. Equation (3.1).

    Raises ValueError for no values, or a share that is not above 0 and at most 1.
    """
    if not values or not 0 < q <= 1:
        raise ValueError(f"the quantile {q:g} of {len(values)} values")
    return sorted(values)[_rank(len(values), q) - 1]


def interval(values: Sequence[float], q: float, level: float = 0.95) -> tuple[float, float]:
    """An interval that holds the quantile of the law that `values` were drawn from, each without regard to the others,
    with probability `level` or more, whatever the law: two of the values, or an infinity where there are too few.
    Equation (3.2)."""
    n, tail, ordered = len(values), (1 - level) / 2, sorted(values)
    low = max((rank for rank in range(1, n + 1) if binom.cdf(rank - 1, n, q) <= tail), default=0)
    high = min((rank for rank in range(1, n + 1) if binom.sf(rank - 1, n, q) <= tail), default=n + 1)
    return (ordered[low - 1] if low else -math.inf, ordered[high - 1] if high <= n else math.inf)


def fewest(q: float, level: float = 0.95) -> int:
    """How many values it takes until the interval of a quantile above one half is finite. Equation (3.3)."""
    return math.ceil(math.log((1 - level) / 2) / math.log(q))


def _rank(n: int, q: float) -> int:
    return math.ceil(round(q * n, 9))  # 0.95 * 20 is 19, whatever rounding makes of it
