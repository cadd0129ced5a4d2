"""Byte-pair encoding as it is defined, without any trick: the explanation, and the referee of the fast versions.

Sennrich, Haddow, Birch 2016 (arXiv:1508.07909), algorithm 1, on bytes. Training is O(merges · text), encoding a word
is O(length²).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

from llmm.training.tokenizer.byte_level import ALPHABET, RANK_OF_BYTE
from llmm.training.tokenizer.ties import TieRule, lowest_ids

Pair = tuple[bytes, bytes]


def count_pairs(words: Mapping[tuple[int, ...], int]) -> Counter[tuple[int, int]]:
    """How often each pair of neighbours stands in the words: ids -> their frequency (README 2.1)."""
    counts: Counter[tuple[int, int]] = Counter()
    for word, n in words.items():
        for pair in pairwise(word):
            counts[pair] += n
    return counts


def join(word: Sequence[int], pair: tuple[int, int], new: int) -> tuple[int, ...]:
    """The word with every occurrence of the pair replaced by `new`, from left to right: "aaa" gives (aa, a)."""
    joined: list[int] = []
    position = 0
    while position < len(word):
        found = tuple(word[position : position + 2]) == pair
        joined.append(new if found else word[position])
        position += 2 if found else 1
    return tuple(joined)


def train_naive(word_counts: Mapping[str, int], n_merges: int, ties: TieRule = lowest_ids) -> list[Pair]:
    """The first `n_merges` merges of the counted words, or as many as there are, each a pair of byte strings."""
    tokens = list(ALPHABET)
    words = {tuple(word.encode().translate(RANK_OF_BYTE)): n for word, n in word_counts.items()}
    merges: list[Pair] = []
    while len(merges) < n_merges and (counts := count_pairs(words)):
        left, right = min(counts, key=lambda pair: (-counts[pair], ties(pair, tokens)))
        merges.append((tokens[left], tokens[right]))
        tokens.append(tokens[left] + tokens[right])
        words = {join(word, (left, right), len(tokens) - 1): n for word, n in words.items()}
    return merges


def encode_naive(word: bytes, merges: Sequence[Pair]) -> list[bytes]:
    """The tokens of a word: all merges applied to it in their order, as training did."""
    tokens = [bytes([byte]) for byte in word]
    for left, right in merges:
        position = 0
        while position < len(tokens) - 1:
            if tokens[position] == left and tokens[position + 1] == right:
                tokens[position : position + 2] = [left + right]
            position += 1
    return tokens
