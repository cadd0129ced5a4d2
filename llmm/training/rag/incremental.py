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

    A chunk whose text `index` has keeps its vector, wherever in a document it stands now. Words are counted anew: a
    word's weight depends on all chunks (idf, mean length), and counting is cheap. The settings, with the abstention
    thresholds, are kept.
    Raises UserError where there are no chunks.
    """
    if not chunks:
        raise UserError("no chunk would be left of the index: delete its folder instead")
    texts = {chunk.id: searchable_text(chunk) for chunk in chunks}
    embedded = {searchable_text(chunk): key for key, chunk in index.chunks.items()}  # text to id
    kept = [key for key, text in texts.items() if text in embedded]
    new = [key for key, text in texts.items() if text not in embedded]
    dense = DenseStore(index.dense.dimension)
    dense.add(kept, index.dense.vectors([embedded[texts[key]] for key in kept]))
    dense.add(new, index.encoder.embed_documents([texts[key] for key in new]))
    bm25 = BM25.build(texts.values(), params.bm25_k1, params.bm25_b)
    return SearchIndex(chunks, bm25, dense, index.encoder, index.settings), len(new)
