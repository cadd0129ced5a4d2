"""The evaluation `rag_eval`: retrieval, question answering and abstention, each beside its baselines.

Suites: the retrieval benchmark with the names removed and with them (`benchmark`), questions about held-out objects
that the fine-tuned model answers with and without passages (`questions`), questions that the corpus cannot answer, and
hand-written questions where the corpus is the standard library. The metrics are computed from the rows alone.
"""

import functools
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

from tokenizers import Tokenizer

from llmm import paths
from llmm.corpus import SPLITS, load_documents, load_objects
from llmm.errors import UserError
from llmm.evaluation import Batch, Report, Row, batches_of
from llmm.files import read_json
from llmm.lineage import open_artifact
from llmm.params import Params
from llmm.training.rag.answer import READ_CHUNKS, answer, ground
from llmm.training.rag.benchmark import SUITES, Benchmark, make_benchmark
from llmm.training.rag.generation import Reader, load_reader
from llmm.training.rag.handwritten import HandWritten, load_hand_written
from llmm.training.rag.index import RETRIEVERS, SearchIndex, open_index
from llmm.training.rag.questions import Question, exact_match, f1, make_questions, unanswerable_questions
from llmm.training.rag.ranker_table import RANKERS, RERANKED_HYBRID
from llmm.training.rag.reader import sentences
from llmm.training.rag.report import write_report
from llmm.training.rag.rerank import reranked
from llmm.training.rag.retrieval import Bench
from llmm.training.tokenizer.folder import load_text_tokenizer
from llmm.transformers.gpt import GPT, load_gpt

QUESTIONS, UNANSWERABLE, HAND_WRITTEN = "questions", "unanswerable", "hand_written"
RETRIEVAL_BATCH, QUESTION_BATCH = 50, 25


@dataclass(frozen=True)
class Items:
    """All items of the evaluation, read from the corpus without any model."""

    benchmark: Benchmark
    questions: list[Question]
    unanswerable: list[Question]
    hand_written: list[HandWritten]
    texts: dict[str, str]  # of every document by id


@dataclass(frozen=True)
class RagEvaluation:
    """See `llmm.evaluation.Evaluation`."""

    params: Params
    name: str = "rag_eval"

    def batches(self) -> list[Batch]:
        """Every suite in batches."""
        items = _items(self.params)
        retrieval = [b for suite in SUITES for b in batches_of(suite, len(items.benchmark.queries), RETRIEVAL_BATCH)]
        return [
            *retrieval,
            *batches_of(QUESTIONS, len(items.questions), QUESTION_BATCH),
            *batches_of(UNANSWERABLE, len(items.unanswerable), RETRIEVAL_BATCH),
            *batches_of(HAND_WRITTEN, len(items.hand_written), RETRIEVAL_BATCH),
        ]

    def run(self, batch: Batch) -> list[Row]:
        """Score the items of a batch."""
        items, span = _items(self.params), slice(batch.start, batch.stop)
        if batch.suite in SUITES:
            return _run_retrieval(self.params, batch.suite, span)
        if batch.suite == QUESTIONS:
            return _run_questions(self.params, items.questions[span], items.texts)
        if batch.suite == UNANSWERABLE:
            return _run_unanswerable(self.params, items.unanswerable[span])
        if batch.suite == HAND_WRITTEN:
            return _run_hand_written(self.params, items.hand_written[span])
        raise ValueError(f"no suite {batch.suite!r}")

    def report(self, rows: list[Row], folder: Path) -> Report:
        """Metrics, tables and figures from the rows."""
        return write_report(rows, self.params.rag_eval, self.params.seed, folder)


def rag_evaluation(params: Params) -> RagEvaluation:
    """The evaluation of the artifacts on disk."""
    return RagEvaluation(params)


def rank_of(ranked: list[str], relevant: set[str]) -> int | None:
    """Rank, from 1, of the first relevant id, None where there is none."""
    return next((rank for rank, key in enumerate(ranked, start=1) if key in relevant), None)


def _run_retrieval(params: Params, suite: str, span: slice) -> list[Row]:
    queries = _items(params).benchmark.queries[span]
    texts = [query.of(suite) for query in queries]
    everything, held_out = (bench.rankings(texts) for bench in _benches(params))
    documents = _items(params).benchmark.documents
    for rankings in (everything, held_out):
        for text, found in zip(texts, rankings, strict=True):
            found[RERANKED_HYBRID] = reranked(*_language_model(), text, found["hybrid"], documents)
    return [
        {
            "id": query.id,
            "suite": suite,
            "query": text,
            "rank": {name: rank_of(found[name], {query.relevant}) for name in RANKERS},
            "rank_among_held_out": {name: rank_of(among[name], {query.relevant}) for name in RANKERS},
            "first": {name: found[name][0] if found[name] else None for name in RANKERS},
        }
        for query, text, found, among in zip(queries, texts, everything, held_out, strict=True)
    ]


