"""Token shards: the corpus as ids on disk, read through a memory map.

`{train,val,test}.bin` are raw little-endian ids, uint16 where the vocabulary fits and uint32 otherwise, every document
behind one <|endoftext|>. `{split}.index.npy` holds where documents start (int64, the last entry is the total).
`header.json` says the rest, the hash of the tokenizer included, so that a model cannot train on another one's ids.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llmm import lineage
from llmm.errors import UserError
from llmm.files import read_json, write_json
from llmm.lineage import Artifact

HEADER = "header.json"
SEPARATOR = 0  # the id of <|endoftext|>


class ShardWriter:
    """Writes the shards of one vocabulary into a folder, split by split; `finish` writes the header."""

    def __init__(self, folder: Path, vocab_size: int, tokenizer_sha256: str) -> None:
        self.folder = folder
        self.dtype = np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")
        self._header: dict[str, Any] = {
            "dtype": self.dtype.name,
            "vocab_size": vocab_size,
            "tokenizer_sha256": tokenizer_sha256,
            "splits": {},
        }

    def write(self, split: str, documents: Iterable[tuple[list[int], int]]) -> dict[str, int]:
        """Write a split from each document's ids and size in bytes; returns its tokens, bytes and documents."""
        starts, bytes_of_text = [0], 0
        with (self.folder / f"{split}.bin").open("wb") as stream:
            for ids, size in documents:
                stream.write(np.array([SEPARATOR, *ids], self.dtype).tobytes())
                starts.append(starts[-1] + 1 + len(ids))
                bytes_of_text += size
        np.save(self.folder / f"{split}.index.npy", np.array(starts, np.int64))
        facts = {"tokens": starts[-1], "bytes": bytes_of_text, "documents": len(starts) - 1}
        self._header["splits"][split] = facts
        return facts

    def finish(self) -> None:
        """Write the header."""
        write_json(self.folder / HEADER, self._header)


@dataclass(frozen=True)
class TokenShards:
    """The token shards in a folder; `artifact.require(tokenizer)` refuses another tokenizer than theirs."""

    artifact: Artifact
    header: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> "TokenShards":
        """Check hashes, header and sizes. Raises UserError where something is missing, damaged or does not fit."""
        artifact = lineage.open_artifact(folder, "tokens")
        header = read_json(artifact.path / HEADER)
        try:
            if header["tokenizer_sha256"] != artifact.made_from["tokenizer"]:
                raise UserError(f"{artifact.path / HEADER} names another tokenizer than its lineage: run `dvc repro`")
            shards = cls(artifact, header)
            for split, facts in header["splits"].items():
                size = (artifact.path / f"{split}.bin").stat().st_size
                if size != facts["tokens"] * shards.dtype.itemsize:
                    raise UserError(
                        f"{artifact.path / split}.bin has {size} bytes, but its header says {facts['tokens']} tokens "
                        f"of {shards.dtype.name}: delete {artifact.path} and run `dvc repro`"
                    )
        except (KeyError, TypeError, OSError):
            raise UserError(f"{artifact.path / HEADER} is no header of token shards: run `dvc repro`") from None
        return shards

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint16 or uint32."""
        return np.dtype(self.header["dtype"]).newbyteorder("<")

    @property
    def vocab_size(self) -> int:
        """Number of ids of the tokenizer."""
        return int(self.header["vocab_size"])

    def tokens(self, split: str) -> npt.NDArray[Any]:
        """The ids of a split, (tokens,), as a read-only memory map."""
        path = self.artifact.path / f"{split}.bin"
        if not path.stat().st_size:  # an empty file cannot be mapped
            return np.zeros(0, self.dtype)
        return np.memmap(path, self.dtype, mode="r")

    def bytes(self, split: str) -> int:
        """UTF-8 bytes of the split's raw text: the denominator of bits per byte."""
        return int(self.header["splits"][split]["bytes"])

    def starts(self, split: str) -> npt.NDArray[np.int64]:
        """Offsets of the documents' separators in `tokens(split)`, and the total at the end, (documents + 1,)."""
        offsets: npt.NDArray[np.int64] = np.load(self.artifact.path / f"{split}.index.npy", allow_pickle=False)
        return offsets
