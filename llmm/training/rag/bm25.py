"""BM25 over an inverted index, in numpy.

The weight of term t in document d, with Lucene's idf, which is never negative (Robertson & Zaragoza 2009, eq. 3.15,
without the constant factor k1 + 1 that no ranking depends on):

    idf(t) = ln(1 + (N - df + 1/2) / (df + 1/2))
    w(t,d) = idf(t) · tf / (tf + k1 · (1 - b + b · |d| / mean |d|))

A document's score is the sum of the weights of the query's terms, each as often as the query has it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from llmm.errors import UserError
from llmm.training.rag.words import split_words

Floats = npt.NDArray[np.float64]


class BM25:
    """An inverted index of documents known by their position 0 … N-1.

    `indptr`, `documents` and `counts` are the postings in compressed columns: those of the term with number t lie at
    indptr[t]:indptr[t + 1], with ascending document positions and term frequencies.
    """

    def __init__(
        self,
        terms: Sequence[str],
        indptr: npt.NDArray[np.int64],
        documents: npt.NDArray[np.int32],
        counts: npt.NDArray[np.int32],
        lengths: npt.NDArray[np.int32],
        k1: float,
        b: float,
        tokenize: Callable[[str], list[str]] = split_words,
    ) -> None:
        self.terms, self.indptr, self.documents, self.counts, self.lengths = terms, indptr, documents, counts, lengths
        self.k1, self.b, self.tokenize = k1, b, tokenize
        self.number = {term: i for i, term in enumerate(terms)}
        self.weights = self._weights()

    @classmethod
    def build(
        cls, texts: Iterable[str], k1: float, b: float, tokenize: Callable[[str], list[str]] = split_words
    ) -> "BM25":
        """Count the words of `texts`."""
        postings: dict[str, tuple[list[int], list[int]]] = {}
        lengths = []
        for position, text in enumerate(texts):
            words = tokenize(text)
            lengths.append(len(words))
            for word, count in Counter(words).items():
                entry = postings.setdefault(word, ([], []))
                entry[0].append(position)
                entry[1].append(count)
        terms = sorted(postings)
        indptr = np.cumsum([0, *(len(postings[term][0]) for term in terms)]).astype(np.int64)
        documents = np.array([d for term in terms for d in postings[term][0]], dtype=np.int32)
        counts = np.array([c for term in terms for c in postings[term][1]], dtype=np.int32)
        return cls(terms, indptr, documents, counts, np.array(lengths, dtype=np.int32), k1, b, tokenize)

    def __len__(self) -> int:
        return len(self.lengths)

    def _weights(self) -> Floats:
        df = np.diff(self.indptr).astype(np.float64)
        idf = np.log(1 + (len(self) - df + 0.5) / (df + 0.5))
        relative = self.lengths / max(self.lengths.mean(), 1e-12) if len(self) else np.zeros(0)
        tf = self.counts.astype(np.float64)
        saturation = tf / (tf + self.k1 * (1 - self.b + self.b * relative[self.documents]))
        return np.repeat(idf, np.diff(self.indptr)) * saturation

    def scores(self, query: str) -> Floats:
        """Scores (N,) of all documents."""
        scores = np.zeros(len(self))
        for word, times in Counter(self.tokenize(query)).items():
            if (number := self.number.get(word)) is not None:
                span = slice(self.indptr[number], self.indptr[number + 1])
                scores[self.documents[span]] += times * self.weights[span]  # positions in a span are distinct
        return scores

    def search(self, query: str, k: int, allowed: npt.NDArray[np.bool_] | None = None) -> list[tuple[int, float]]:
        """The best k documents as (position, score), best first, ties by position; those without a word of the query
        are no hits. `allowed` (N,) restricts the search."""
        scores = self.scores(query)
        if allowed is not None:
            scores[~allowed] = 0.0
        return best_first(scores, k)

    def save(self, path: Path) -> None:
        """Write the index as .npz: terms as UTF-8 joined by newlines, which no term contains; nothing is pickled."""
        with path.open("wb") as stream:
            np.savez(
                stream,
                terms=np.frombuffer("\n".join(self.terms).encode(), dtype=np.uint8),
                indptr=self.indptr,
                documents=self.documents,
                counts=self.counts,
                lengths=self.lengths,
                parameters=np.array([self.k1, self.b]),
            )

    @classmethod
    def load(cls, path: Path, tokenize: Callable[[str], list[str]] = split_words) -> "BM25":
        """Read what `save` wrote. Raises UserError where it cannot be read."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                joined = stored["terms"].tobytes().decode()
                k1, b = (float(value) for value in stored["parameters"])
                indptr, documents, counts, lengths = (
                    stored[name] for name in ("indptr", "documents", "counts", "lengths")
                )
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise UserError(f"{path} is no readable BM25 index ({error}): run `dvc repro index`") from None
        terms = joined.split("\n") if joined else []
        return cls(terms, indptr, documents, counts, lengths, k1, b, tokenize)


def best_first(scores: npt.NDArray[np.floating], k: int) -> list[tuple[int, float]]:
    """The at most k highest positive scores as (position, score), descending, equal scores by ascending position."""
    positions = np.flatnonzero(scores > 0)
    if len(positions) > k > 0:
        kth = np.partition(scores[positions], len(positions) - k)[len(positions) - k]
        positions = positions[scores[positions] >= kth]
    order = np.lexsort((positions, -scores[positions]))[: max(k, 0)]
    return [(int(i), float(scores[i])) for i in positions[order]]
