"""What the rows of `rag_eval` say: metrics with intervals, tables, a page to read first, two figures."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmm.evaluation import Report, Row
from llmm.figures import OURS, new_figure, save_figure
from llmm.params import RagEvalParams
from llmm.statistics import bootstrap_interval, paired_bootstrap, wilson_interval
from llmm.training.rag.benchmark import SUITES
from llmm.training.rag.index import RETRIEVERS
from llmm.training.rag.metrics import ndcg_at, reciprocal_rank
from llmm.training.rag.ranker_table import LABELS, RANKERS, RERANKED_HYBRID

SYSTEMS = {
    "generated": "our model reads the best chunk",
    "gold_context": "our model reads the right object",
    "closed_book": "our model without a passage",
    "extractive": "quotation (the default)",
    "bm25_sentence": "BM25's best sentence",
}
TITLES = {"retrieval_names_removed": "names removed", "retrieval_with_names": "with names"}


def write_report(rows: Sequence[Row], params: RagEvalParams, seed: int, folder: Path) -> Report:
    """Read the rows of any suites; a suite without rows is left out."""
    suites: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row["suite"], row["id"])):
        suites.setdefault(row["suite"], []).append(row)
    metrics: dict[str, Any] = {}
    tables: dict[str, list[Row]] = {}
    for suite in SUITES:
        if suite in suites:
            metrics[suite] = retrieval_metrics(suites[suite], params.bootstrap_samples, seed)
            tables[f"Retrieval, {TITLES[suite]}"] = _retrieval_table(metrics[suite])
    if "retrieval_names_removed" in metrics:
        beats = metrics["retrieval_names_removed"]["hybrid_minus_bm25"]["low"] > 0
        metrics["hybrid_beats_bm25"] = beats
        metrics["recommended_retriever"] = "hybrid" if beats else "bm25"
    if "questions" in suites:
        metrics["questions"] = question_metrics(suites["questions"], params.bootstrap_samples, seed)
        tables["Answers"] = [{"system": SYSTEMS[name], **metrics["questions"][name]} for name in SYSTEMS]
    if "unanswerable" in suites:
        metrics["unanswerable"] = _share(suites["unanswerable"], "refused", lambda row: not row["found"])
    if "hand_written" in suites:
        metrics["hand_written"] = hand_written_metrics(suites["hand_written"])
    figures = []
    if any(suite in metrics for suite in SUITES):
        figures.append(_retrieval_figure(metrics, folder))
    if "questions" in metrics:
        figures.append(_answers_figure(metrics["questions"], folder))
    return Report(metrics, tables, _markdown(metrics), figures)


def retrieval_metrics(rows: Sequence[Row], samples: int, seed: int) -> dict[str, Any]:
    """Recall@1/5/10, MRR and nDCG@10 of each ranker with an interval, and the paired differences hybrid - BM25 and
    reranked - hybrid."""
    result: dict[str, Any] = {"queries": len(rows)}
    ndcg = {name: [_of_rank(row["rank"][name], lambda r: ndcg_at(r, {"x"}, 10)) for row in rows] for name in RANKERS}
    for name in RANKERS:
        ranks = [row["rank"][name] for row in rows]
        low, high = bootstrap_interval(ndcg[name], samples, seed)
        result[name] = {
            **{f"recall@{k}": _mean(rank is not None and rank <= k for rank in ranks) for k in (1, 5, 10)},
            "mrr": _mean(_of_rank(rank, lambda r: reciprocal_rank(r, {"x"})) for rank in ranks),
            "ndcg@10": _mean(ndcg[name]),
            "ndcg@10_low": round(low, 4),
            "ndcg@10_high": round(high, 4),
        }
    result["hybrid_minus_bm25"] = _rounded(paired_bootstrap(ndcg["hybrid"], ndcg["bm25"], samples, seed))
    result["reranked_minus_hybrid"] = _rounded(paired_bootstrap(ndcg[RERANKED_HYBRID], ndcg["hybrid"], samples, seed))
    among_own = {
        name: _mean(_of_rank(row["rank_among_held_out"][name], lambda r: ndcg_at(r, {"x"}, 10)) for row in rows)
        for name in RANKERS
    }
    result["ndcg@10_among_held_out"] = among_own
    return result


def question_metrics(rows: Sequence[Row], samples: int, seed: int) -> dict[str, Any]:
    """Exact match and F1 of each system with intervals, also by kind of question; how often answers are grounded."""
    result: dict[str, Any] = {"questions": len(rows)}
    for name in SYSTEMS:
        f1 = [row["f1"][name] for row in rows]
        low, high = bootstrap_interval(f1, samples, seed)
        matches = sum(row["exact_match"][name] for row in rows)
        em_low, em_high = wilson_interval(int(matches), len(rows))
        result[name] = {
            "exact_match": _mean(row["exact_match"][name] for row in rows),
            "exact_match_low": round(em_low, 4),
            "exact_match_high": round(em_high, 4),
            "f1": _mean(f1),
            "f1_low": round(low, 4),
            "f1_high": round(high, 4),
        }
    kinds = sorted({row["kind"] for row in rows})
    of_kind = {kind: [row for row in rows if row["kind"] == kind] for kind in kinds}
    result["f1_by_kind"] = {
        kind: {name: _mean(row["f1"][name] for row in members) for name in SYSTEMS} for kind, members in of_kind.items()
    }
    result["answered"] = _mean(row["found"] for row in rows)
    result["right_source_retrieved"] = _mean(row["right_source_retrieved"] for row in rows)
    result["generated_is_grounded"] = _mean(row["generated_is_grounded"] for row in rows)
    result["citations_exist"] = _mean(row["citations_exist"] for row in rows)
    return result


def hand_written_metrics(rows: Sequence[Row]) -> dict[str, Any]:
    """Recall of the right module by each retriever, the right module cited, and abstention."""
    asked = [row for row in rows if row["answerable"]]
    result: dict[str, Any] = {"questions": len(rows)}
    for name in RETRIEVERS:
        ranks = [row["rank"][name] for row in asked]
        recalls = {f"recall@{k}": _mean(rank is not None and rank <= k for rank in ranks) for k in (1, 5, 10)}
        result[name] = {**recalls, "mrr": _mean(1 / rank if rank else 0.0 for rank in ranks)}
    if asked:
        result["answered"] = _share(asked, "rate", lambda row: row["found"])
        result["right_source_cited"] = _share(asked, "rate", lambda row: row["right_source_cited"])
    others = [row for row in rows if not row["answerable"]]
    if others:
        result["refused_of_unanswerable"] = _share(others, "rate", lambda row: not row["found"])
    return result


def _of_rank(rank: int | None, measure: Callable[[list[str]], float]) -> float:
    """A measure of a ranking whose only relevant id "x" is at `rank`."""
    return 0.0 if rank is None else measure(["-"] * (rank - 1) + ["x"])


def _mean(values: Any) -> float:
    numbers = [float(value) for value in values]
    return round(sum(numbers) / len(numbers), 4) if numbers else 0.0


def _share(rows: Sequence[Row], name: str, holds: Callable[[Row], bool]) -> dict[str, Any]:
    successes = sum(bool(holds(row)) for row in rows)
    low, high = wilson_interval(successes, len(rows))
    return {"n": len(rows), name: round(successes / len(rows), 4), "low": round(low, 4), "high": round(high, 4)}


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {key: round(value, 4) for key, value in values.items()}


def _retrieval_table(metrics: dict[str, Any]) -> list[Row]:
    return [{"retriever": LABELS[name], **metrics[name]} for name in RANKERS]


def _markdown(metrics: dict[str, Any]) -> str:
    lines = ["# Retrieval and answers", ""]
    if "hybrid_beats_bm25" in metrics:
        gain = metrics["retrieval_names_removed"]["hybrid_minus_bm25"]
        found = f"nDCG@10 {gain['difference']:+.3f}, 95% interval {gain['low']:+.3f} to {gain['high']:+.3f}"
        if metrics["hybrid_beats_bm25"]:
            lines.append(f"Hybrid retrieval beats BM25 where the names are removed: {found}.")
        else:
            lines.append(f"Hybrid retrieval does not beat BM25 where the names are removed ({found}): prefer `bm25`.")
    for suite in SUITES:
        if suite in metrics:
            lines += ["", f"## Retrieval, {TITLES[suite]} ({metrics[suite]['queries']} queries)", ""]
            lines += [
                "| retriever | recall@1 | recall@5 | recall@10 | MRR | nDCG@10 (95% interval) |",
                "|---" * 6 + "|",
            ]
            for name in RANKERS:
                m = metrics[suite][name]
                interval = f"{m['ndcg@10']:.3f} ({m['ndcg@10_low']:.3f}–{m['ndcg@10_high']:.3f})"
                values = " | ".join(f"{m[key]:.3f}" for key in ("recall@1", "recall@5", "recall@10", "mrr"))
                lines.append(f"| {LABELS[name]} | {values} | {interval} |")
    if "questions" in metrics:
        q = metrics["questions"]
        lines += ["", f"## Answers ({q['questions']} questions)", ""]
        lines += ["| system | exact match | F1 (95% interval) |", "|---|---|---|"]
        for name, label in SYSTEMS.items():
            m = q[name]
            lines.append(f"| {label} | {m['exact_match']:.3f} | {m['f1']:.3f} ({m['f1_low']:.3f}–{m['f1_high']:.3f}) |")
    if "unanswerable" in metrics:
        m = metrics["unanswerable"]
        lines += ["", f"Of {m['n']} questions that the corpus cannot answer, {m['refused']:.0%} were refused."]
    return "\n".join(lines) + "\n"


def _retrieval_figure(metrics: dict[str, Any], folder: Path) -> Path:
    suites = [suite for suite in SUITES if suite in metrics]
    figure, axes = new_figure(7, 3.2)
    shades = {"bm25": "0.65", "dense": "0.85", "hybrid": OURS, RERANKED_HYBRID: "#1a4f85"}
    for j, suite in enumerate(suites):
        for i, name in enumerate(RANKERS):
            m, at = metrics[suite][name], j + (i - 1.5) * 0.22
            spread = [[m["ndcg@10"] - m["ndcg@10_low"]], [m["ndcg@10_high"] - m["ndcg@10"]]]
            axes.bar(at, m["ndcg@10"], 0.2, color=shades[name], yerr=spread, capsize=3, ecolor="0.25")
            label = f"{LABELS[name]}\n{m['ndcg@10']:.3f}"
            axes.text(at, m["ndcg@10_high"] + 0.005, label, ha="center", va="bottom", fontsize=8)
    axes.set_xticks(range(len(suites)), [f"{TITLES[s]} ({metrics[s]['queries']} queries)" for s in suites])
    axes.set_ylabel("nDCG@10 (95% interval)")
    axes.set_title("Which retriever finds the object that a docstring describes?", loc="left", fontsize="medium")
    axes.margins(y=0.25)
    return save_figure(figure, folder / "retrieval.svg")


def _answers_figure(metrics: dict[str, Any], folder: Path) -> Path:
    figure, axes = new_figure(7, 2.8)
    for i, name in enumerate(reversed(SYSTEMS)):
        m = metrics[name]
        spread = [[m["f1"] - m["f1_low"]], [m["f1_high"] - m["f1"]]]
        shade = OURS if name == "extractive" else "0.75"
        axes.barh(i, m["f1"], 0.7, color=shade, xerr=spread, capsize=3, ecolor="0.25")
        axes.text(m["f1_high"] + 0.01, i, f"F1 {m['f1']:.2f}, exact {m['exact_match']:.2f}", va="center", fontsize=8)
    axes.set_yticks(range(len(SYSTEMS)), list(reversed(SYSTEMS.values())))
    axes.set_xlim(0, 1.4)
    axes.set_xticks(np.arange(0, 1.01, 0.25))
    axes.set_xlabel(f"F1 of words (mean of {metrics['questions']} questions, 95% interval)")
    figure.suptitle("How well are questions about unseen objects answered?", x=0.01, ha="left", size="medium")
    return save_figure(figure, folder / "answers.svg")
