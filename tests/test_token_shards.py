"""Token shards: what is written is what is read, and nothing else is read."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmm import lineage
from llmm.errors import UserError
from llmm.files import read_json, write_json
from llmm.lineage import Artifact
from llmm.training.pretraining.data import ShardWriter, TokenShards

CORPUS = Artifact(Path("corpus"), "corpus", "c" * 64, {})
TOKENIZER = Artifact(Path("tokenizer"), "tokenizer", "t" * 64, {})
DOCUMENTS = [([5, 6, 7], 9), ([], 0), ([8], 2)]


def write(folder: Path, vocab_size: int = 300, documents: list[tuple[list[int], int]] = DOCUMENTS) -> Path:
    folder.mkdir(exist_ok=True)
    writer = ShardWriter(folder, vocab_size, TOKENIZER.sha256)
    for split in ("train", "val"):
        writer.write(split, documents)
    writer.finish()
    lineage.seal(folder, "tokens", [CORPUS, TOKENIZER])
    return folder


def test_round_trip(tmp_path: Path) -> None:
    shards = TokenShards.open(write(tmp_path))
    assert shards.tokens("train").tolist() == [0, 5, 6, 7, 0, 0, 8]
    assert shards.starts("train").tolist() == [0, 4, 5, 7]
    assert shards.bytes("val") == 11
    assert shards.vocab_size == 300
    assert isinstance(shards.tokens("train"), np.memmap)
    shards.artifact.require(TOKENIZER)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.lists(st.integers(0, 99_999), max_size=5), st.integers(0, 99)), max_size=5))
def test_any_documents(tmp_path_factory: pytest.TempPathFactory, documents: list[tuple[list[int], int]]) -> None:
    shards = TokenShards.open(write(tmp_path_factory.mktemp("shards"), 100_000, documents))
    tokens, starts = shards.tokens("val"), shards.starts("val")
    assert [tokens[a + 1 : b].tolist() for a, b in pairwise(starts)] == [ids for ids, _ in documents]
    assert starts[-1] == len(tokens)


@pytest.mark.parametrize(("vocab_size", "name"), [(300, "uint16"), (65_536, "uint16"), (65_537, "uint32")])
def test_the_type_fits_the_vocabulary(tmp_path: Path, vocab_size: int, name: str) -> None:
    shards = TokenShards.open(write(tmp_path, vocab_size, [([vocab_size - 1], 1)]))
    assert shards.dtype == np.dtype(name)
    assert shards.tokens("train").tolist() == [0, vocab_size - 1]


def test_shards_of_another_tokenizer_are_refused(tmp_path: Path) -> None:
    shards = TokenShards.open(write(tmp_path))
    with pytest.raises(UserError, match="belongs to tokenizer tttttttttttt, but other is oooooooooooo"):
        shards.artifact.require(Artifact(Path("other"), "tokenizer", "o" * 64, {}))


def truncate(folder: Path) -> None:
    path = folder / "train.bin"
    path.write_bytes(path.read_bytes()[:-1])


def drop(folder: Path) -> None:
    (folder / "val.index.npy").unlink()


def other_tokenizer(folder: Path) -> None:
    header = read_json(folder / "header.json")
    write_json(folder / "header.json", {**header, "tokenizer_sha256": "0" * 64})
    lineage.seal(folder, "tokens", [CORPUS, TOKENIZER])


def other_header(folder: Path) -> None:
    write_json(folder / "header.json", {"shape": [1, 2]})
    lineage.seal(folder, "tokens", [CORPUS, TOKENIZER])


def resealed_truncation(folder: Path) -> None:
    truncate(folder)
    lineage.seal(folder, "tokens", [CORPUS, TOKENIZER])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (truncate, "is damaged"),
        (drop, "is missing"),
        (other_tokenizer, "another tokenizer"),
        (other_header, "no header"),
        (resealed_truncation, "its header says 7 tokens of uint16"),
    ],
)
def test_damage_is_one_line(tmp_path: Path, damage: Callable[[Path], None], words: str) -> None:
    folder = write(tmp_path / "tokens")
    damage(folder)
    with pytest.raises(UserError, match=words) as error:
        TokenShards.open(folder)
    assert "\n" not in str(error.value)
