"""Answers from the index: a quotation with its place, or an honest "not found in the corpus".

The default answer is extractive, so every word of it stands in the cited document. An answer that the fine-tuned model
wrote (see `generation`) is only accepted where the same words are found in a retrieved chunk.
"""

import functools
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from llmm.errors import UserError
from llmm.training.rag.index import Hit, IndexSettings, SearchIndex, open_index
from llmm.training.rag.reader import Quote, kind_of, read

NOT_FOUND = "not found in the corpus"
READ_CHUNKS = 10
CITATIONS = 3


@dataclass(frozen=True)
class Citation:
    """`quote` is exactly text[start:end] of the document `source`; `score` in [0, 1] is the reader's confidence."""

    source: str
    start: int
    end: int
    quote: str
    score: float


@dataclass(frozen=True)
class Answer:
    """`text` answers the question where `found`, else it is NOT_FOUND and there are no citations."""

    text: str
    found: bool
    citations: list[Citation] = field(default_factory=list)


def answer(
    question: str, index: SearchIndex | None = None, k: int = READ_CHUNKS, retriever: str | None = None
) -> Answer:
    """Answer from the k best chunks of `index` (default: the one on disk).

    Raises UserError for an empty question and where the index is missing or does not fit its parents.
    """
    if not question.strip():
        raise UserError("the question is empty: ask one, such as `llmm ask 'What does json.dumps do?'`")
    index = index or _default_index()
    return compose(question, index.search(question, k, retriever), index)


def compose(question: str, hits: Sequence[Hit], index: SearchIndex) -> Answer:
    """The extractive answer from chunks that were found already; abstains below the index's thresholds."""
    quotes = read(question, hits, index)
    if not quotes or quotes[0].score < _threshold(quotes[0], index.settings):
        return Answer(NOT_FOUND, False)
    best = quotes[0]
    text = best.source if kind_of(question) == "where" else " ".join(best.text.split())
    return Answer(text, True, [_citation(quote) for quote in _distinct(quotes)[:CITATIONS]])


def confidence(question: str, hits: Sequence[Hit], index: SearchIndex) -> float:
    """The score that the threshold is compared with; 0 where nothing was found."""
    quotes = read(question, hits, index)
    return quotes[0].score if quotes else 0.0


def ground(text: str, hits: Sequence[Hit]) -> Citation | None:
    """Where `text` stands in the chunks, white space aside, or None: what no chunk says is not grounded."""
    words = text.split()
    if not words:
        return None
    pattern = re.compile(r"\s+".join(map(re.escape, words)))
    for hit in hits:
        if match := pattern.search(hit.chunk.text):
            start, end = (hit.chunk.start + offset for offset in match.span())
            return Citation(hit.chunk.source, start, end, match.group(), 1.0)
    return None


def calibrate(answerable: Sequence[float], unanswerable: Sequence[float]) -> float:
    """The threshold on the confidence with the highest balanced accuracy, (8.3); answers are given at or above it.

    Of equally good thresholds the middle one. 0 where one of the lists is empty: nothing to calibrate on.
    """
    if not answerable or not unanswerable:
        return 0.0
    candidates = sorted({0.0, *answerable, *unanswerable})
    candidates = sorted({*candidates, *((a + b) / 2 for a, b in itertools.pairwise(candidates))})

    def balanced_accuracy(threshold: float) -> float:
        kept = sum(score >= threshold for score in answerable) / len(answerable)
        refused = sum(score < threshold for score in unanswerable) / len(unanswerable)
        return (kept + refused) / 2

    best = max(map(balanced_accuracy, candidates))
    winners = [threshold for threshold in candidates if balanced_accuracy(threshold) == best]
    return winners[len(winners) // 2]


def _threshold(quote: Quote, settings: IndexSettings) -> float:
    return settings.definition_threshold if quote.defines else settings.sentence_threshold


def _distinct(quotes: Sequence[Quote]) -> list[Quote]:
    seen: dict[tuple[str, int, int], Quote] = {}
    for quote in quotes:
        seen.setdefault((quote.source, quote.start, quote.end), quote)
    return list(seen.values())


def _citation(quote: Quote) -> Citation:
    return Citation(quote.source, quote.start, quote.end, quote.text, quote.score)


@functools.lru_cache(maxsize=1)
def _default_index() -> SearchIndex:
    return open_index()[0]
