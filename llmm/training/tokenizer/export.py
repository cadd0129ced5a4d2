"""The same tokenizer for other programs: `tokenizer.json` of `tokenizers`, and the ranks of tiktoken."""

import base64
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from llmm.files import write_text
from llmm.training.tokenizer.byte_level import spell
from llmm.training.tokenizer.codec import ByteLevelBPE
from llmm.training.tokenizer.words import WORDS


def to_tokenizers(codec: ByteLevelBPE) -> Tokenizer:
    """The codec as an object of `tokenizers`; its `save` writes tokenizer.json."""
    first = len(codec.special)
    vocab = {name: id for id, name in enumerate(codec.special)}
    vocab |= {spell(token): id for id, token in enumerate(codec.tokens) if id >= first}
    merges = [(spell(left), spell(right)) for left, right in codec.merges]
    tokenizer = byte_level_tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.add_special_tokens(list(codec.special))
    return tokenizer


def byte_level_tokenizer(model: models.BPE) -> Tokenizer:
    """`model` of `tokenizers` behind our pattern of words and the spelling of bytes, and back."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def to_ranks(codec: ByteLevelBPE) -> dict[bytes, int]:
    """tiktoken's `mergeable_ranks`: every token but the special ones -> its id.

    tiktoken knows no merges: it joins any two neighbours that are a token together, the lowest id first. That is the
    same (README 3.3).
    """
    return {token: id for id, token in enumerate(codec.tokens) if id >= len(codec.special)}


def write_ranks(codec: ByteLevelBPE, path: Path) -> None:
    """Write tiktoken's file format: a line for each token, its bytes in base64 and its rank."""
    lines = [f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in to_ranks(codec).items()]
    write_text(path, "".join(lines))
