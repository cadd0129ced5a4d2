"""Once right, or right every time? README, section 4.

Of n attempts at a task c were right. pass@k asks whether one of k would be, pass^k whether all k would: the first
flatters an agent that is tried until it succeeds, the second is what someone needs who cannot check.
Sources: Chen et al. 2021 (2107.03374), equation 1; Yao et al. 2024 (2406.12045), section 3.
"""

import math
import statistics
from collections.abc import Sequence


def pass_hat_k(n: int, c: int, k: int) -> float:
    """C(c, k) / C(n, k), the share of all sets of k attempts that are right throughout: unbiased for pᵏ, (4.2).

    Raises ValueError unless 0 <= c <= n and 1 <= k <= n.
    """
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError(f"{c} right of {n} attempts, {k} at a time: expected 0 <= c <= n and 1 <= k <= n")
    return math.comb(c, k) / math.comb(n, k)


def pass_at_k(n: int, c: int, k: int) -> float:
    """1 - C(n - c, k) / C(n, k), the share of sets with a right one in it: unbiased for 1 - (1 - p)ᵏ, (4.3).

    Raises as `pass_hat_k`.
    """
    return 1.0 - pass_hat_k(n, n - c, k)


def reliability(counts: Sequence[int], n: int, k: int) -> float:
    """pass^k of many tasks, `counts[i]` of n attempts at each right: the mean over the tasks.

    Never less than (mean p)ᵏ in expectation, by Jensen's inequality: what an agent cannot do at all it fails together,
    (4.4). Raises ValueError without a task.
    """
    if not len(counts):
        raise ValueError("no task")
    return statistics.fmean(pass_hat_k(n, c, k) for c in counts)
