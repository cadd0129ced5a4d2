"""Chunks: exact offsets, nothing lost, natural borders."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmm.training.rag.chunking import chunk_text, looks_like_python

PYTHON = '''"""Module."""

import os


def first(value):
    """Do the first thing."""
    return value


class Second:
    """A class."""

    def method(self):
        return os.getcwd()
'''

texts = st.text(alphabet=st.sampled_from("ab .\n\t#=def():é世"), max_size=600)


@settings(deadline=None, max_examples=200)
@given(text=texts, chunk_chars=st.integers(5, 120), overlap=st.integers(0, 60))
def test_chunks_are_exact_short_enough_and_lose_nothing_visible(text: str, chunk_chars: int, overlap: int) -> None:
    overlap = min(overlap, chunk_chars - 1)
    chunks = chunk_text(text, "doc", "title", chunk_chars, overlap)
    covered = [False] * len(text)
    for chunk in chunks:
        assert chunk.text == text[chunk.start : chunk.end] and chunk.text.strip() == chunk.text != ""
        assert len(chunk.text) <= chunk_chars
        covered[chunk.start : chunk.end] = [True] * len(chunk.text)
    assert all(done or char.isspace() for done, char in zip(covered, text, strict=True))
    assert len({chunk.id for chunk in chunks}) == len(chunks)
    assert [chunk.end for chunk in chunks] == sorted({chunk.end for chunk in chunks})
    for left, right in itertools.pairwise(chunks):
        assert left.end - right.start <= overlap


@settings(deadline=None, max_examples=50)
@given(text=texts)
def test_ids_depend_on_source_and_position_only(text: str) -> None:
    one = chunk_text(text, "doc", "title", 50, 10)
    two = chunk_text(text, "doc", "another title", 50, 10)
    assert [c.id for c in one] == [c.id for c in two] == [f"doc#{c.start}-{c.end}" for c in one]


def test_python_is_cut_between_definitions_without_overlap() -> None:
    assert looks_like_python(PYTHON)
    head, tail = chunk_text(PYTHON, "m", "m", 120, 30)
    assert head.text.endswith("return value") and tail.text.startswith("class Second:")


def test_prose_is_cut_at_headings_then_paragraphs_then_sentences() -> None:
    text = "# One\n\nFirst sentence here. Second sentence here.\n\n# Two\n\nAnother paragraph of words."
    assert not looks_like_python(text)
    assert [c.text[:5] for c in chunk_text(text, "d", "d", 70, 0)] == ["# One", "# Two"]
    assert chunk_text(text, "d", "d", 32, 0)[0].text == "# One\n\nFirst sentence here."


def test_a_huge_line_is_cut_in_the_middle_and_overlaps() -> None:
    chunks = chunk_text("x" * 100_000, "d", "d", 1000, 100)
    assert all(left.end - right.start == 100 for left, right in itertools.pairwise(chunks))
    assert chunks[-1].end == 100_000


def test_an_overlap_of_a_whole_chunk_is_refused() -> None:
    with pytest.raises(ValueError, match="overlap"):
        chunk_text("text", "d", "d", 10, 10)
