"""The recipe ladder: from GPT-2's recipe to ours, one change a rung, every rung a DVC experiment.

`python -m pipelines.recipe_ladder` queues the stage `rung` for every rung and seed (`dvc exp run --queue -S …`), lets
two workers of one thread run the queue, and writes `data/experiments/recipe_ladder.json`. The experiments stay in
DVC: `dvc exp show`. A rung that has its experiment at this commit is not
run again.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from llmm import paths
from llmm.errors import UserError
from llmm.figures import BASELINE_COLOUR, OURS, new_figure, save_figure
from llmm.files import write_json

STAGE = "llmm/training/pretraining/dvc.yaml:rung"
METRICS = "data/metrics/rung.json"
OUT = paths.DATA / "experiments" / "recipe_ladder.json"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "DVC_NO_ANALYTICS": "1"}  # two workers, two cores
FIGURE = paths.FIGURES / "recipe" / "ladder.svg"
SEEDS = (0, 1, 2)
SIZES = "presets/rung.yaml:"  # the parameters that belong to a rung's sizes stand there


@dataclass(frozen=True)
class Rung:
    """One change of the recipe. `kept` changes hold for every rung above; the others are tried on top of the ladder."""

    name: str
    what: str
    changes: dict[str, str]
    kept: bool = True


GPT2 = {
    "pretrain.positions": "learned", "pretrain.norm": "layer", "pretrain.qk_norm": "false", "pretrain.bias": "true",
    "pretrain.feed_forward": "gelu_tanh", SIZES + "pretrain.d_ff": "512", "pretrain.zero_init": "false",
    "pretrain.induction_start": "false",
    "pretrain.optimizer": "adamw", "pretrain.adamw_lr": "0.003", "pretrain.schedule": "cosine",
    SIZES + "pretrain.batch_size": "16", SIZES + "pretrain.steps": "60", SIZES + "pretrain.warmup_steps": "6",
}  # fmt: skip

LADDER = (
    Rung("gpt2", "GPT-2's architecture and recipe, AdamW 0.003", GPT2),
    Rung("lr-up", "the same, AdamW 0.006", {"pretrain.adamw_lr": "0.006"}, kept=False),
    Rung("lr-down", "the same, AdamW 0.0015", {"pretrain.adamw_lr": "0.0015"}, kept=False),
    Rung("batch", "half the batch, twice the steps", {
        SIZES + "pretrain.batch_size": "8", SIZES + "pretrain.steps": "120", SIZES + "pretrain.warmup_steps": "12",
    }),
    Rung("rope", "RoPE for learned positions", {"pretrain.positions": "rope"}),
    Rung("rms", "RMSNorm for LayerNorm, no biases", {"pretrain.norm": "rms", "pretrain.bias": "false"}),
    Rung("swiglu", "SwiGLU for GELU, at as many parameters", {
        "pretrain.feed_forward": "swiglu", SIZES + "pretrain.d_ff": "352",
    }),
    Rung("qk-norm", "queries and keys normalised", {"pretrain.qk_norm": "true"}),
    Rung("zero-init", "blocks begin as the identity", {"pretrain.zero_init": "true"}),
    Rung("wsd", "linear cooldown to zero for the cosine", {"pretrain.schedule": "wsd"}),
    Rung("muon", "Muon 0.02 for the matrices, AdamW 0.01 for the rest", {
        "pretrain.optimizer": "muon", "pretrain.muon_lr": "0.02", "pretrain.adamw_lr": "0.01",
        "pretrain.muon_momentum_end": "0.95", "pretrain.muon_neuron_beta": "0",
    }),
    Rung("cooldown", "a cooldown of 85% of the steps", {"pretrain.cooldown_fraction": "0.85"}, False),
    Rung("untied", "an LM head of its own", {"pretrain.tie_embeddings": "false"}, False),
    Rung("smaller-batch", "a quarter of GPT-2's batch", {
        SIZES + "pretrain.batch_size": "4", SIZES + "pretrain.steps": "240", SIZES + "pretrain.warmup_steps": "24",
    }, False),
    Rung("muon-lr", "Muon 0.014", {"pretrain.muon_lr": "0.014"}, False),
    Rung("momentum", "momentum falls from 0.95 to 0.85", {"pretrain.muon_momentum_end": "0.85"}),
    Rung("induction", "begins with an induction circuit", {"pretrain.induction_start": "true"}),
    Rung("neurons", "NorMuon for Muon, AdamW 0.008: the pipeline's recipe", {
        "pretrain.muon_neuron_beta": "0.95", "pretrain.adamw_lr": "0.008",
    }),
)  # fmt: skip


def changes_of(position: int) -> dict[str, str]:
    """Everything that differs from params.yaml and the preset at the rung of this position."""
    changes: dict[str, str] = {}
    for rung in LADDER[:position]:
        changes |= rung.changes if rung.kept else {}
    return changes | LADDER[position].changes


def main() -> None:
    """Queue what has not been run, run the queue, write the table."""
    wanted = {
        f"rung-{rung.name}-{seed}": {**changes_of(position), "seed": str(seed)}
        for position, rung in enumerate(LADDER)
        for seed in SEEDS
    }
    there = _experiments()
    missing = [name for name in wanted if name not in there]
    _dvc("queue", "remove", "--success", "--failed")  # ended tasks of the same names
    for name in missing:
        settings = [argument for key, value in wanted[name].items() for argument in ("-S", f"{key}={value}")]
        _dvc("exp", "run", "--queue", "-n", name, *settings, STAGE)
    if missing:
        print(f"recipe ladder: {len(missing)} of {len(wanted)} rungs to run, two at a time")
        # the workers live on and hold its output, so nobody may wait for that to end
        subprocess.run(["dvc", "queue", "start", "-j", "2"], check=True, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
        _wait(set(missing))
    _write(_experiments())


def _write(results: dict[str, dict[str, float]]) -> None:
    rows = []
    for position, rung in enumerate(LADDER):
        runs = [results[f"rung-{rung.name}-{seed}"] for seed in SEEDS]
        rows.append(
            {
                "rung": rung.name,
                "changed": rung.what,
                "kept": rung.kept,
                "settings": changes_of(position),
                "tokens": runs[0]["tokens"],
                "parameters": runs[0]["parameters"],
                "val_nats_per_token": [run["val_nats_per_token"] for run in runs],
                "val_bits_per_byte": [run["val_bits_per_byte"] for run in runs],
            }
        )
    write_json(OUT, rows)
    draw(rows)
    print(f"recipe ladder: {OUT}")


def draw(rows: list[dict[str, Any]]) -> None:
    """What every change won over the last kept rung, one dot a seed: which change of the recipe pays?"""
    figure, axes = new_figure(height=5.0)
    before = rows[0]  # the recipe that all begins with: nothing won over itself
    for position, row in enumerate(rows):
        place, colour = len(rows) - position, OURS if row["kept"] else BASELINE_COLOUR
        pairs = zip(before["val_nats_per_token"], row["val_nats_per_token"], strict=True)
        won = [old - new for old, new in pairs]  # at one seed, which is one split of the corpus
        axes.plot(won, [place] * len(won), "o", color=colour, markersize=4, alpha=0.7)
        axes.plot([fmean(won)] * 2, [place - 0.3, place + 0.3], color=colour)
        before = row if row["kept"] else before
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(rows), 0, -1), [row["changed"] for row in rows])
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_color("black" if row["kept"] else BASELINE_COLOUR)
    axes.set(xlabel="nats a token won over the last kept rung")
    title = "Which change of the recipe pays, at equal tokens? Blue: kept for the rungs below; grey: not kept"
    figure.suptitle(title, x=0.01, ha="left", fontsize="medium")
    save_figure(figure, FIGURE)


def _experiments() -> dict[str, dict[str, float]]:
    """Metrics of every rung's experiment of the commit at hand, by its name: of another commit it is another code."""
    head = _git("rev-parse", "HEAD").strip()
    mine = f"refs/exps/{head[:2]}/{head[2:]}/"  # where DVC keeps the experiments of a commit
    refs = _git("for-each-ref", "--format=%(refname)", mine).split()
    rungs = {ref.removeprefix(mine): ref for ref in refs if ref.removeprefix(mine).startswith("rung-")}
    return {name: json.loads(_git("show", f"{ref}:{METRICS}")) for name, ref in rungs.items()}


def _wait(names: set[str]) -> None:
    """Follow the queue until every one of `names` has its experiment. Raises UserError where one has failed."""
    done: set[str] = set()
    while names - done:
        time.sleep(5)
        for name in sorted((names - done) & set(_experiments())):
            done.add(name)
            print(f"recipe ladder: {len(done)}/{len(names)}  {name}", flush=True)
        if failed := sorted(name for name in names - done if _queue().get(name) == "Failed"):
            raise UserError(f"the experiment {failed[0]} failed: dvc queue logs {failed[0]}")


def _queue() -> dict[str, str]:
    """State of every task of DVC's queue, by name."""
    rows = [line.split() for line in _dvc("queue", "status").splitlines()[1:]]
    return {row[1]: row[-1] for row in rows if len(row) >= 4}


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout


def _dvc(*arguments: str) -> str:
    done = subprocess.run(["dvc", *arguments], capture_output=True, text=True, env=ENVIRONMENT, check=False)
    if done.returncode:
        raise UserError(f"dvc {' '.join(arguments[:3])}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"recipe ladder: {error}", file=sys.stderr)
        sys.exit(1)
