"""Byte-level BPE, trained by the `tokenizers` library.

Sennrich et al. 2016 (arXiv:1508.07909), on bytes as in GPT-2. Text is cut into words by one pattern first, no token
crosses a cut, and a merge joins the most frequent neighbours of all words until the vocabulary is full.
"""

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from llmm.errors import UserError
from llmm.training.tokenizer.special import SPECIAL_TOKENS

# Tried in this order at every position:
WORDS = "|".join(
    (
        r"[^\r\n\p{L}\p{N}]?\p{L}+",  # letters with the one sign before them: " word", "_name", ".attribute", "(self"
        r"\p{N}",  # digits one by one, so that numbers line up
        r" ?[^\s\p{L}\p{N}]+",  # punctuation
        r"\s*[\r\n]+[ \t]*",  # line ends with the indentation of the next line: one token a line of Python
        r"\s+(?!\S)",  # other runs of spaces but the last, which belongs to the word after it
        r"\s+",
    )
)
SMALLEST = 256 + len(SPECIAL_TOKENS)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A tokenizer of `vocab_size` tokens: the special ones, the 256 bytes, merges.

    The same texts give the same tokenizer. Raises UserError where they hold too few different words for so many merges.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    reached = tokenizer.get_vocab_size()
    if reached != vocab_size:
        raise UserError(
            f"tokenizer.vocab_size: the corpus is too small for {vocab_size} tokens, it makes {reached}: "
            f"set it to {reached} or less, or add text"
        )
    return tokenizer
