"""Vectors with string ids in faiss: exact inner products, deletion, filters applied before the search.

`IndexFlatIP` compares with every vector, which is exact and takes about a millisecond for the ten thousands of chunks
that a code base or a manual has; `IndexIDMap2` gives the vectors ids of our choice, so that they can be deleted.
"""

from collections.abc import Collection, Sequence
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt

from llmm.errors import UserError
from llmm.files import read_json, write_json

Vectors = npt.NDArray[np.float32]


class DenseStore:
    """L2-normalised vectors (N, D) by id; scores are inner products, that is cosines."""

    def __init__(self, dimension: int) -> None:
        self.index = faiss.IndexIDMap2(faiss.IndexFlatIP(dimension))
        self._number: dict[str, int] = {}  # insertion order is the order of the ids
        self._key: dict[int, str] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._number)

    def __contains__(self, key: str) -> bool:
        return key in self._number

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return int(self.index.d)

    def add(self, keys: Sequence[str], vectors: Vectors) -> None:
        """Add vectors (n, D); a key that is there already, or comes again, gets the later vector."""
        last = {key: row for row, key in enumerate(keys)}
        self.remove(last)
        numbers = np.arange(self._next, self._next + len(last), dtype=np.int64)
        self._next += len(last)
        if len(last):
            rows = np.ascontiguousarray(vectors[list(last.values())], dtype=np.float32)
            self.index.add_with_ids(rows, numbers)
        for key, number in zip(last, numbers.tolist(), strict=True):
            self._number[key] = number
            self._key[number] = key

    def remove(self, keys: Collection[str]) -> int:
        """Remove what is there of `keys`; returns how many were."""
        numbers = [self._number.pop(key) for key in keys if key in self._number]
        for number in numbers:
            del self._key[number]
        if numbers:
            selector = faiss.IDSelectorBatch(np.array(numbers, dtype=np.int64))
            self.index.remove_ids(selector)
        return len(numbers)

    def search(self, query: Vectors, k: int, allowed: Collection[str] | None = None) -> list[tuple[str, float]]:
        """The k nearest to the vector `query` (D,) as (id, score), best first; only among `allowed` where given.

        The filter comes before the search: k hits are returned wherever k ids are allowed.
        """
        parameters = None
        available = len(self)
        if allowed is not None:
            numbers = np.array([self._number[key] for key in allowed if key in self._number], dtype=np.int64)
            available = len(numbers)
            if available:  # the type stubs lack the keyword
                parameters = faiss.SearchParameters(sel=faiss.IDSelectorBatch(numbers))  # type: ignore[call-arg]
        if not min(k, available):
            return []
        scores, found = self.index.search(query.reshape(1, -1), min(k, available), params=parameters)
        hits = [(self._key[int(n)], float(s)) for n, s in zip(found[0], scores[0], strict=True) if n >= 0]
        return sorted(hits, key=lambda hit: (-hit[1], hit[0]))

    def vectors(self, keys: Sequence[str]) -> Vectors:
        """The stored vectors (len(keys), D)."""
        rows = [self.index.reconstruct(self._number[key]) for key in keys]
        return np.stack(rows) if rows else np.zeros((0, self.dimension), dtype=np.float32)

    def save(self, folder: Path) -> None:
        """Write dense.faiss and dense.json (ids in the order of their vectors) into `folder`."""
        faiss.write_index(self.index, str(folder / "dense.faiss"))
        write_json(folder / "dense.json", {"ids": list(self._number), "numbers": list(self._number.values())})

    @classmethod
    def load(cls, folder: Path) -> "DenseStore":
        """Read what `save` wrote. Raises UserError where it is missing or does not fit together."""
        record = read_json(folder / "dense.json")
        try:
            index = faiss.read_index(str(folder / "dense.faiss"))
        except RuntimeError as error:
            raise UserError(f"{folder / 'dense.faiss'} is no readable faiss index: run `dvc repro index`") from error
        if index.ntotal != len(record["ids"]):
            raise UserError(
                f"{folder}: dense.faiss holds {index.ntotal} vectors but dense.json names {len(record['ids'])}: "
                "run `dvc repro index`"
            )
        store = cls(index.d)
        store.index = index  # type: ignore[assignment]
        store._number = dict(zip(record["ids"], record["numbers"], strict=True))
        store._key = {number: key for key, number in store._number.items()}
        store._next = max(store._number.values(), default=-1) + 1
        return store
