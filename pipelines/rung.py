"""Stage `rung`: one short training by the recipe in params.yaml at the sizes of the preset `rung`; no model is kept.

It is what the recipe ladder (`pipelines.recipe_ladder`) runs as DVC experiments: architectures that no family of
`transformers` has a name for can be compared, too.
"""

from typing import Any

from llmm import lineage, paths
from llmm.device import pick_device
from llmm.files import write_json
from llmm.params import Params
from llmm.presets import params_of
from llmm.training.pretraining.bits_per_byte import score, token_bytes
from llmm.training.pretraining.data import TokenShards
from llmm.training.pretraining.trainer import train
from llmm.training.tokenizer.folder import load_tokenizer
from pipelines.stage import run_stage

METRICS = paths.METRICS / "rung.json"


def main(params: Params) -> dict[str, Any]:
    """Write `data/metrics/rung.json`; returns the throughput."""
    recipe = params_of("rung").pretrain
    shards = TokenShards.open(paths.TOKENS)
    shards.artifact.require(lineage.open_artifact(paths.TOKENIZER, "tokenizer"))
    bytes_of_token = token_bytes(load_tokenizer(paths.TOKENIZER))
    run = train(recipe, shards, bytes_of_token, params.seed, pick_device())
    scored = score(run.model, shards.tokens("val"), shards.starts("val"), bytes_of_token, recipe.seq_len)
    write_json(
        METRICS,
        {
            "val_nats_per_token": round(scored.nats_per_token, 5),
            "val_bits_per_byte": round(scored.bits_per_byte, 5),
            "train_bits_per_byte": run.curve[-1]["train_bits_per_byte"],
            "tokens": int(run.curve[-1]["tokens"]),
            "parameters": sum(p.numel() for p in run.model.parameters()),
            "loss_spikes": run.spikes,
        },
    )
    return {"tokens_per_second": round(run.tokens_per_second)}


if __name__ == "__main__":
    run_stage("rung", main)
