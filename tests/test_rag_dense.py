"""The vector store: exact search, filters before it, deletion, persistence."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmm.errors import UserError
from llmm.files import read_json, write_json
from llmm.training.rag.dense import DenseStore


def vectors(count: int, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def store_of(count: int) -> DenseStore:
    store = DenseStore(8)
    store.add([f"d{i}" for i in range(count)], vectors(count))
    return store


@settings(deadline=None, max_examples=40)
@given(count=st.integers(1, 30), k=st.integers(1, 12), data=st.data())
def test_search_is_exact_and_filters_before_it_searches(count: int, k: int, data: st.DataObject) -> None:
    store, query = store_of(count), vectors(1, seed=1)[0]
    allowed = data.draw(st.sets(st.integers(0, count - 1)))
    scores = vectors(count) @ query
    expected = sorted(allowed, key=lambda i: -scores[i])[:k]
    found = store.search(query, k, [f"d{i}" for i in allowed])
    assert [key for key, _ in found] == [f"d{i}" for i in expected]
    assert [score for _, score in found] == pytest.approx(scores[expected], abs=1e-6)
    assert len(store.search(query, k)) == min(k, count)


def test_removed_and_replaced_ids() -> None:
    store = store_of(5)
    assert store.remove(["d1", "d3", "nowhere"]) == 2 and len(store) == 3 and "d1" not in store
    store.add(["d0", "d9"], vectors(2, seed=7))
    assert len(store) == 4
    assert store.search(vectors(2, seed=7)[0], 1)[0] == ("d0", pytest.approx(1, abs=1e-6))
    np.testing.assert_allclose(store.vectors(["d9"]), vectors(2, seed=7)[1:], atol=1e-6)


def test_it_comes_back_from_disk_and_goes_on(tmp_path: Path) -> None:
    store = store_of(6)
    store.remove(["d2"])
    store.save(tmp_path)
    loaded = DenseStore.load(tmp_path)
    query = vectors(1, seed=3)[0]
    assert loaded.search(query, 6) == store.search(query, 6)
    loaded.add(["new"], query[None])
    assert loaded.search(query, 1)[0][0] == "new" and len(loaded) == 6


def test_a_damaged_store_is_refused_in_one_line(tmp_path: Path) -> None:
    store_of(3).save(tmp_path)
    record = read_json(tmp_path / "dense.json")
    write_json(tmp_path / "dense.json", {"ids": record["ids"][:2], "numbers": record["numbers"][:2]})
    with pytest.raises(UserError, match=r"holds 3 vectors but dense\.json names 2"):
        DenseStore.load(tmp_path)
    (tmp_path / "dense.faiss").write_bytes(b"no index")
    with pytest.raises(UserError, match="no readable faiss index"):
        DenseStore.load(tmp_path)
