"""Exact and near duplicates: one of each group stays, so that no text is in two splits.

Near duplicates: a document is the set of its runs of five words. MinHash (Broder 1997, "On the resemblance and
containment of documents") makes 128 numbers of it, two documents' numbers agreeing with a probability that is the
Jaccard similarity s of their sets; cut into b bands of r numbers, two documents share a whole band with probability
1 - (1 - s^r)^b. Pairs that do are compared exactly, so that no document is dropped by chance.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

WORDS = 5
PERMUTATIONS = 128
RECALL = 0.9999  # of pairs exactly at the threshold; more similar ones are found more surely
_BLOCK = 1024  # runs

Shingles = npt.NDArray[np.uint64]


def drop_exact(texts: Sequence[str]) -> list[int]:
    """Indices of the texts that no earlier one equals."""
    seen: set[bytes] = set()
    kept = []
    for index, text in enumerate(texts):
        digest = hashlib.sha256(text.encode()).digest()
        if digest not in seen:
            seen.add(digest)
            kept.append(index)
    return kept


def drop_near(texts: Sequence[str], similarity: float) -> list[int]:
    """Indices of the texts whose Jaccard similarity to every kept earlier one is below `similarity`.

    Of each text 128 numbers are held, and not its set: those of the few candidates are made again. A text is compared
    with kept ones only, so that n copies of one text are n comparisons.
    """
    shingles = Shingler()
    kept_in: dict[tuple[int, int], list[int]] = defaultdict(list)
    dropped: set[int] = set()
    for index, groups in _shared_bands(map(shingles, texts), similarity):
        own = shingles(texts[index])
        rivals = sorted({earlier for group in groups for earlier in kept_in[group]})
        if any(jaccard(shingles(texts[earlier]), own) >= similarity for earlier in rivals):
            dropped.add(index)
        else:
            for group in groups:
                kept_in[group].append(index)
    return [index for index in range(len(texts)) if index not in dropped]


class Shingler:
    """Turns texts into sorted arrays of 64-bit numbers, one for each different run of five words."""

    def __init__(self) -> None:
        self._number: dict[str, int] = {}
        self._weights = np.random.default_rng(0).integers(1, 2**63, WORDS, dtype=np.uint64) | np.uint64(1)

    def __call__(self, text: str) -> Shingles:
        """The set of `text`; one shorter than five words is a single run."""
        number = self._number
        words = np.array([number.setdefault(word, len(number) + 1) for word in text.split()], np.uint64)
        if len(words) < WORDS:
            words = np.pad(words, (0, WORDS - len(words)))
        count = len(words) - WORDS + 1
        runs = np.zeros(count, np.uint64)
        for offset, weight in enumerate(self._weights):
            runs = _mix(runs + words[offset : offset + count] * weight)
        return np.unique(runs)


def jaccard(first: Shingles, second: Shingles) -> float:
    """Size of the intersection over size of the union of two sorted arrays without repeats."""
    common = len(np.intersect1d(first, second, assume_unique=True))
    return common / (len(first) + len(second) - common)


def _mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of splitmix64: every bit of the input moves half of the bits of the output."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _signature(runs: Shingles, factors: Shingles) -> npt.NDArray[np.uint64]:
    """MinHash: for each of the random multipliers the smallest product, (PERMUTATIONS,)."""
    # all multipliers at once, in a third of the time of one by one, and in blocks that fit a core's cache
    blocks = np.array_split(runs, len(runs) // _BLOCK + 1)
    smallest: npt.NDArray[np.uint64] = np.min([np.multiply.outer(factors, part).min(axis=1) for part in blocks], axis=0)
    return smallest


def _rows_per_band(similarity: float) -> int:
    for rows in range(16, 1, -1):
        if 1 - (1 - similarity**rows) ** (PERMUTATIONS // rows) >= RECALL:
            return rows
    return 1


def _shared_bands(sets: Iterable[Shingles], similarity: float) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Each set that has a band in common with another one, in order, with its groups: (band, number of its value)."""
    factors = np.random.default_rng(1).integers(1, 2**63, PERMUTATIONS, dtype=np.uint64) | np.uint64(1)
    signatures = np.array([_signature(runs, factors) for runs in sets], np.uint64).reshape(-1, PERMUTATIONS)
    rows = _rows_per_band(similarity)
    groups: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for band in range(PERMUTATIONS // rows):
        part = signatures[:, band * rows : (band + 1) * rows]
        _, group, sizes = np.unique(part, axis=0, return_inverse=True, return_counts=True)
        group = group.reshape(-1)
        for index in np.flatnonzero(sizes[group] > 1).tolist():
            groups[index].append((band, int(group[index])))
    yield from sorted(groups.items())
