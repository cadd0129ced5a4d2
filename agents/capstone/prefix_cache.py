"""Keys and values of what was read before: a prompt that begins as an earlier one did is read from where they part.

A chat sends its whole history with every message, and an agent that has called a tool goes on from its own call. Keys
and values of a token depend on it and on those before it alone, so those of a common beginning are the same numbers,
whoever computed them. Sources: Kwon et al. 2023 (2309.06180), section 4.4; Zheng et al. 2024 (2312.07104), section 3,
where a tree shares what sequences have in common; here each is kept whole. Whoever measures how soon an answer begins
may learn what others asked: a server for people who do not trust each other would keep a cache for each of them.
"""

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor


class PrefixCache:
    """The sequences that were used last, of at most `most_tokens` tokens together."""

    def __init__(self, most_tokens: int) -> None:
        self.most_tokens, self.tokens = most_tokens, 0
        self._kept: OrderedDict[tuple[int, ...], Tensor] = OrderedDict()  # least recently used first

    def keep(self, tokens: Sequence[int], block: Tensor) -> None:
        """Remember keys and values (2, L, H_kv, T, d) of T `tokens`. Those of its own beginnings go."""
        sequence = tuple(tokens)
        if len(sequence) > self.most_tokens or any(kept[: len(sequence)] == sequence for kept in self._kept):
            return
        for beginning in [kept for kept in self._kept if sequence[: len(kept)] == kept]:
            self._forget(beginning)
        self._kept[sequence] = block.clone()
        self.tokens += len(sequence)
        while self.tokens > self.most_tokens:
            self._forget(next(iter(self._kept)))

    def longest(self, tokens: Sequence[int]) -> Tensor | None:
        """Keys and values (2, L, H_kv, n, d) of the first n `tokens`, for the largest n that is known; None for 0."""
        sequence, most, found = tuple(tokens), 0, None
        for kept in reversed(self._kept):  # of those that share as much, the one that was used last
            shared = _shared(kept, sequence)
            if shared > most:
                most, found = shared, kept
        if found is None:
            return None
        self._kept.move_to_end(found)
        return self._kept[found][..., :most, :]

    def _forget(self, kept: tuple[int, ...]) -> None:
        del self._kept[kept]
        self.tokens -= len(kept)


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))
