"""BM25 against the bm25s library, and on disk."""

from pathlib import Path

import bm25s
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmm.errors import UserError
from llmm.training.rag.bm25 import BM25, best_first
from llmm.training.rag.words import split_words

WORDS = st.sampled_from(["open", "file", "read", "json", "decode", "the", "a", "of"])
CORPUS = st.lists(st.lists(WORDS, min_size=1, max_size=12), min_size=2, max_size=12)


@settings(deadline=None, max_examples=60)
@given(corpus=CORPUS, query=st.lists(WORDS, min_size=1, max_size=6), k1=st.floats(0.2, 3), b=st.floats(0, 1))
def test_scores_equal_those_of_bm25s(corpus: list[list[str]], query: list[str], k1: float, b: float) -> None:
    ours = BM25.build([" ".join(words) for words in corpus], k1, b, str.split)
    theirs = bm25s.BM25(method="lucene", k1=k1, b=b, dtype="float64")
    theirs.index(corpus, show_progress=False)
    known = [word for word in query if word in ours.number]
    expected = theirs.get_scores(known) if known else np.zeros(len(corpus))
    np.testing.assert_allclose(ours.scores(" ".join(query)), expected, atol=1e-9, rtol=0)


def test_words_of_code_and_of_english() -> None:
    assert split_words("HTTPServer_error json.loads(someValue2)") == [
        "http", "server", "error", "json", "loads", "some", "value", "2",
    ]  # fmt: skip
    assert split_words("Größe naïve 世界") == ["größe", "naïve", "世界"]


def test_documents_without_a_word_of_the_query_are_no_hits() -> None:
    index = BM25.build(["alpha beta", "beta", "gamma"], 1.5, 0.75)
    assert [position for position, _ in index.search("beta", 10)] == [1, 0]
    assert index.search("unknown words", 10) == []
    assert [position for position, _ in index.search("beta", 10, np.array([True, False, True]))] == [0]


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0]), max_size=20), st.integers(0, 25))
def test_best_first_is_a_stable_sort_cut_at_k(scores: list[float], k: int) -> None:
    expected = sorted((i for i, s in enumerate(scores) if s > 0), key=lambda i: -scores[i])[:k]
    assert [i for i, _ in best_first(np.array(scores), k)] == expected


def test_it_is_saved_without_pickle_and_with_stable_bytes(tmp_path: Path) -> None:
    index = BM25.build(["open the file", "naïve read", ""], 1.2, 0.5)
    index.save(tmp_path / "a.npz")
    loaded = BM25.load(tmp_path / "a.npz")
    loaded.save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert loaded.search("naïve file", 5) == index.search("naïve file", 5)
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:100])
    with pytest.raises(UserError, match=r"a\.npz is no readable BM25 index"):
        BM25.load(tmp_path / "a.npz")
