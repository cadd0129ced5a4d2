"""Stage `tokenize`: the corpus as token shards."""

import time
from collections.abc import Iterator
from typing import Any

from llmm import lineage
from llmm.corpus import SPLITS, load_documents
from llmm.files import atomic_folder, write_json
from llmm.params import Params
from llmm.paths import CORPUS, METRICS, TOKENIZER, TOKENS
from llmm.training.pretraining.data import ShardWriter
from llmm.training.tokenizer.folder import load_text_tokenizer
from pipelines.stage import run_stage

BATCH = 64  # documents encoded at once, in parallel


def main(params: Params) -> dict[str, Any]:
    """Write `data/tokens` and `data/metrics/tokenize.json`; returns the throughput."""
    corpus = lineage.open_artifact(CORPUS, "corpus")
    tokenizer = lineage.open_artifact(TOKENIZER, "tokenizer")
    tokenizer.require(corpus)
    encoder = load_text_tokenizer(TOKENIZER)

    def encoded(split: str) -> Iterator[tuple[list[int], int]]:
        texts = [document.text for document in load_documents(CORPUS, split)]
        for start in range(0, len(texts), BATCH):
            batch = texts[start : start + BATCH]
            for text, encoding in zip(batch, encoder.encode_batch_fast(batch), strict=True):
                yield encoding.ids, len(text.encode())

    started = time.perf_counter()
    with atomic_folder(TOKENS) as temporary:
        writer = ShardWriter(temporary, encoder.get_vocab_size(), tokenizer.sha256)
        facts = {split: writer.write(split, encoded(split)) for split in SPLITS}
        writer.finish()
        lineage.seal(temporary, "tokens", [corpus, tokenizer], TOKENS)
    seconds = time.perf_counter() - started
    write_json(METRICS / "tokenize.json", facts)
    for split, fact in facts.items():
        print(f"{split}: {fact['tokens']:,} tokens of {fact['bytes']:,} bytes")
    return {"mb_per_second": round(sum(fact["bytes"] for fact in facts.values()) / seconds / 1e6, 2)}


if __name__ == "__main__":
    run_stage("tokenize", main)
