"""The pipeline's tokenizer: our merges, in the object that every other program opens."""

from collections.abc import Iterable

from tokenizers import Tokenizer

from llmm.errors import UserError
from llmm.training.tokenizer.codec import ByteLevelBPE
from llmm.training.tokenizer.counting import count_words_in_processes
from llmm.training.tokenizer.export import to_tokenizers
from llmm.training.tokenizer.special import SPECIAL_TOKENS
from llmm.training.tokenizer.training import train_merges

SMALLEST = 256 + len(SPECIAL_TOKENS)


def train_codec(texts: Iterable[str], vocab_size: int) -> ByteLevelBPE:
    """A codec of `vocab_size` tokens: the special ones, the 256 bytes, merges.

    The same texts give the same codec. Raises UserError where they hold too few different words for so many merges.
    """
    merges = train_merges(count_words_in_processes(texts), vocab_size - SMALLEST)
    reached = SMALLEST + len(merges)
    if reached != vocab_size:
        raise UserError(
            f"tokenizer.vocab_size: the corpus is too small for {vocab_size} tokens, it makes {reached}: "
            f"set it to {reached} or less, or add text"
        )
    return ByteLevelBPE([(merge.left, merge.right) for merge in merges], SPECIAL_TOKENS)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """`train_codec` as an object of `tokenizers`, which encodes batches in parallel."""
    return to_tokenizers(train_codec(texts, vocab_size))
