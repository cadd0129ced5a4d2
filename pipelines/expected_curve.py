"""Keeps the training curve of the last run as the expected one: `python -m pipelines.expected_curve` after `dvc repro`.

Later runs of the same model on the same text say whether their loss is normal beside it.
"""

import csv
import sys

from llmm import paths
from llmm.errors import UserError
from llmm.files import read_json, write_json
from llmm.params import load_params
from llmm.training.pretraining.verdict import CURVES


def main() -> None:
    """Replace the curve in `llmm/training/pretraining/expected_curves.json` by that of `data/plots/pretrain.csv`."""
    params = load_params()
    with (paths.PLOTS / "pretrain.csv").open(newline="") as stream:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)]
    prepared = read_json(paths.METRICS / "prepare.json")
    curve = {
        "text": prepared["source"],
        "train_bytes": prepared["bytes"]["train"],
        "vocab_size": params.tokenizer.vocab_size,
        "recipe": params.pretrain.model_dump(),
        "step": [int(row["step"]) for row in rows],
        "loss": [row["train_bits_per_byte"] for row in rows],
        "error": [row["train_error"] for row in rows],
    }
    write_json(CURVES, [curve])
    print(f"{CURVES.name}: {len(rows)} points, the last {curve['loss'][-1]:.3f} bits per byte")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"expected curve: {error}", file=sys.stderr)
        sys.exit(1)
