"""How good a ranking is: recall@k, reciprocal rank, nDCG@k, each for one query with binary relevance."""

import math
from collections.abc import Collection, Sequence


def recall_at(ranked: Sequence[str], relevant: Collection[str], k: int) -> float:
    """Share of the relevant ids among the first k; 0 where nothing is relevant."""
    return len(set(ranked[:k]) & set(relevant)) / len(set(relevant)) if relevant else 0.0


def reciprocal_rank(ranked: Sequence[str], relevant: Collection[str]) -> float:
    """1 / rank of the first relevant id, 0 where there is none, (4.3)."""
    return next((1 / rank for rank, key in enumerate(ranked, start=1) if key in relevant), 0.0)


def ndcg_at(ranked: Sequence[str], relevant: Collection[str], k: int) -> float:
    """Discounted gain of the first k, Σ rel_i / log2(i + 1), over that of the ideal order, (4.4).

    An id counts once, where it first appears. Source: Järvelin & Kekäläinen 2002.
    """
    wanted = set(relevant)
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(len(wanted), k) + 1))
    gain = 0.0
    for rank, key in enumerate(ranked[:k], start=1):
        if key in wanted:
            wanted.remove(key)
            gain += 1 / math.log2(rank + 1)
    return gain / ideal if ideal else 0.0
