"""Two rankings made into one: reciprocal rank fusion, and the weighted sum of min-max-normalised scores.

Raw scores of different retrievers have different scales, so they are never added as they are.
"""

from collections.abc import Sequence

Ranking = Sequence[tuple[str, float]]

RRF_K = 60  # Cormack, Clarke & Büttcher 2009: ranks near the top differ little, one list alone cannot dominate


def without_duplicates(ranking: Ranking) -> list[tuple[str, float]]:
    """The first, that is best, entry of each id."""
    seen: dict[str, float] = {}
    for key, score in ranking:
        seen.setdefault(key, score)
    return list(seen.items())


def reciprocal_rank_fusion(rankings: Sequence[Ranking], weights: Sequence[float]) -> list[tuple[str, float]]:
    """Fuse by ranks: score(d) = Σ_i w_i / (60 + rank_i(d)), best first, ties by id (Cormack et al. 2009, eq. 1)."""
    total: dict[str, float] = {}
    for ranking, weight in zip(rankings, weights, strict=True):
        for rank, (key, _) in enumerate(without_duplicates(ranking), start=1):
            total[key] = total.get(key, 0.0) + weight / (RRF_K + rank)
    return _sorted(total)


def score_fusion(rankings: Sequence[Ranking], weights: Sequence[float]) -> list[tuple[str, float]]:
    """Fuse by scores: each ranking is mapped onto [0, 1] by its own minimum and maximum, then summed with its weight.

    What a ranking does not hold counts as its minimum, 0. A ranking whose scores are all equal counts 1 for each.
    """
    total: dict[str, float] = {}
    for ranking, weight in zip(rankings, weights, strict=True):
        entries = without_duplicates(ranking)
        if not entries:
            continue
        low, high = min(score for _, score in entries), max(score for _, score in entries)
        for key, score in entries:
            normalised = (score - low) / (high - low) if high > low else 1.0
            total[key] = total.get(key, 0.0) + weight * normalised
    return _sorted(total)


def fuse(bm25: Ranking, dense: Ranking, method: str, dense_weight: float) -> list[tuple[str, float]]:
    """The hybrid ranking of params.yaml's `fusion` ("rrf" or "scores") and `dense_weight`."""
    combine = {"rrf": reciprocal_rank_fusion, "scores": score_fusion}[method]
    return combine([bm25, dense], [1 - dense_weight, dense_weight])


def _sorted(total: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(total.items(), key=lambda item: (-item[1], item[0]))
