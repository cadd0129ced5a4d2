"""Stage `lm_eval`: bits per byte of the pretrained model on held-out text, beside the baselines, and what it writes."""

import csv
from typing import Any

import torch

from llmm import lineage, paths
from llmm.device import pick_device
from llmm.figures import BASELINE_COLOUR, new_figure, save_figure
from llmm.files import read_json, write_json
from llmm.params import Params
from llmm.training.pretraining.bits_per_byte import Score, score, token_bytes
from llmm.training.pretraining.data import TokenShards
from llmm.training.pretraining.folder import PretrainedModel, load_model
from llmm.transformers.gpt.generate import generate
from llmm.transformers.gpt.sampling import Sampler
from pipelines.stage import run_stage

SAMPLE_TOKENS = 160
BATCH_TOKENS = 2048  # whose logits stay in a CPU's cache
END_OF_TEXT = 0
BASELINE_NAMES = {"ngram_5": "5-gram", "xz_after_training": "xz, training text read"}
SAMPLER = Sampler(temperature=1.0, top_p=0.9)  # repeats itself about as little as the text does: `nucleus` in M7


def main(params: Params) -> None:
    """Write `data/metrics/lm_eval.json` and the loss figure."""
    pretrained = load_model(paths.MODEL, pick_device())
    shards = TokenShards.open(paths.TOKENS)
    shards.artifact.require(lineage.open_artifact(paths.TOKENIZER, "tokenizer"))
    pretrained.artifact.require(lineage.open_artifact(paths.TOKENIZER, "tokenizer"))
    seq_len = params.pretrain.seq_len
    figures = {split: _figures(pretrained, shards, split, params) for split in ("val", "test")}
    sliding = _score(pretrained, shards, "test", seq_len, stride=seq_len // 2)
    figures["test"]["bits_per_byte_sliding_window"] = round(sliding.bits_per_byte, 4)
    baselines = read_json(paths.METRICS / "baselines.json")
    metrics = {
        **figures,
        "best_baseline": {split: min(baselines[split].values()) for split in ("val", "test")},
        "model": pretrained.artifact.short,
        "sample": _sample(pretrained, params),
    }
    write_json(paths.METRICS / "lm_eval.json", metrics)
    _draw(params, baselines["val"], figures["val"]["bits_per_byte"])
    test = figures["test"]
    print(f"lm_eval: weights {pretrained.artifact.short}, whole test split: {test['bits_per_byte']} bits per byte")
    print("beside it: " + ", ".join(f"{name} {value}" for name, value in baselines["test"].items()))


def _score(pretrained: PretrainedModel, shards: TokenShards, split: str, seq_len: int, stride: int) -> Score:
    tokens, starts = shards.tokens(split), shards.starts(split)
    batch_size = max(1, BATCH_TOKENS // seq_len)
    scored = score(pretrained.gpt, tokens, starts, token_bytes(pretrained.tokenizer), seq_len, stride, batch_size)
    # the denominator twice, by two roads: the bytes of the scored tokens are the bytes of the raw text
    if scored.bytes.sum() != shards.bytes(split):
        raise AssertionError(f"{split}: tokens spell {scored.bytes.sum()} bytes, the text has {shards.bytes(split)}")
    return scored


def _figures(pretrained: PretrainedModel, shards: TokenShards, split: str, params: Params) -> dict[str, Any]:
    scored = _score(pretrained, shards, split, params.pretrain.seq_len, stride=params.pretrain.seq_len)
    low, high = scored.interval(params.rag_eval.bootstrap_samples, params.seed)
    return {
        "bits_per_byte": round(scored.bits_per_byte, 4),
        "interval": [round(low, 4), round(high, 4)],
        "nats_per_token": round(scored.nats_per_token, 4),
        "documents": len(scored.nats),
        "bytes": shards.bytes(split),
    }


def _sample(pretrained: PretrainedModel, params: Params) -> dict[str, str]:
    """What the model writes after the first lines of a test document."""
    opening = pretrained.tokenizer.decode([int(token) for token in TokenShards.open(paths.TOKENS).tokens("test")[1:65]])
    # cut at the end of a line: half a word is spelt with tokens that training has never seen in that place
    prompt = opening[: opening.rfind("\n") + 1] or opening
    generator = torch.Generator(pretrained.gpt.model.embed_tokens.weight.device).manual_seed(params.seed)
    ids = [END_OF_TEXT, *pretrained.tokenizer.encode(prompt).ids]
    written = generate(pretrained.gpt, [ids], SAMPLE_TOKENS, [END_OF_TEXT], SAMPLER, generator)[0]
    return {"prompt": prompt, "text": pretrained.tokenizer.decode(written)}


def _draw(params: Params, baselines: dict[str, float], whole_split: float) -> None:
    """The loss curve against the tokens seen, with the baselines as lines: when did it pass them?"""
    with (paths.PLOTS / "pretrain.csv").open(newline="") as stream:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)]
    figure, axes = new_figure()
    millions = [row["tokens"] / 1e6 for row in rows]
    for key, label in (("train_bits_per_byte", "training"), ("val_bits_per_byte", "validation (a part)")):
        (line,) = axes.plot(millions, [row[key] for row in rows], marker="o", markersize=3)
        at, above = len(rows) // 2, key.startswith("val")
        place = {"xytext": (4, 6 if above else -14), "ha": "left" if above else "right"}
        axes.annotate(label, (millions[at], rows[at][key]), textcoords="offset points", color=line.get_color(), **place)
    for name, value in baselines.items():
        axes.axhline(value, color=BASELINE_COLOUR, linestyle="--", linewidth=1)
        label = f"{BASELINE_NAMES.get(name, name)} {value:.2f}"
        axes.annotate(label, (1.01, value), xycoords=("axes fraction", "data"), va="center", color=BASELINE_COLOUR)
    axes.plot(millions[-1], whole_split, marker="D", color="black")
    axes.annotate(f"whole split {whole_split:.3f}", (1.01, whole_split), xycoords=("axes fraction", "data"), va="top")
    axes.set(xlabel="million training tokens", ylabel="bits per byte")
    axes.set_title("When does the model predict better than compressors and n-grams?", loc="left", fontsize="medium")
    save_figure(figure, paths.FIGURES / "pretraining" / "loss.svg")


if __name__ == "__main__":
    run_stage("lm_eval", main)
