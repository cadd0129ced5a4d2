"""langchain-core's interfaces around ours: `Embeddings`, `VectorStore`, `BaseRetriever`.

The wrappers of `langchain-community` filter after the search and pickle; ours filters before it, keeps ids and metadata
as given, and is stored as faiss and JSON.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import VectorStore
from langchain_core.vectorstores.utils import maximal_marginal_relevance

from llmm.files import read_json, sha256_of, write_json
from llmm.training.rag.dense import DenseStore
from llmm.training.rag.encoder import Encoder
from llmm.training.rag.index import SearchIndex

Filter = Callable[[Document], bool] | dict[str, Any]
DOCUMENTS_FILE = "documents.json"


class EncoderEmbeddings(Embeddings):
    """Our encoder for anything that takes langchain embeddings."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector a text."""
        return self.encoder.embed_documents(texts).tolist()

    def embed_query(self, text: str) -> list[float]:
        """The vector of a question."""
        return self.encoder.embed_queries([text])[0].tolist()


class FaissStore(VectorStore):
    """Texts with metadata, found by the cosine of any embeddings; `filter` is a function of the document, or a dict
    of metadata that must be equal. Metadata must be JSON where the store is saved."""

    def __init__(self, embedding: Embeddings) -> None:
        self._embedding = embedding
        self._store: DenseStore | None = None  # made when the first vector tells the dimension
        self._documents: dict[str, Document] = {}

    @property
    def embeddings(self) -> Embeddings:
        """The embeddings that the store was made with."""
        return self._embedding

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Add texts and return their ids; an id that is there already is overwritten.

        A text without an id gets the hash of its content and metadata. Raises ValueError where the lengths differ.
        """
        texts = list(texts)
        metadatas = metadatas if metadatas is not None else [{} for _ in texts]
        given = list(ids) if ids is not None else [None] * len(texts)
        if not len(texts) == len(metadatas) == len(given):
            raise ValueError(
                f"{len(texts)} texts, {len(metadatas)} metadatas, {len(given)} ids: expected as many of each"
            )
        keys = [
            key if key is not None else sha256_of(text, repr(sorted(metadata.items())))[:32]
            for key, text, metadata in zip(given, texts, metadatas, strict=True)
        ]
        if texts:
            vectors = _normalised(self._embedding.embed_documents(texts))
            if self._store is None:
                self._store = DenseStore(vectors.shape[1])
            self._store.add(keys, vectors)
            for key, text, metadata in zip(keys, texts, metadatas, strict=True):
                self._documents[key] = Document(page_content=text, metadata=dict(metadata), id=key)
        return keys

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Remove documents; None removes all. Ids that are not there are passed over."""
        for key in list(self._documents) if ids is None else ids:
            if self._documents.pop(key, None) is not None and self._store is not None:
                self._store.remove([key])
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The documents that are there, in the order of `ids`."""
        return [_copy(self._documents[key]) for key in ids if key in self._documents]

    def similarity_search(self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any) -> list[Document]:
        """The k documents nearest to `query` that pass the filter."""
        return [document for document, _ in self.similarity_search_with_score(query, k, filter)]

    def similarity_search_with_score(
        self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """The same with their cosines."""
        return self._nearest(self._embedding.embed_query(query), k, filter)

    def similarity_search_by_vector(
        self, embedding: list[float], k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[Document]:
        """The same for a vector."""
        return [document for document, _ in self._nearest(embedding, k, filter)]

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """k of the `fetch_k` nearest, near the query but unlike each other (Carbonell & Goldstein 1998)."""
        embedding = self._embedding.embed_query(query)
        return self.max_marginal_relevance_search_by_vector(embedding, k, fetch_k, lambda_mult, filter)

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """The same for a vector."""
        found = [document for document, _ in self._nearest(embedding, fetch_k, filter)]
        if self._store is None or not found:
            return []
        vectors = list(self._store.vectors([str(document.id) for document in found]))
        chosen = maximal_marginal_relevance(np.array(embedding, dtype=np.float32), vectors, lambda_mult, k)
        return [found[i] for i in chosen]

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return lambda cosine: min(max((1 + cosine) / 2, 0.0), 1.0)

    def _nearest(self, embedding: list[float], k: int, filter: Filter | None) -> list[tuple[Document, float]]:
        if self._store is None:
            return []
        allowed = None
        if filter is not None:
            allowed = [key for key, document in self._documents.items() if _passes(document, filter)]
        hits = self._store.search(_normalised([embedding])[0], k, allowed)
        return [(_copy(self._documents[key]), score) for key, score in hits]

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> Self:
        """A new store with these texts."""
        store = cls(embedding)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    def save_local(self, folder: Path) -> None:
        """Write documents.json, dense.faiss and dense.json into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        records = [{"id": d.id, "text": d.page_content, "metadata": d.metadata} for d in self._documents.values()]
        write_json(folder / DOCUMENTS_FILE, records)
        if self._store is not None:
            self._store.save(folder)

    @classmethod
    def load_local(cls, folder: Path, embedding: Embeddings) -> Self:
        """Read what `save_local` wrote."""
        store = cls(embedding)
        for record in read_json(folder / DOCUMENTS_FILE):
            document = Document(page_content=record["text"], metadata=record["metadata"], id=record["id"])
            store._documents[record["id"]] = document
        if (folder / "dense.json").exists():
            store._store = DenseStore.load(folder)
        return store


class IndexRetriever(BaseRetriever):
    """The project's index as a langchain retriever; metadata: source, title, start, end, score."""

    index: Any  # a SearchIndex, which pydantic has no schema for
    k: int = 4
    retriever: str | None = None

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        index: SearchIndex = self.index
        return [
            Document(
                id=hit.chunk.id,
                page_content=hit.chunk.text,
                metadata={
                    "source": hit.chunk.source,
                    "title": hit.chunk.title,
                    "start": hit.chunk.start,
                    "end": hit.chunk.end,
                    "score": hit.score,
                },
            )
            for hit in index.search(query, self.k, self.retriever)
        ]


def _passes(document: Document, filter: Filter) -> bool:
    if callable(filter):
        return filter(_copy(document))
    return all(key in document.metadata and document.metadata[key] == value for key, value in filter.items())


def _copy(document: Document) -> Document:
    """A document whose metadata can be changed without changing the store's."""
    return Document(page_content=document.page_content, metadata=dict(document.metadata), id=document.id)


def _normalised(vectors: Sequence[Sequence[float]]) -> npt.NDArray[np.float32]:
    array = np.asarray(vectors, dtype=np.float32)
    return array / np.maximum(np.linalg.norm(array, axis=1, keepdims=True), 1e-12)
