"""Retrieval and quotations on questions in SQuAD's format, such as XQuAD: text that nothing here was trained on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from llmm import paths
from llmm.errors import UserError
from llmm.params import IndexParams, Params
from llmm.statistics import bootstrap_interval, paired_bootstrap
from llmm.training.rag.chunking import Chunk
from llmm.training.rag.dense import DenseStore
from llmm.training.rag.encoder import Encoder, load_encoder
from llmm.training.rag.index import RETRIEVERS, Hit, IndexSettings, SearchIndex
from llmm.training.rag.metrics import ndcg_at, recall_at, reciprocal_rank
from llmm.training.rag.ranker_table import COLUMNS, RANKERS, RERANKED_HYBRID, ranker_rows
from llmm.training.rag.reader import sentences
from llmm.training.rag.rerank import reranked
from llmm.training.rag.retrieval import Bench
from llmm.training.tokenizer.folder import load_text_tokenizer
from llmm.transformers.gpt import GPT, load_gpt

SAMPLES = 1000
READ = 3  # paragraphs whose sentences are compared


@dataclass(frozen=True)
class Asked:
    """A question, the paragraph that answers it, and its answers as they stand there."""

    text: str
    paragraph: str
    answers: tuple[str, ...]


def read_squad(path: Path) -> tuple[dict[str, str], list[Asked]]:
    """Paragraphs by id, and the questions about them. Raises UserError where the file is not in SQuAD's format."""
    try:
        articles = json.loads(path.read_text(encoding="utf-8"))["data"]
        paragraphs: dict[str, str] = {}
        asked = []
        for a, article in enumerate(articles):
            for p, paragraph in enumerate(article["paragraphs"]):
                key = f"{a}.{p}"
                paragraphs[key] = paragraph["context"]
                for question in paragraph["qas"]:
                    answers = tuple(answer["text"] for answer in question["answers"])
                    asked.append(Asked(question["question"], key, answers))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not in SQuAD's format ({error!r}): data, paragraphs, qas expected") from None
    if not asked:
        raise UserError(f"{path} holds no question")
    return paragraphs, asked


def bench_squad(path: Path, params: Params) -> dict[str, Any]:
    """`score` of the questions in `path`, with the pipeline's encoder and pretrained model."""
    paragraphs, asked = read_squad(path)
    encoder, _ = load_encoder(paths.ENCODER, paths.MODEL, paths.TOKENIZER)
    gpt, tokenizer = load_gpt(paths.MODEL).eval(), load_text_tokenizer(paths.TOKENIZER)
    return {"file": path.name, **score(paragraphs, asked, encoder, gpt, tokenizer, params.index)}


def score(
    paragraphs: Mapping[str, str],
    asked: Sequence[Asked],
    encoder: Encoder,
    gpt: GPT,
    tokenizer: Tokenizer,
    params: IndexParams,
) -> dict[str, Any]:
    """Where each ranker has the right paragraph, and how often the reader's first quotation holds an answer.

    The quotation is a whole sentence out of the first READ paragraphs; beside it what it would be if the right
    paragraph alone were read ("right_paragraph"), or BM25's first one alone ("bm25_best_paragraph").
    """
    bench = Bench(paragraphs, encoder, params)
    rankings = bench.rankings([question.text for question in asked])
    for question, found in zip(asked, rankings, strict=True):
        found[RERANKED_HYBRID] = reranked(gpt, tokenizer, question.text, found["hybrid"], paragraphs)

    rows: dict[str, dict[str, Any]] = {}
    ndcg: dict[str, list[float]] = {}
    for name in RANKERS:
        lists = [(found[name], {question.paragraph}) for found, question in zip(rankings, asked, strict=True)]
        ndcg[name] = [ndcg_at(ranked, right, 10) for ranked, right in lists]
        low, high = bootstrap_interval(ndcg[name], SAMPLES, 0)
        rows[name] = {
            "ndcg@10": _mean(ndcg[name]),
            "ndcg@10_low": round(low, 4),
            "ndcg@10_high": round(high, 4),
            "mrr": _mean([reciprocal_rank(*pair) for pair in lists]),
            "recall@1": _mean([recall_at(*pair, 1) for pair in lists]),
            "recall@5": _mean([recall_at(*pair, 5) for pair in lists]),
        }
    chunks = {key: Chunk(key, key, "", 0, len(text), text) for key, text in paragraphs.items()}
    settings = IndexSettings("bm25", params.fusion, params.dense_weight)
    index = SearchIndex(list(chunks.values()), bench.bm25, DenseStore(1), encoder, settings)

    def holds_answer(question: Asked, keys: list[str]) -> float:
        quotes = sentences(question.text, [Hit(chunks[key], 0.0) for key in keys], index.bm25)
        return float(bool(quotes) and any(answer in quotes[0].text for answer in question.answers))

    def quotation(ranker: str, read: int) -> float:
        return _mean([holds_answer(q, found[ranker][:read]) for q, found in zip(asked, rankings, strict=True)])

    gains = {name: paired_bootstrap(ndcg[name], ndcg["bm25"], SAMPLES, 0) for name in RANKERS if name != "bm25"}
    return {
        "paragraphs": len(paragraphs),
        "questions": len(asked),
        "rankers": rows,
        "minus_bm25": {name: {key: round(value, 4) for key, value in gain.items()} for name, gain in gains.items()},
        "quotation_holds_answer": {
            **{name: quotation(name, READ) for name in RETRIEVERS},
            "bm25_best_paragraph": quotation("bm25", 1),
            "right_paragraph": _mean([holds_answer(q, [q.paragraph]) for q in asked]),
        },
    }


def render(result: dict[str, Any]) -> None:
    """Print the result as a table and a line."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "ranker" else "right")
    for row in ranker_rows(result):
        table.add_row(*row)
    console.print(table)
    quoted = result["quotation_holds_answer"]
    console.print(
        f"{result['file']}: {result['questions']:,} questions about {result['paragraphs']} paragraphs. The quoted "
        f"sentence holds an answer: {quoted['bm25']:.1%} out of BM25's first {READ} paragraphs, {quoted['hybrid']:.1%} "
        f"out of the hybrid's, {quoted['bm25_best_paragraph']:.1%} out of BM25's first alone, "
        f"{quoted['right_paragraph']:.1%} out of the right one.",
        highlight=False,
    )


def _mean(values: list[float]) -> float:
    return round(float(np.mean(values)), 4)
