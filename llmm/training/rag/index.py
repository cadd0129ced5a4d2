"""The search index: chunks, BM25 and vectors over them, and one `search` for the three retrievers."""

import functools
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from llmm import paths
from llmm.corpus import Document
from llmm.errors import UserError
from llmm.files import read_json, write_json
from llmm.lineage import Artifact, open_artifact
from llmm.params import IndexParams
from llmm.training.rag.bm25 import BM25
from llmm.training.rag.chunking import Chunk, chunk_text
from llmm.training.rag.definitions import Definition, find_definitions
from llmm.training.rag.dense import DenseStore
from llmm.training.rag.encoder import Encoder, load_encoder
from llmm.training.rag.hybrid import fuse

CANDIDATES = 100  # of each retriever, before fusion
RETRIEVERS = ("bm25", "dense", "hybrid")


@dataclass(frozen=True)
class Hit:
    """A chunk that was found. The scale of `score` is the retriever's own."""

    chunk: Chunk
    score: float


@dataclass(frozen=True)
class IndexSettings:
    """What `search` does by default, and from which score an answer counts as found (see `answer`): that of the
    definition of a name, and that of a sentence."""

    retriever: str
    fusion: str
    dense_weight: float
    definition_threshold: float = 0.5
    sentence_threshold: float = 0.5  # chosen by eye on the first 75 hand-written questions


def chunk_documents(documents: Sequence[Document], params: IndexParams) -> list[Chunk]:
    """The chunks of all documents, in their order."""
    return [
        chunk
        for document in documents
        for chunk in chunk_text(document.text, document.id, document.title, params.chunk_chars, params.chunk_overlap)
    ]


def searchable_text(chunk: Chunk) -> str:
    """What the retrievers read: the title too, since a chunk seldom repeats which document it is from."""
    return f"{chunk.title}\n{chunk.text}"


class SearchIndex:
    """Chunks that can be searched by words, by vectors, or by both."""

    def __init__(
        self, chunks: Sequence[Chunk], bm25: BM25, dense: DenseStore, encoder: Encoder, settings: IndexSettings
    ) -> None:
        self.chunks = {chunk.id: chunk for chunk in chunks}
        self.ids = [chunk.id for chunk in chunks]
        self.bm25, self.dense, self.encoder, self.settings = bm25, dense, encoder, settings

    @classmethod
    def build(
        cls, chunks: Sequence[Chunk], encoder: Encoder, params: IndexParams, settings: IndexSettings
    ) -> "SearchIndex":
        """Index `chunks`. Raises UserError where there are none."""
        if not chunks:
            raise UserError("the corpus has no text to index: check corpus.source and corpus.path in params.yaml")
        texts = [searchable_text(chunk) for chunk in chunks]
        dense = DenseStore(encoder.dimension)
        dense.add([chunk.id for chunk in chunks], encoder.embed_documents(texts))
        return cls(chunks, BM25.build(texts, params.bm25_k1, params.bm25_b), dense, encoder, settings)

    @functools.cached_property
    def definitions(self) -> dict[str, list[Definition]]:
        """Where the chunks define which Python name; empty for prose."""
        return find_definitions(self.chunks.values())

    def search(
        self, query: str, k: int, retriever: str | None = None, sources: Collection[str] | None = None
    ) -> list[Hit]:
        """The best k chunks, best first; only from the documents `sources` where given.

        `retriever` is one of RETRIEVERS, None for the index's default.
        """
        name = retriever or self.settings.retriever
        if name not in RETRIEVERS:
            raise UserError(f"retriever = {name!r}: expected {', '.join(RETRIEVERS)}")
        allowed = None if sources is None else [key for key in self.ids if self.chunks[key].source in set(sources)]
        depth = k if name != "hybrid" else max(k, CANDIDATES)
        by_words = self._by_words(query, depth, allowed) if name != "dense" else []
        by_vector = self._by_vector(query, depth, allowed) if name != "bm25" else []
        if name == "hybrid":
            ranking = fuse(by_words, by_vector, self.settings.fusion, self.settings.dense_weight)
        else:
            ranking = by_words or by_vector
        return [Hit(self.chunks[key], score) for key, score in ranking[:k]]

    def _by_words(self, query: str, k: int, allowed: list[str] | None) -> list[tuple[str, float]]:
        mask = None if allowed is None else np.isin(self.ids, allowed)
        return [(self.ids[i], score) for i, score in self.bm25.search(query, k, mask)]

    def _by_vector(self, query: str, k: int, allowed: list[str] | None) -> list[tuple[str, float]]:
        return self.dense.search(self.encoder.embed_queries([query])[0], k, allowed)

    def save(self, folder: Path) -> None:
        """Write chunks.parquet, bm25.npz, dense.faiss, dense.json and settings.json into `folder`."""
        columns = list(Chunk.__dataclass_fields__)
        frame = pd.DataFrame([asdict(chunk) for chunk in self.chunks.values()], columns=columns)
        frame.to_parquet(folder / "chunks.parquet", index=False)
        self.bm25.save(folder / "bm25.npz")
        self.dense.save(folder)
        write_json(folder / "settings.json", asdict(self.settings))

    @classmethod
    def load(cls, folder: Path, encoder: Encoder) -> "SearchIndex":
        """Read what `save` wrote; `open_index` checks the lineage too."""
        frame = pd.read_parquet(folder / "chunks.parquet")
        chunks = [Chunk(**row) for row in _records(frame)]
        settings = IndexSettings(**read_json(folder / "settings.json"))
        return cls(chunks, BM25.load(folder / "bm25.npz"), DenseStore.load(folder), encoder, settings)


def open_index(
    index: Path = paths.INDEX,
    encoder: Path = paths.ENCODER,
    model: Path = paths.MODEL,
    tokenizer: Path = paths.TOKENIZER,
    corpus: Path = paths.CORPUS,
) -> tuple[SearchIndex, Artifact]:
    """The index on disk and its artifact. Raises UserError where it was made from another encoder or corpus."""
    artifact = open_artifact(index, "index")
    artifact.require(open_artifact(corpus, "corpus"))
    reader, encoder_artifact = load_encoder(encoder, model, tokenizer)
    artifact.require(encoder_artifact)
    return SearchIndex.load(index, reader), artifact


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = frame.to_dict(orient="records")  # type: ignore[assignment]
    return [{**row, "start": int(row["start"]), "end": int(row["end"])} for row in rows]