def _run_questions(params: Params, questions: list[Question], texts: dict[str, str]) -> list[Row]:
    index, reader = _index(), _reader(params.finetune.seq_len)
    asked = [question.text for question in questions]
    hits = [index.search(text, READ_CHUNKS) for text in asked]
    retrieved = [(found[0].chunk.title, found[0].chunk.text) if found else None for found in hits]
    gold = [(q.source, texts[q.source][q.start : q.end]) for q in questions]
    generated = reader.answers(asked, retrieved)
    closed = reader.answers(asked, [None] * len(asked))
    informed = reader.answers(asked, gold)
    rows = []
    for i, question in enumerate(questions):
        extracted = answer(question.text, index)
        first = sentences(question.text, index.search(question.text, 1, "bm25"), index.bm25)
        predictions = {
            "generated": generated[i],
            "closed_book": closed[i],
            "gold_context": informed[i],
            "extractive": extracted.text if extracted.found else "",
            "bm25_sentence": first[0].text if first else "",
        }
        rows.append(
            {
                "id": question.id,
                "suite": QUESTIONS,
                "kind": question.kind,
                "question": question.text,
                "gold": question.answer,
                "answers": predictions,
                "exact_match": {name: exact_match(text, question.answer) for name, text in predictions.items()},
                "f1": {name: round(f1(text, question.answer), 6) for name, text in predictions.items()},
                "found": extracted.found,
                "generated_is_grounded": ground(generated[i], hits[i]) is not None,
                "right_source_retrieved": question.source in {hit.chunk.source for hit in hits[i]},
                "citations": [asdict(citation) for citation in extracted.citations],
                "citations_exist": all(texts[c.source][c.start : c.end] == c.quote for c in extracted.citations),
            }
        )
    return rows


def _run_unanswerable(params: Params, questions: list[Question]) -> list[Row]:
    rows = []
    for question in questions:
        given = answer(question.text, _index())
        rows.append(
            {
                "id": question.id,
                "suite": UNANSWERABLE,
                "question": question.text,
                "found": given.found,
                "answer": given.text,
                "confidence": given.citations[0].score if given.citations else None,
            }
        )
    return rows


def _run_hand_written(params: Params, questions: list[HandWritten]) -> list[Row]:
    index = _index()
    rows = []
    for question in questions:
        ranks = {}
        for name in RETRIEVERS:
            sources = [hit.chunk.source for hit in index.search(question.question, params.rag_eval.top_k, name)]
            ranks[name] = rank_of(sources, set(question.modules))
        given = answer(question.question, index)
        rows.append(
            {
                "id": question.id,
                "suite": HAND_WRITTEN,
                "question": question.question,
                "answerable": question.answerable,
                "rank": ranks,
                "found": given.found,
                "answer": given.text,
                "cited": [citation.source for citation in given.citations],
                "right_source_cited": bool(given.citations) and given.citations[0].source in question.modules,
            }
        )
    return rows


@functools.lru_cache(maxsize=2)
def _items(params: Params) -> Items:
    documents = {split: load_documents(paths.CORPUS, split) for split in SPLITS}
    objects = load_objects(paths.CORPUS)
    limits = params.rag_eval
    try:
        is_stdlib = read_json(paths.SOURCE)["source"] == "stdlib"
    except UserError:
        is_stdlib = False
    sources = {document.id for members in documents.values() for document in members}
    return Items(
        benchmark=make_benchmark(objects, documents, "test", limits.retrieval_queries, params.seed),
        questions=make_questions(objects, documents, "test", limits.questions, params.seed),
        unanswerable=unanswerable_questions(objects, "test", max(limits.questions // 3, 1), params.seed + 1),
        hand_written=load_hand_written(paths.EVALS / "questions.jsonl", sources) if is_stdlib else [],
        texts={document.id: document.text for members in documents.values() for document in members},
    )


_LOCK = threading.RLock()  # lru_cache alone would let two threads load the same model


def _benches(params: Params) -> tuple[Bench, Bench]:
    """The benchmark among all documents, and among those of the test split only."""
    with _LOCK:
        return _load_benches(params)


def _index() -> SearchIndex:
    with _LOCK:
        return _load_index()


def _language_model() -> tuple[GPT, Tokenizer]:
    """The pretrained model, before it was fine-tuned: what reranks by likelihood."""
    with _LOCK:
        return _load_language_model()


def _reader(seq_len: int) -> Reader:
    with _LOCK:
        return _load_reader(seq_len)


@functools.lru_cache(maxsize=1)
def _load_benches(params: Params) -> tuple[Bench, Bench]:
    benchmark = _items(params).benchmark
    everything = Bench(benchmark.documents, _load_index().encoder, params.index)
    return everything, everything.among(benchmark.held_out)


@functools.lru_cache(maxsize=1)
def _load_index() -> SearchIndex:
    return open_index()[0]


@functools.lru_cache(maxsize=1)
def _load_language_model() -> tuple[GPT, Tokenizer]:
    base = open_artifact(paths.MODEL, "model")
    base.require(open_artifact(paths.TOKENIZER, "tokenizer"))
    return load_gpt(paths.MODEL).eval(), load_text_tokenizer(paths.TOKENIZER)


@functools.lru_cache(maxsize=1)
def _load_reader(seq_len: int) -> Reader:
    # the question and the answer need room beside the passage
    return load_reader(paths.ADAPTER, paths.MODEL, paths.TOKENIZER, max(32, seq_len - 160))
