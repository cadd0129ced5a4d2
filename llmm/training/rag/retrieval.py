"""The three retrievers on the documents of a benchmark: where each of them ranks the right one."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from llmm.params import IndexParams
from llmm.statistics import paired_bootstrap
from llmm.training.rag.benchmark import Benchmark
from llmm.training.rag.bm25 import BM25
from llmm.training.rag.encoder import Encoder
from llmm.training.rag.hybrid import fuse
from llmm.training.rag.index import CANDIDATES, RETRIEVERS
from llmm.training.rag.metrics import ndcg_at

BOOTSTRAP_SAMPLES = 1000


class Bench:
    """The documents of a benchmark under BM25 and as vectors (N, D)."""

    def __init__(
        self,
        documents: Mapping[str, str],
        encoder: Encoder,
        params: IndexParams,
        vectors: npt.NDArray[np.float32] | None = None,
    ) -> None:
        """`vectors` (N, D) are those of the documents where they are known already."""
        self.documents, self.encoder, self.params = documents, encoder, params
        self.ids = list(documents)
        self.bm25 = BM25.build(documents.values(), params.bm25_k1, params.bm25_b)
        self.vectors = encoder.embed_documents(list(documents.values())) if vectors is None else vectors

    def among(self, ids: Collection[str]) -> "Bench":
        """The same with some of the documents only."""
        rows = [row for row, key in enumerate(self.ids) if key in ids]
        kept = {self.ids[row]: self.documents[self.ids[row]] for row in rows}
        return Bench(kept, self.encoder, self.params, self.vectors[rows])

    def rankings(self, queries: Sequence[str], dense_weight: float | None = None) -> list[dict[str, list[str]]]:
        """For each query the best ids of bm25, dense and hybrid, at most 100 of each."""
        weight = self.params.dense_weight if dense_weight is None else dense_weight
        vectors = self.encoder.embed_queries(queries)
        return [self._rank(query, vector, weight) for query, vector in zip(queries, vectors, strict=True)]

    def _rank(self, query: str, vector: npt.NDArray[np.float32], weight: float) -> dict[str, list[str]]:
        words = [(self.ids[i], score) for i, score in self.bm25.search(query, CANDIDATES)]
        cosines = self.vectors @ vector
        nearest = np.lexsort((np.arange(len(cosines)), -cosines))[:CANDIDATES]
        dense = [(self.ids[i], float(cosines[i])) for i in nearest]
        hybrid = fuse(words, dense, self.params.fusion, weight)[:CANDIDATES]
        found = {"bm25": words, "dense": dense, "hybrid": hybrid}
        return {name: [key for key, _ in found[name]] for name in RETRIEVERS}


def held_out_ndcg(benchmark: Benchmark, encoder: Encoder, params: IndexParams) -> dict[str, float]:
    """Mean nDCG@10 of each retriever with the names removed, among the documents of the queries' split only.

    A few hundred documents instead of thousands: cheap enough to look at before and after training. What hybrid gains
    over BM25 comes with the ends of its paired 95% interval, "gain_low" and "gain_high".
    """
    own = {key: text for key, text in benchmark.documents.items() if key in benchmark.held_out}
    if not benchmark.queries:
        return {**dict.fromkeys(RETRIEVERS, 0.0), "gain_low": 0.0, "gain_high": 0.0}
    rankings = Bench(own, encoder, params).rankings([query.without_names for query in benchmark.queries])
    by_query = ndcg_by_query(rankings, [query.relevant for query in benchmark.queries])
    gain = paired_bootstrap(by_query["hybrid"], by_query["bm25"], BOOTSTRAP_SAMPLES, seed=0)
    means = {name: float(np.mean(values)) for name, values in by_query.items()}
    found = {**means, "gain_low": gain["low"], "gain_high": gain["high"]}
    return {name: round(value, 4) for name, value in found.items()}


def mean_ndcg(rankings: Sequence[Mapping[str, Sequence[str]]], relevant: Sequence[str]) -> dict[str, float]:
    """Mean nDCG@10 of each retriever; 0 where there are no queries."""
    return {name: float(np.mean(values or [0.0])) for name, values in ndcg_by_query(rankings, relevant).items()}


def ndcg_by_query(rankings: Sequence[Mapping[str, Sequence[str]]], relevant: Sequence[str]) -> dict[str, list[float]]:
    """nDCG@10 of each retriever for each query, whose one relevant document stands in `relevant`."""
    return {
        name: [ndcg_at(r[name], {key}, 10) for r, key in zip(rankings, relevant, strict=True)] for name in RETRIEVERS
    }
