"""Which pair comes first where several are equally frequent: a convention, and every tokenizer has one.

Ties are the rule and not the exception once counts are small, and one that is broken otherwise changes all merges after
it. A rule maps a pair of tokens to a key; the smallest key wins.
"""

from collections.abc import Sequence
from typing import Protocol

Pair = str | tuple[int, int]  # two ids, as numbers or as characters: both are compared from left to right


class TieRule(Protocol):
    """(pair, the bytes of every token by its id) -> what to compare, of one type for all pairs."""

    def __call__(self, pair: Pair, tokens: Sequence[bytes], /) -> object:
        """The key of the pair."""


def lowest_ids(pair: Pair, tokens: Sequence[bytes]) -> Pair:
    """The rule of `tokenizers`: lowest ids first. Bytes are numbered as `byte_level.ALPHABET`, merges after them."""
    return pair


def greatest_bytes(pair: Pair, tokens: Sequence[bytes]) -> tuple[bytes, bytes]:
    """The lexicographically greatest pair of byte strings first, as `max` over (bytes, bytes) gives it."""
    left, right = map(ord, pair) if isinstance(pair, str) else pair
    return _descending(tokens[left]), _descending(tokens[right])


def _descending(token: bytes) -> bytes:
    """A key in the opposite order of the tokens. Each byte is inverted and takes two, with an end above all of them:
    "ab" comes after "a", so its key must be the smaller one."""
    return b"".join(bytes([0, 255 - byte]) for byte in token) + b"\1"
