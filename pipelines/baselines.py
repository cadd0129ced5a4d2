"""Stage `baselines`: how well compressors and an n-gram predict the held-out text that the GPT is scored on."""

from llmm import lineage
from llmm.corpus import load_documents
from llmm.files import write_json
from llmm.params import Params
from llmm.paths import CORPUS, METRICS, TOKENS
from llmm.training.pretraining.baselines import (
    compression_bits_per_byte,
    ngram_bits_per_byte,
    xz_after_training_bits_per_byte,
)
from llmm.training.pretraining.data import TokenShards
from pipelines.stage import run_stage


def main(params: Params) -> None:
    """Write `data/metrics/baselines.json`: bits per byte on the validation and test splits."""
    shards = TokenShards.open(TOKENS)
    shards.artifact.require(lineage.open_artifact(CORPUS, "corpus"))
    text = {split: _text(split) for split in ("train", "val", "test")}
    figures = {
        split: {
            **compression_bits_per_byte(text[split]),
            "xz_after_training": xz_after_training_bits_per_byte(text["train"], text[split]),
            "ngram_5": ngram_bits_per_byte(
                shards.tokens("train"), shards.tokens(split), shards.bytes(split), shards.vocab_size
            ),
        }
        for split in ("val", "test")
    }
    rounded = {split: {name: round(value, 4) for name, value in row.items()} for split, row in figures.items()}
    write_json(METRICS / "baselines.json", rounded)
    print("bits per byte on the test split: " + ", ".join(f"{name} {value}" for name, value in rounded["test"].items()))


def _text(split: str) -> bytes:
    return b"".join(document.text.encode() for document in load_documents(CORPUS, split))


if __name__ == "__main__":
    run_stage("baselines", main)
