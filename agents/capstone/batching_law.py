"""What a batch gains: rows share what a step does once, and with continuous batching none waits for the longest.

A step of B rows takes a + b B seconds: `fixed` a for what is done once, whoever is there (weights are read, operations
launched), `per_row` b for each row. README, section 1. Sources: Yu et al. 2022, "Orca" (OSDI); Graham 1969, "Bounds on
multiprocessing timing anomalies", for (1.5).
"""

import heapq
from collections.abc import Sequence

import numpy as np


def step_seconds(rows: int, fixed: float, per_row: float) -> float:
    """Seconds of a step of so many rows."""
    return fixed + per_row * rows


def speedup(rows: int, fixed: float, per_row: float) -> float:
    """Tokens a second of `rows` rows over those of one. Equation (1.1)."""
    return rows * step_seconds(1, fixed, per_row) / step_seconds(rows, fixed, per_row)


def most_speedup(fixed: float, per_row: float) -> float:
    """What `speedup` tends to with ever more rows. Equation (1.2). Raises ValueError where a row costs nothing."""
    if per_row <= 0:
        raise ValueError(f"a row costs {per_row:g} seconds: then there is no limit")
    return (fixed + per_row) / per_row


def rows_for(share: float, fixed: float, per_row: float) -> float:
    """Rows at which `share` of `most_speedup` is reached, (1.3). Raises ValueError for a share of 1 or more."""
    if not 0 < share < 1 or per_row <= 0:
        raise ValueError(f"the share {share:g} where a row costs {per_row:g} s: expected one of 0 to 1, and a cost")
    return share / (1 - share) * fixed / per_row


def fit(rows: Sequence[int], seconds: Sequence[float]) -> tuple[float, float]:
    """`fixed` and `per_row` of measured steps, by least squares of the relative errors."""
    per_row, fixed = np.polyfit(rows, seconds, 1, w=1 / np.asarray(seconds))
    return float(fixed), float(per_row)


def steps_static(lengths: Sequence[int], rows: int) -> int:
    """Steps that answers of these lengths take in whole batches: each takes as long as its longest. Equation (1.4)."""
    return sum(max(lengths[first : first + rows]) for first in range(0, len(lengths), rows))


def steps_continuous(lengths: Sequence[int], rows: int) -> int:
    """Steps where an answer takes the place of one that has ended, in the order of arrival: at most (1.5)."""
    ends = [0] * rows
    for length in lengths:
        heapq.heappushpop(ends, ends[0] + length)
    return max(ends)


def expected_longest(rows: int, stop: float) -> float:
    """Mean length of the longest of `rows` answers, each of whose tokens is the last with probability `stop`.
    Equation (1.6). Raises ValueError where no token ever is."""
    if stop <= 0:
        raise ValueError(f"stop = {stop:g}: answers without end have no mean length")
    total, step = 0.0, 0
    while (missing := -np.expm1(rows * np.log1p(-((1 - stop) ** step))) if step else 1.0) > 1e-16:
        total, step = total + missing, step + 1
    return total
