"""Training in time that follows what a merge changes, and not the text: exact counts, kept up to date.

Three ideas, each of a line or two below:

- a word is a string whose characters are its symbols, chr(id). Then `word.split(pair)` finds all occurrences of a pair
  from left to right and `new.join(...)` merges them, both in C, and strings of two characters order pairs by their ids;
- a merge touches only the neighbours of its occurrences, so counts are corrected there (README 2.2) and never redone;
- the queue is lazy: counts that fall are not looked up in the heap but noticed when the pair comes out on top. A pair's
  count can only rise when its younger token is made, and then it is pushed anew (README 2.4).

The words in which a pair was seen travel with it through the queue; some have lost it meanwhile, and `split` finds out.
"""

from collections import defaultdict
from collections.abc import Mapping
from heapq import heapify, heappop, heappush
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
    counts, where = _count(words, weights)

    def entry(pair: str) -> tuple[int, object, str, list[int]]:
        return -counts[pair], ties(pair, tokens), pair, where.pop(pair)

    queue = [entry(pair) for pair in list(where)]
    heapify(queue)
    merges: list[Merge] = []
    while queue and len(merges) < n_merges:
        negative, key, pair, positions = heappop(queue)
        if (count := counts[pair]) != -negative:
            if count:  # it was more when it was pushed: back to where it belongs now
                heappush(queue, (-count, key, pair, positions))
            continue
        left, right = tokens[ord(pair[0])], tokens[ord(pair[1])]
        changed = _merge(pair, chr(len(tokens)), positions, words, weights, counts, where)
        tokens.append(left + right)
        merges.append(Merge(left, right, count, changed))
        for risen in list(where):
            heappush(queue, entry(risen))
    return merges


def _count(words: list[str], weights: list[int]) -> tuple[dict[str, int], dict[str, list[int]]]:
    """How often each pair of neighbours occurs, and the indices of the words with it."""
    counts: dict[str, int] = defaultdict(int)
    where: dict[str, list[int]] = {}
    for index, word in enumerate(words):
        for pair in map(str.__add__, word, word[1:]):
            counts[pair] += weights[index]
            _note(where, pair, index)
    return counts, where


def _merge(
    pair: str, new: str, positions: list[int], words: list[str], weights: list[int], counts: dict[str, int],
    where: dict[str, list[int]],
) -> int:  # fmt: skip
    """Merge `pair` into `new` in the words at `positions`, correct `counts`, note in `where` which pairs arose and in
    which words; returns how many words changed."""
    left, right = pair[0], pair[1]
    changed = 0
    for index in positions:
        parts = words[index].split(pair)
        if len(parts) == 1:
            continue  # an earlier merge took the pair from this word
        changed += 1
        weight = weights[index]
        words[index] = new.join(parts)
        counts[pair] -= weight * (len(parts) - 1)
        last = len(parts) - 1
        for at, part in enumerate(parts):
            if part:
                if at:  # an occurrence stands before this part
                    counts[right + part[0]] -= weight
                    counts[new + part[0]] += weight
                    _note(where, new + part[0], index)
                if at < last:  # and one after it
                    counts[part[-1] + left] -= weight
                    counts[part[-1] + new] += weight
                    _note(where, part[-1] + new, index)
            elif 0 < at < last:  # two occurrences side by side (README 2.3)
                counts[right + left] -= weight
                counts[new + new] += weight
                _note(where, new + new, index)
    return changed


def _note(where: dict[str, list[int]], pair: str, index: int) -> None:
    """Append the word's index to the pair's list, once."""
    try:
        indices = where[pair]
    except KeyError:
        where[pair] = [index]  # of one entry, as most are, and not of the four that `append` makes room for
    else:
        if indices[-1] != index:
            indices.append(index)
