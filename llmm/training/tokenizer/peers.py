"""The same tokenizer by the fast libraries: what ours is held against, for ids, merges and seconds."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from llmm.errors import UserError
from llmm.training.tokenizer.byte_level import unspell
from llmm.training.tokenizer.codec import ByteLevelBPE
from llmm.training.tokenizer.export import byte_level_tokenizer, to_ranks
from llmm.training.tokenizer.naive import Pair
from llmm.training.tokenizer.words import WORDS


def train_by_tokenizers(texts: list[str], vocab_size: int, special: tuple[str, ...] = ()) -> Tokenizer:
    """A tokenizer of `vocab_size` tokens or fewer, trained by `tokenizers` from the texts to the merges."""
    tokenizer = byte_level_tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def merges_of(tokenizer: Tokenizer) -> list[Pair]:
    """The merges of a byte-level BPE of `tokenizers`, as bytes."""
    return [(unspell(left), unspell(right)) for left, right in json.loads(tokenizer.to_str())["model"]["merges"]]


def to_tiktoken(codec: ByteLevelBPE) -> Any:
    """The codec as a tiktoken encoding. Raises UserError where tiktoken is not installed."""
    try:
        import tiktoken
    except ImportError:
        raise UserError("tiktoken is not installed: `make install` brings it") from None
    special: Mapping[str, int] = {name: id for id, name in enumerate(codec.special)}
    return tiktoken.Encoding("llmm", pat_str=WORDS, mergeable_ranks=to_ranks(codec), special_tokens=dict(special))


@contextmanager
def one_thread() -> Iterator[None]:
    """Within it `tokenizers` works in one thread; it reads the variable at every call."""
    name = "TOKENIZERS_PARALLELISM"
    before = os.environ.get(name)
    os.environ[name] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
