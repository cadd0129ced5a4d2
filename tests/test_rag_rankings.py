"""Measures of a ranking against hand values, and fusion of rankings."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmm.training.rag.hybrid import fuse, reciprocal_rank_fusion, score_fusion
from llmm.training.rag.metrics import ndcg_at, recall_at, reciprocal_rank

RANKED = st.lists(st.sampled_from("abcdefgh"), max_size=8, unique=True)


def test_hand_values() -> None:
    ranked = ["x", "a", "y", "b"]
    assert recall_at(ranked, {"a", "b"}, 2) == 0.5 and recall_at(ranked, {"a", "b"}, 4) == 1.0
    assert reciprocal_rank(ranked, {"a", "b"}) == 0.5 and reciprocal_rank(ranked, {"z"}) == 0.0
    ideal = 1 + 1 / math.log2(3)
    assert ndcg_at(ranked, {"a", "b"}, 10) == pytest.approx((1 / math.log2(3) + 1 / math.log2(5)) / ideal)
    assert ndcg_at(ranked, {"a", "b"}, 3) == pytest.approx((1 / math.log2(3)) / ideal)
    assert ndcg_at(["a", "a", "a"], {"a", "b"}, 10) == pytest.approx(1 / ideal)
    assert recall_at(ranked, set(), 5) == ndcg_at(ranked, set(), 5) == 0.0


@given(ranked=RANKED, relevant=st.sets(st.sampled_from("abcdefgh"), min_size=1), k=st.integers(1, 10))
def test_measures_are_shares_and_perfect_only_for_perfect_rankings(
    ranked: list[str], relevant: set[str], k: int
) -> None:
    for value in (recall_at(ranked, relevant, k), reciprocal_rank(ranked, relevant), ndcg_at(ranked, relevant, k)):
        assert 0 <= value <= 1
    ideal = sorted(relevant) + [key for key in ranked if key not in relevant]
    assert ndcg_at(ideal, relevant, k) == pytest.approx(1)
    assert ndcg_at(ranked, relevant, k) <= ndcg_at(ideal, relevant, k) + 1e-12
    assert (ndcg_at(ranked, relevant, 10) > 0) == (reciprocal_rank(ranked, relevant) > 0)


def test_reciprocal_rank_fusion_by_hand() -> None:
    fused = dict(reciprocal_rank_fusion([[("a", 9.0), ("b", 8.0)], [("b", 0.3)]], [1, 1]))
    assert fused["a"] == pytest.approx(1 / 61) and fused["b"] == pytest.approx(1 / 62 + 1 / 61)


def test_score_fusion_by_hand() -> None:
    fused = score_fusion([[("a", 10.0), ("b", 5.0), ("c", 0.0)], [("b", 0.9), ("d", 0.1)]], [0.7, 0.3])
    assert fused == [("a", pytest.approx(0.7)), ("b", pytest.approx(0.65)), ("c", 0.0), ("d", 0.0)]


def test_a_duplicate_counts_once_where_it_is_best() -> None:
    twice = [("a", 3.0), ("b", 2.0), ("a", 1.0)]
    for method in ("rrf", "scores"):
        assert fuse(twice, [], method, 0.5) == fuse(twice[:2], [], method, 0.5)


@given(first=RANKED, second=RANKED, method=st.sampled_from(["rrf", "scores"]))
def test_fusion_keeps_every_id_and_a_weight_of_zero_keeps_the_other_ranking(
    first: list[str], second: list[str], method: str
) -> None:
    bm25 = [(key, 10.0 - rank) for rank, key in enumerate(first)]
    dense = [(key, 1 - rank / 10) for rank, key in enumerate(second)]
    assert {key for key, _ in fuse(bm25, dense, method, 0.4)} == set(first) | set(second)
    assert [key for key, score in fuse(bm25, dense, method, 0.0) if score > 0] == [
        key for rank, key in enumerate(first) if method == "rrf" or rank < len(first) - 1 or len(first) == 1
    ]
