"""Stage `tokenizer`: trains the byte-level BPE on the training split."""

import time
from typing import Any

from llmm import lineage
from llmm.corpus import SPLITS, load_documents
from llmm.files import atomic_folder, write_json
from llmm.params import Params
from llmm.paths import CORPUS, METRICS, TOKENIZER
from llmm.training.tokenizer.bpe import train_codec
from llmm.training.tokenizer.export import to_tokenizers
from llmm.training.tokenizer.folder import load_text_tokenizer, write_tokenizer
from pipelines.stage import run_stage


def main(params: Params) -> dict[str, Any]:
    """Write `data/tokenizer` and `data/metrics/tokenizer.json`; returns the training's throughput."""
    corpus = lineage.open_artifact(CORPUS, "corpus")
    texts = {split: [document.text for document in load_documents(CORPUS, split)] for split in SPLITS}
    sizes = {split: sum(len(text.encode()) for text in texts[split]) for split in SPLITS}
    print(f"training {params.tokenizer.vocab_size} tokens on {sizes['train']:,} bytes")
    started = time.perf_counter()
    codec = train_codec(texts["train"], params.tokenizer.vocab_size)
    seconds = time.perf_counter() - started
    with atomic_folder(TOKENIZER) as temporary:
        write_tokenizer(to_tokenizers(codec), temporary)
        lineage.seal(temporary, "tokenizer", [corpus], TOKENIZER)
    encoder = load_text_tokenizer(TOKENIZER)  # `tokenizers` encodes batches on all cores, so it does from here on
    encoded = {split: encoder.encode_batch_fast(texts[split]) for split in SPLITS}
    for text, encoding in zip(texts["val"], encoded["val"], strict=True):
        if codec.encode(text) != encoding.ids:
            raise RuntimeError(f"`tokenizers` gives other ids than the merges do: {text[:60]!r}...")
    tokens = {split: sum(map(len, encoded[split])) for split in SPLITS}
    bytes_per_token = {split: round(sizes[split] / tokens[split], 4) for split in SPLITS}
    write_json(
        METRICS / "tokenizer.json",
        {"vocab_size": len(codec.tokens), "bytes_per_token": bytes_per_token},
    )
    print(f"bytes per token: {', '.join(f'{split} {value:.2f}' for split, value in bytes_per_token.items())}")
    return {"training_mb_per_second": round(sizes["train"] / seconds / 1e6, 2)}


if __name__ == "__main__":
    run_stage("tokenizer", main)
