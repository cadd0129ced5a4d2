"""The best merges instead of the most frequent ones, by trying all: how greedy is greedy?

Only for tiny texts: with n merges to choose from p pairs each there are up to pⁿ sequences.
"""

from collections.abc import Mapping

from llmm.training.tokenizer.naive import count_pairs, join

Words = Mapping[tuple[int, ...], int]


def size(words: Words) -> int:
    """Symbols in the text: length times frequency, summed over the words (README 1.1)."""
    return sum(len(word) * n for word, n in words.items())


def greedy_size(words: Words, n_merges: int) -> int:
    """Symbols that are left after so many merges of the most frequent pair, of equal ones the lowest (README 1.2)."""
    for step in range(n_merges):
        counts = count_pairs(words)
        if not counts:
            break
        words = _merged(words, min(counts, key=lambda pair: (-counts[pair], pair)), step)
    return size(words)


def optimal_size(words: Words, n_merges: int) -> int:
    """The fewest symbols that any sequence of so many merges leaves."""
    return _best(words, n_merges, 0)


def _best(words: Words, left: int, step: int) -> int:
    counts = count_pairs(words)
    if not left or not counts:
        return size(words)
    return min(_best(_merged(words, pair, step), left - 1, step + 1) for pair in counts)


def _merged(words: Words, pair: tuple[int, int], step: int) -> Words:
    merged: dict[tuple[int, ...], int] = {}
    for word, n in words.items():
        new = join(word, pair, 1_000_000 + step)
        merged[new] = merged.get(new, 0) + n
    return merged
