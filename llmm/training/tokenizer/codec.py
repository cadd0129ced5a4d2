"""A byte-level BPE tokenizer: text to ids and back, without loss for any text.

The ids are those that `tokenizers` gives: special tokens, the 256 bytes, merges in the order in which they were made.
"""

from collections.abc import Iterable, Sequence
from itertools import chain

from llmm.training.tokenizer.byte_level import ALPHABET, RANK_OF_BYTE
from llmm.training.tokenizer.encoding import WordCache
from llmm.training.tokenizer.naive import Pair
from llmm.training.tokenizer.special_splits import split_special
from llmm.training.tokenizer.words import pieces, split_words


class ByteLevelBPE:
    """Encodes and decodes with given merges. `tokens` holds the bytes of every id."""

    def __init__(self, merges: Iterable[Pair], special: Sequence[str] = ()) -> None:
        """Raises ValueError for a merge of what no earlier one made, or that makes a token twice (README 3.2)."""
        self.special = tuple(special)
        self.tokens = [*(name.encode() for name in special), *ALPHABET]
        self.merges = list(merges)
        ids = {token: id for id, token in enumerate(self.tokens) if id >= len(special)}
        ranks: dict[tuple[int, int], int] = {}
        for left, right in self.merges:
            if left not in ids or right not in ids:
                raise ValueError(f"the merge of {left!r} and {right!r} comes before one of its parts")
            if left + right in ids:
                raise ValueError(f"the merge of {left!r} and {right!r} makes a token that is there already")
            ranks[ids[left], ids[right]] = ids[left + right] = len(self.tokens)
            self.tokens.append(left + right)
        self._special_ids = {name: id for id, name in enumerate(special)}
        self._words = WordCache(RANK_OF_BYTE, len(special), ranks)

    def encode(self, text: str, allow_special: bool = False) -> list[int]:
        """The ids of `text`. Names of special tokens in it become those tokens only if `allow_special`.

        Raises UnicodeEncodeError for half a surrogate pair, which is no text.
        """
        if not allow_special:
            return self._encode_plain(text)
        ids: list[int] = []
        for part, is_special in split_special(text, self.special):
            ids += [self._special_ids[part]] if is_special else self._encode_plain(part)
        return ids

    def encode_bytes(self, word: bytes) -> list[int]:
        """The ids of any bytes, valid text or not, as one word."""
        return self._words.encode_bytes(word)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of the tokens, one after the other."""
        return b"".join(map(self.tokens.__getitem__, ids))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the tokens; bytes that are no UTF-8, as a model may write them, become U+FFFD."""
        return self.decode_bytes(ids).decode(errors="replace")

    def _encode_plain(self, text: str) -> list[int]:
        ids_of = self._words.__getitem__
        return list(chain.from_iterable(chain.from_iterable(map(ids_of, split_words(part)) for part in pieces(text))))
