"""How rankers are called and shown; imports nothing heavy, since the documents are written with it as well."""

from typing import Any

RERANKED_HYBRID = "reranked"
LABELS = {"bm25": "BM25", "dense": "dense", "hybrid": "hybrid", RERANKED_HYBRID: "hybrid, reranked"}
RANKERS = tuple(LABELS)
COLUMNS = ("ranker", "nDCG@10 (95% interval)", "MRR", "recall@1", "recall@5", "less BM25 (95% interval)")


def ranker_rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """The cells under COLUMNS of what `llmm bench retrieval` found, a row for each ranker."""
    rows = []
    for name, row in result["rankers"].items():
        interval = f"{row['ndcg@10']:.3f} ({row['ndcg@10_low']:.3f} to {row['ndcg@10_high']:.3f})"
        gain = result["minus_bm25"].get(name)
        beside = f"{gain['difference']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f})" if gain else ""
        measures = (f"{row[key]:.3f}" for key in ("mrr", "recall@1", "recall@5"))
        rows.append((LABELS[name], interval, *measures, beside))
    return rows
