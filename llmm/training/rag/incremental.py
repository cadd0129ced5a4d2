"""An index brought up to date: only what is new or changed is embedded, which is nearly all of an index's cost."""

from collections.abc import Sequence

from llmm.errors import UserError
from llmm.params import IndexParams
from llmm.training.rag.bm25 import BM25
from llmm.training.rag.chunking import Chunk
from llmm.training.rag.dense import DenseStore
from llmm.training.rag.index import SearchIndex, searchable_text


def updated(index: SearchIndex, chunks: Sequence[Chunk], params: IndexParams) -> tuple[SearchIndex, int]:
    """An index of exactly `chunks`, and how many of them had to be embedded; `index` stays as it was.

    A chunk whose id and text `index` has keeps its vector. Words are counted anew: a word's weight depends on all
    chunks (idf, mean length), and counting is cheap. The settings, with the abstention thresholds, are kept.
    Raises UserError where there are no chunks.
    """
    if not chunks:
        raise UserError("no chunk would be left of the index: delete its folder instead")
    kept = [chunk.id for chunk in chunks if index.chunks.get(chunk.id) == chunk]
    known = set(kept)
    new = [chunk for chunk in chunks if chunk.id not in known]
    dense = DenseStore(index.dense.dimension)
    dense.add(kept, index.dense.vectors(kept))
    dense.add([chunk.id for chunk in new], index.encoder.embed_documents([searchable_text(chunk) for chunk in new]))
    bm25 = BM25.build(map(searchable_text, chunks), params.bm25_k1, params.bm25_b)
    return SearchIndex(chunks, bm25, dense, index.encoder, index.settings), len(new)
