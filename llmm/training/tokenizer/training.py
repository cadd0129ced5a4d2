"""Training in time that follows what a merge changes, and not the text: exact counts, kept up to date.

Three ideas, each of a line or two below:

- a word is a string whose characters are its symbols, chr(id). Then `word.split(pair)` finds all occurrences of a pair
  from left to right and `new.join(...)` merges them, both in C, and strings of two characters order pairs by their ids;
- a merge touches only the neighbours of its occurrences, so counts are corrected there (README 2.2) and never redone:
  occurrences with the same neighbour are gathered first, and their sum is one correction;
- the queue is lazy: counts that fall are not looked up in the heap but noticed when the pair comes out on top. A pair's
  count can only rise when its younger token is made, and then it is pushed anew (README 2.4).

The words in which a pair was seen travel with it through the queue; some have lost it meanwhile, and `split` finds out.
"""

from collections import defaultdict
from collections.abc import Mapping
from heapq import heapify, heappop, heappush
from itertools import pairwise
from typing import NamedTuple

from llmm.training.tokenizer.byte_level import ALPHABET, RANK_OF_BYTE
from llmm.training.tokenizer.ties import TieRule, lowest_ids


class Merge(NamedTuple):
    """A merge: its two tokens, how often the pair stood in the text then, and in how many different words."""

    left: bytes
    right: bytes
    frequency: int
    words: int


def train_merges(word_counts: Mapping[str, int], n_merges: int, ties: TieRule = lowest_ids) -> list[Merge]:
    """The first `n_merges` merges of the counted words, or as many as there are.

    The same words give the same merges in whatever order they come.
    """
    words = [word.encode().translate(RANK_OF_BYTE).decode("latin-1") for word in word_counts]
    weights = list(word_counts.values())
    del word_counts  # a quarter of the memory, where the caller keeps no name for it
    tokens = list(ALPHABET)
    where = _find_pairs(words)
    counts = {pair: _weight(indices, weights) for pair, indices in where.items()}

    def entry(pair: str, positions: list[int]) -> tuple[int, object, str, list[int]]:
        return -counts[pair], ties(pair, tokens), pair, positions

    queue = [entry(pair, where.pop(pair)) for pair in list(where)]
    heapify(queue)
    merges: list[Merge] = []
    while queue and len(merges) < n_merges:
        negative, key, pair, positions = heappop(queue)
        if (count := counts[pair]) != -negative:
            if count:  # it was more when it was pushed: back to where it belongs now
                heappush(queue, (-count, key, pair, positions))
            continue
        left, right = tokens[ord(pair[0])], tokens[ord(pair[1])]
        changed, risen = _merge(pair, chr(len(tokens)), positions, words, weights, counts)
        tokens.append(left + right)
        merges.append(Merge(left, right, count, changed))
        for young, indices in risen.items():
            heappush(queue, entry(young, indices))
    return merges


def _find_pairs(words: list[str]) -> dict[str, list[int]]:
    """The indices of the words with each pair of neighbours, once for each time that it stands there."""
    where: dict[str, list[int]] = defaultdict(list)
    for index, word in enumerate(words):
        for pair in map(str.__add__, word, word[1:]):
            where[pair].append(index)
    return where


def _weight(indices: list[int], weights: list[int]) -> int:
    """How often the words at `indices` stand in the text, together."""
    return sum(map(weights.__getitem__, indices))


def _merge(
    pair: str, new: str, positions: list[int], words: list[str], weights: list[int], counts: dict[str, int]
) -> tuple[int, dict[str, list[int]]]:
    """Merge `pair` into `new` in the words at `positions` and correct `counts`.

    Returns how many words changed, and the pairs that arose, each with the indices of its words.
    """
    left, right = pair[0], pair[1]
    before: dict[str, list[int]] = defaultdict(list)  # by the symbol before an occurrence: indices of its words
    after: dict[str, list[int]] = defaultdict(list)  # and by the one after it
    between: list[int] = []  # two occurrences side by side (README 2.3)
    changed = 0
    for index in positions:
        parts = words[index].split(pair)
        if len(parts) == 1:
            continue  # an earlier merge took the pair from this word, or it was here before
        changed += 1
        words[index] = new.join(parts)
        for head, tail in pairwise(parts):  # an occurrence stands between them
            if head:
                before[head[-1]].append(index)
            if tail:
                after[tail[0]].append(index)
        if len(parts) > 2:
            between += [index] * parts[1:-1].count("")
    changes = [(symbol + left, symbol + new, indices) for symbol, indices in before.items()]
    changes += [(right + symbol, new + symbol, indices) for symbol, indices in after.items()]
    if between:
        changes.append((right + left, new + new, between))
    risen = {}
    for old, young, indices in changes:
        weight = _weight(indices, weights)
        counts[old] -= weight
        counts[young] = weight
        risen[young] = indices[:]  # a copy has no room for more: most lists have one entry, and `append` makes four
    del counts[pair]
    return changed, risen
