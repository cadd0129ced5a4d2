"""A text file as token shards of single characters, split as nanoGPT splits it: to compare with published figures.

The first 90% train and the last 10% validate; every character of the file is an id, behind the separator's. A model's
loss on them is in nats a character, over windows that lie side by side.
"""

from pathlib import Path

import numpy as np

from llmm import lineage
from llmm.errors import UserError
from llmm.training.pretraining.data import SEPARATOR, ShardWriter, TokenShards

TRAIN_SHARE = 0.9


def character_shards(text: Path, folder: Path, part: float = 1.0) -> tuple[TokenShards, np.ndarray]:
    """Write the shards of the file `text` into `folder`; returns them and the bytes of each id, (V,).

    `part` below 1 leaves out the end of the text: with part = 0.9 the whole of what validates otherwise, so that
    choices are made on a part of the training split. Raises UserError where the file is no UTF-8 text or too short.
    """
    try:
        content = text.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{text} is not there: name a text with --text FILE") from None
    except (UnicodeDecodeError, IsADirectoryError):
        raise UserError(f"{text} is no UTF-8 text") from None
    content = content[: int(part * len(content))]
    if len(content) < 1000:
        raise UserError(f"{text} has {len(content)} characters: too short to train on")
    alphabet = sorted(set(content))
    id_of = {character: number for number, character in enumerate(alphabet, start=SEPARATOR + 1)}
    source = folder / "source"
    source.mkdir(parents=True)
    (source / "text").write_text(content, encoding="utf-8")
    corpus = lineage.seal(source, "corpus", [])
    alphabet_artifact = lineage.Artifact(source, "tokenizer", corpus.sha256, {})  # the text decides the alphabet
    tokens = folder / "tokens"
    tokens.mkdir()
    writer = ShardWriter(tokens, len(alphabet) + 1, alphabet_artifact.sha256)
    cut = int(TRAIN_SHARE * len(content))
    for split, piece in (("train", content[:cut]), ("val", content[cut:])):
        writer.write(split, [([id_of[character] for character in piece], len(piece.encode()))])
    writer.finish()
    lineage.seal(tokens, "tokens", [corpus, alphabet_artifact])
    bytes_of_id = np.array([0, *(len(character.encode()) for character in alphabet)])
    return TokenShards.open(tokens), bytes_of_id
