"""The extractive reader: the right quotation, at the right place, or none."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmm.training.rag.answer import calibrate, ground
from llmm.training.rag.bm25 import BM25
from llmm.training.rag.chunking import Chunk, chunk_text
from llmm.training.rag.definitions import find_definitions
from llmm.training.rag.index import Hit, IndexSettings, SearchIndex, searchable_text
from llmm.training.rag.reader import read

TEXT = '''"""Encode and decode things."""


class Coder:
    """Turns things into text."""

    def encode(self, thing, *, indent=None):
        """Return the text of `thing`. Raises ValueError for a cycle."""
        return str(thing)


def encode(thing, indent=(1, 2)):
    """Shortcut for Coder."""
    return Coder().encode(thing)
'''
CHUNKS = chunk_text(TEXT, "things.coder", "things.coder", 2000, 0)
HITS = [Hit(chunk, 1.0) for chunk in CHUNKS]


def index_of(chunks: list[Chunk]) -> SearchIndex:
    """An index that is only searched by words: it needs no encoder."""
    bm25 = BM25.build([searchable_text(chunk) for chunk in chunks] + ["other words here"] * 5, 1.5, 0.75)
    return SearchIndex(chunks, bm25, None, None, IndexSettings("bm25", "scores", 0.0))  # type: ignore[arg-type]


INDEX = index_of(CHUNKS)


def best(question: str) -> str:
    return read(question, HITS, INDEX)[0].text


def test_definitions_answer_by_the_kind_of_question() -> None:
    assert best("What does things.coder.Coder.encode do?") == "Return the text of `thing`."
    assert best("What is the signature of Coder.encode?") == "encode(self, thing, *, indent=None)"
    assert best("Which parameters does encode() take?") == "encode(thing, indent=(1, 2))"
    assert best("Where is things.coder.Coder defined?") == "Coder"


@pytest.mark.parametrize("chunk_chars", [60, 120, 2000])
def test_a_method_belongs_to_its_class_however_the_document_is_cut(chunk_chars: int) -> None:
    found = find_definitions(chunk_text(TEXT, "things.coder", "t", chunk_chars, chunk_chars // 3))
    assert sorted(definition.path for definition in found["encode"]) == [
        ("things", "coder", "Coder", "encode"),
        ("things", "coder", "encode"),
    ]


def test_a_name_that_nothing_has_is_not_answered_from_other_sentences() -> None:
    assert read("What does things.coder.encode_slowly do?", HITS, INDEX) == []


def test_other_questions_get_the_sentence_that_covers_them() -> None:
    assert best("which error is raised for a cycle") == "Raises ValueError for a cycle."


def test_a_question_about_nothing_here_gets_nothing() -> None:
    assert read("How do I bake bread?", HITS, INDEX) == []


@settings(deadline=None, max_examples=60)
@given(
    text=st.text(alphabet=st.sampled_from("ab .\n\"'():def class#é"), min_size=1, max_size=300),
    question=st.sampled_from(["What does a.b do?", "signature of b()", "where is ab defined", "a b", "é"]),
)
def test_every_quotation_stands_where_it_says(text: str, question: str) -> None:
    chunks = chunk_text(text, "a", "a", 80, 20)
    for quote in read(question, [Hit(chunk, 1.0) for chunk in chunks], index_of(chunks)):
        assert text[quote.start : quote.end] == quote.text and 0 <= quote.score <= 1


def test_only_what_a_chunk_says_is_grounded() -> None:
    found = ground("Turns  things\ninto text.", HITS)
    assert found is not None and TEXT[found.start : found.end] == found.quote == "Turns things into text."
    assert ground("Turns text into things.", HITS) is None and ground("", HITS) is None


def test_the_threshold_separates_what_can_be_separated() -> None:
    assert 0.3 < calibrate([0.8, 0.9, 1.0], [0.1, 0.3]) <= 0.8
    assert calibrate([], [0.5]) == calibrate([0.5], []) == 0.0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=15), st.lists(st.floats(0, 1), min_size=1, max_size=15))
def test_no_threshold_on_a_grid_is_better(answerable: list[float], unanswerable: list[float]) -> None:
    def accuracy(threshold: float) -> float:
        kept = sum(score >= threshold for score in answerable) / len(answerable)
        return kept + sum(score < threshold for score in unanswerable) / len(unanswerable)

    chosen = calibrate(answerable, unanswerable)
    assert all(accuracy(chosen) >= accuracy(i / 50) - 1e-12 for i in range(51))
