"""Stage `index`: cuts the corpus into chunks and makes them searchable by words and by vectors."""

import dataclasses
import time
from typing import Any

from llmm import lineage
from llmm.corpus import SPLITS, load_documents, load_objects
from llmm.files import atomic_folder, write_json
from llmm.params import Params
from llmm.paths import CORPUS, ENCODER, INDEX, METRICS, MODEL, TOKENIZER
from llmm.training.rag.calibration import calibrated_threshold
from llmm.training.rag.encoder import best_retriever, load_encoder
from llmm.training.rag.index import IndexSettings, SearchIndex, chunk_documents
from llmm.training.rag.questions import make_questions, unanswerable_questions
from pipelines.stage import run_stage

CALIBRATION_QUESTIONS = 150


def main(params: Params) -> dict[str, Any]:
    """Write `data/index` and `data/metrics/index.json`; returns the embedding's throughput."""
    p = params.index
    corpus = lineage.open_artifact(CORPUS, "corpus")
    encoder, encoder_artifact = load_encoder(ENCODER, MODEL, TOKENIZER)
    encoder_artifact.require(corpus)
    objects = load_objects(CORPUS)
    documents = {split: load_documents(CORPUS, split) for split in SPLITS}

    chunks = chunk_documents([document for split in SPLITS for document in documents[split]], p)
    print(f"embedding {len(chunks)} chunks", flush=True)
    started = time.perf_counter()
    retriever = best_retriever(ENCODER, p.retriever)
    index = SearchIndex.build(chunks, encoder, p, IndexSettings(retriever, p.fusion, p.dense_weight))
    seconds = time.perf_counter() - started

    asked = make_questions(objects, documents, "val", CALIBRATION_QUESTIONS, params.seed)
    invented = unanswerable_questions(objects, "val", CALIBRATION_QUESTIONS, params.seed)
    threshold, shares = calibrated_threshold(index, asked, invented)
    name = "definition_threshold" if index.definitions else "sentence_threshold"
    if asked and invented:
        calibrated = {**dataclasses.asdict(index.settings), name: round(threshold, 6)}
        index.settings = IndexSettings(**calibrated)
    with atomic_folder(INDEX) as temporary:
        index.save(temporary)
        lineage.seal(temporary, "index", [corpus, encoder_artifact], INDEX)
        sizes = {file.name: file.stat().st_size for file in sorted(temporary.iterdir())}
    lengths = [len(chunk.text) for chunk in chunks]
    write_json(
        METRICS / "index.json",
        {
            "documents": sum(map(len, documents.values())),
            "chunks": len(chunks),
            "chars_in_a_chunk": round(sum(lengths) / len(lengths), 1),
            "words_of_bm25": len(index.bm25.terms),
            "dimension": encoder.dimension,
            "retriever": retriever,
            "bytes": sizes,
            "definition_threshold": index.settings.definition_threshold,
            "sentence_threshold": index.settings.sentence_threshold,
            "val": {name: round(share, 4) for name, share in shares.items()},
        },
    )
    if retriever != p.retriever:
        print(f"{p.retriever} is not shown to beat {retriever} on validation: {retriever} is the default")
    print(f"{len(chunks)} chunks, {sum(sizes.values()) / 1e6:.1f} MB; {name.replace('_', ' ')} {threshold:.2f}")
    return {"chunks_per_second": round(len(chunks) / seconds, 1)}


if __name__ == "__main__":
    run_stage("index", main)
