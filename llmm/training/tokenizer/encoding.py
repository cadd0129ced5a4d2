"""Encoding a word: the merge of lowest rank first, again and again, in O(n log n) however long the word is.

A word of n bytes is a linked list in two arrays. The heap holds (rank, position) of every pair of neighbours that is a
merge; an entry whose pair is gone is noticed when it comes out. Each merge removes one symbol and adds at most two
entries, so there are at most 3n of them (README 3.1).
"""

from collections.abc import Mapping
from heapq import heapify, heappop, heappush
from itertools import pairwise

# (left, right) -> id of the token that they make; lower ids were made sooner, so the id serves as the rank
Ranks = Mapping[tuple[int, int], int]
_NONE = -1


def merge_word(symbols: list[int], ranks: Ranks) -> list[int]:
    """The ids of a word's bytes, merged. Equal pairs merge from left to right."""
    ids = list(symbols)
    after = [*range(1, len(ids)), _NONE]
    before = list(range(-1, len(ids) - 1))
    pairs = enumerate(pairwise(ids))
    queue = [(ranks[pair], position) for position, pair in pairs if pair in ranks]
    heapify(queue)
    while queue:
        new, left = heappop(queue)
        right = after[left]
        if right == _NONE or ranks.get((ids[left], ids[right])) != new:
            continue  # one of the two has been merged with another neighbour
        ids[left], ids[right] = new, _NONE
        after[left] = after[right]
        if after[left] != _NONE:
            before[after[left]] = left
        for start in (before[left], left):
            if start != _NONE and after[start] != _NONE:
                made = ranks.get((ids[start], ids[after[start]]))
                if made is not None:
                    heappush(queue, (made, start))
        after[right] = _NONE
    return [id for id in ids if id != _NONE]


class WordCache(dict[str, list[int]]):
    """word -> ids, worked out at the first look-up: few words make up most of a text (`zipf`).

    Holds at most `size` words; when it is full it starts again, so a stream of new words cannot fill the memory.
    """

    def __init__(self, symbol_of: bytes, offset: int, ranks: Ranks, size: int = 1 << 17) -> None:
        """`symbol_of` is a table byte -> number of the byte, whose id is that plus `offset`."""
        super().__init__()
        self.symbol_of, self.offset, self.ranks, self.size = symbol_of, offset, ranks, size

    def __missing__(self, word: str) -> list[int]:
        ids = self.encode_bytes(word.encode())
        if len(self) >= self.size:
            self.clear()
        self[word] = ids
        return ids

    def encode_bytes(self, word: bytes) -> list[int]:
        """The ids of any bytes taken as one word, not kept."""
        return merge_word([self.offset + symbol for symbol in word.translate(self.symbol_of)], self.ranks)
