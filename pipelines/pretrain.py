"""Stage `pretrain`: trains the GPT on the token shards; killed anywhere, the same command goes on.

With LLMM_PROCESSES=N it runs as N processes under torchrun, each on a GPU of its own where there are GPUs.
"""

import csv
import io
import os
import subprocess
import sys
from typing import Any

import torch
import torch.distributed as dist

from llmm import lineage, paths
from llmm.device import pick_device, pick_dtype
from llmm.errors import UserError
from llmm.files import atomic_folder, write_json, write_text
from llmm.params import Params
from llmm.training.pretraining.bits_per_byte import token_bytes
from llmm.training.pretraining.checkpoint import Checkpoints
from llmm.training.pretraining.data import TokenShards
from llmm.training.pretraining.folder import write_model
from llmm.training.pretraining.recipe import architecture
from llmm.training.pretraining.trainer import TrainingRun, train
from llmm.training.tokenizer.folder import load_text_tokenizer, load_tokenizer
from llmm.transformers.gpt.families import family
from pipelines.stage import follow_dvc_into_death, run_stage

CODE = ("llmm/transformers", "llmm/foundations/optimizers", "llmm/training/pretraining")


def main(params: Params) -> dict[str, Any]:
    """Write `data/model`, `data/metrics/pretrain.json` and `data/plots/pretrain.csv`; returns the throughput."""
    device = pick_device()
    if dist.is_initialized() and device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    shards = TokenShards.open(paths.TOKENS)
    tokenizer = lineage.open_artifact(paths.TOKENIZER, "tokenizer")
    shards.artifact.require(tokenizer)
    recipe = params.pretrain.model_copy(update={"dtype": _agreed_dtype(params.pretrain.dtype, device)})
    identity = {
        "recipe": recipe.model_dump(),
        "seed": params.seed,
        "tokens": shards.artifact.sha256,
        "code": lineage.code_sha256(*CODE),
        "torch": torch.__version__,
        "device": device.type,
    }
    checkpoints = Checkpoints("pretrain", identity)
    family(architecture(recipe, shards.vocab_size))  # refuses what could not be written, before the work
    text_of = load_text_tokenizer(paths.TOKENIZER).decode
    bytes_of_token = token_bytes(load_tokenizer(paths.TOKENIZER))
    run = train(recipe, shards, bytes_of_token, params.seed, device, checkpoints, text_of)
    if dist.is_initialized() and dist.get_rank() > 0:
        return {}
    _write(run, params, shards, tokenizer)
    checkpoints.remove()
    gflops = run.model.config.flops_per_token(recipe.seq_len) * run.tokens_per_second / 1e9
    return {
        "tokens_per_second": round(run.tokens_per_second),
        "gflops": round(gflops, 1),
        "compiled": run.compiled,
        "micro_batch": run.micro_batch,
        "device": device.type,
        "dtype": recipe.dtype,
        "went_on_from_step": run.first_step,
    }


def _agreed_dtype(name: str, device: torch.device) -> str:
    """What rank 0 makes of `name`: "auto" is a measurement, which must not come out differently in another process."""
    chosen = [str(pick_dtype(name, device)).removeprefix("torch.")]
    if dist.is_initialized():
        dist.broadcast_object_list(chosen)
    return chosen[0]


def _write(run: TrainingRun, params: Params, shards: TokenShards, tokenizer: lineage.Artifact) -> None:
    corpus_sha = tokenizer.made_from["corpus"]
    corpus = lineage.Artifact(paths.CORPUS, "corpus", corpus_sha, {})
    with atomic_folder(paths.MODEL) as folder:
        write_model(run.model, paths.TOKENIZER, folder)
        model = lineage.seal(folder, "model", [tokenizer, corpus], paths.MODEL)
    tokens = run.curve[-1]["tokens"]
    parameters = sum(p.numel() for p in run.model.parameters())
    write_json(
        paths.METRICS / "pretrain.json",
        {
            "parameters": parameters,
            "tokens_seen": int(tokens),
            "epochs": round(tokens / len(shards.tokens("train")), 3),
            "train_flops": f"{run.model.config.flops_per_token(params.pretrain.seq_len) * tokens:.3g}",
            "last_train_bits_per_byte": run.curve[-1]["train_bits_per_byte"],
            "loss_spikes": run.spikes,
            "model": model.short,
        },
    )
    table = io.StringIO()
    writer = csv.DictWriter(table, list(run.curve[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(run.curve)
    write_text(paths.PLOTS / "pretrain.csv", table.getvalue())
    print(f"pretrain: {parameters:,} parameters, {tokens:,} tokens: {paths.MODEL} ({model.short})")


def launch(processes: int) -> None:
    """Run this stage as `processes` processes of torchrun and leave with its exit code."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    follow_dvc_into_death()
    sys.exit(subprocess.call([*command, "-m", "pipelines.pretrain"]))


def in_process_group(params: Params) -> dict[str, Any] | None:
    """`main` as one process of a torchrun."""
    dist.init_process_group("nccl" if pick_device().type == "cuda" else "gloo")
    try:
        return main(params)
    finally:
        dist.destroy_process_group()


def _refuse(processes: str) -> None:
    raise UserError(f"LLMM_PROCESSES = {processes!r}: expected a whole number of at least 1")


if __name__ == "__main__":
    processes = os.environ.get("LLMM_PROCESSES", "1")
    if "RANK" in os.environ:
        rank = int(os.environ["RANK"])
        run_stage("pretrain" if rank == 0 else f"pretrain.{rank}", in_process_group)
    elif not processes.isdigit() or int(processes) < 1:
        run_stage("pretrain", lambda _: _refuse(processes))
    elif int(processes) > 1:
        launch(int(processes))
    else:
        run_stage("pretrain", main)
