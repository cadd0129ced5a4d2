"""What a gate can see: how often it catches a loss, and how often it cries wolf.

Of n items a build loses each with probability `lost` and wins it with `won`. README, section 5. Sources: McNemar 1947;
Miller 2024 (2411.00640), sections 4 and 5; Bonferroni's inequality.
"""

import functools
import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom


@functools.cache
def critical(n: int, level: float) -> NDArray[np.int64]:
    """For 0 to `n` changed items, the fewest losses among them at which the one-sided exact test falls below `level`;
    one more than there are where not even all of them would do. Equation (5.1)."""
    changed, losses = np.arange(n + 1)[:, None], np.arange(n + 2)
    low_enough = (binom.sf(losses - 1, changed, 0.5) < level) | (losses > changed)
    return low_enough.argmax(1)


def power(n: int, lost: float, won: float, level: float) -> float:
    """Probability that the test of `n` items falls below `level`, (5.2). Raises ValueError for shares above 1."""
    if not 0 <= lost + won <= 1:
        raise ValueError(f"{lost:g} lost and {won:g} won: more than all items")
    churn, changed = lost + won, np.arange(n + 1)
    if churn == 0:
        return 0.0
    caught = binom.sf(critical(n, level) - 1, changed, lost / churn)
    return float(binom.pmf(changed, n, churn) @ caught)


def unpaired_power(n: int, before: float, after: float, level: float) -> float:
    """The same of a test that compares two rates and does not know which items changed. Equation (5.3)."""
    spread = math.sqrt((before * (1 - before) + after * (1 - after)) / n)
    return NormalDist().cdf((before - after) / spread - NormalDist().inv_cdf(1 - level))


def smallest_loss(n: int, won: float, level: float, wanted: float = 0.8) -> float:
    """The smallest loss, as a share of the items, that is caught with probability `wanted`, where the share `won` is
    won besides. Found by bisection to 1e-6. Raises ValueError where none is."""
    low, high = 0.0, 1.0 - won
    if power(n, high, won, level) < wanted:
        raise ValueError(f"{n} items at a level of {level:g}: no loss is caught so often")
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (low, middle) if power(n, middle, won, level) >= wanted else (middle, high)
    return high - won
