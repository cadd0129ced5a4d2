"""What pretraining reaches in a given time on this machine: a whole process from its start to its score.

The run takes as many steps as the time allows (see `length`); imports, compilation and scoring are inside the time. The
whole validation split is scored, without dropout, in windows of the training length that lie side by side.
"""

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from llmm.errors import UserError
from llmm.params import PretrainParams

SHAKESPEARE = Path("../shared/data/tinyshakespeare/input.txt")
ENDING = 2.0  # seconds to leave the process, and torch's compilers with it
WORTH_COMPILING = 80.0  # seconds of a run from which on blocks that compile in 20 to 30 s have made up for it
SCORING = 0.4  # of the time that a token takes in training: a forward pass, uncompiled


def bench_pretrain(preset: str, seconds: float, seeds: int, text: Path | None, part: float = 1.0) -> dict[str, Any]:
    """Train by the recipe of `preset` for `seconds` of wall time, `seeds` times, one process after the other.

    With `text` the tokens are its characters (the preset "shakespeare" reads tinyshakespeare where it lies beside the
    project), else the shards of the pipeline. Raises UserError where there is neither.
    """
    if text is None and preset == "shakespeare":
        text = SHAKESPEARE
        if not text.exists():
            raise UserError(
                "the preset shakespeare needs the text: --text FILE, a copy of tinyshakespeare "
                "(github.com/karpathy/char-rnn, data/tinyshakespeare/input.txt)"
            )
    runs = []
    for seed in range(seeds):
        task = {"preset": preset, "seconds": seconds, "seed": seed, "text": text and str(text), "part": part}
        print(f"seed {seed}: {seconds:.0f} s", file=sys.stderr, flush=True)
        started = time.perf_counter()
        command = [sys.executable, "-m", __name__, json.dumps(task)]
        with tempfile.TemporaryDirectory() as scratch:  # where torch keeps what it compiles: nothing is there before
            elsewhere = {key: value for key, value in os.environ.items() if key != "TORCHINDUCTOR_CACHE_DIR"}
            child = subprocess.run(command, stdout=subprocess.PIPE, text=True, env={**elsewhere, "TMPDIR": scratch})
            wall = time.perf_counter() - started
        if child.returncode:
            raise UserError(f"the run of seed {seed} failed; its message stands above")
        runs.append({"seed": seed, "wall_seconds": round(wall, 1), **json.loads(child.stdout.splitlines()[-1])})
    unit = "nats_per_character" if text else "bits_per_byte"
    values = [run[unit] for run in runs]
    return {
        "preset": preset,
        "text": text.name if text else "the pipeline's token shards",
        "unit": unit,
        "seconds": seconds,
        "runs": runs,
        "mean": round(statistics.fmean(values), 4),
        "deviation": round(statistics.stdev(values), 4) if seeds > 1 else None,
        "baselines": _baselines(text, part),
    }


def render(result: dict[str, Any]) -> None:
    """Print the result as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("seed", result["unit"].replace("_", " "), "training", "wall time", "steps", "tokens", "tok/s"):
        table.add_column(column, justify="right")
    for run in result["runs"]:
        figures = (f"{run[result['unit']]:.4f}", f"{run['training']:.3f}", f"{run['wall_seconds']:.0f} s")
        table.add_row(
            str(run["seed"]), *figures, *(f"{run[key]:,}" for key in ("steps", "tokens", "tokens_per_second"))
        )
    console = Console()
    console.print(table)
    spread = f" ± {result['deviation']:.4f} over seeds" if result["deviation"] is not None else ""
    console.print(f"{result['text']}, whole validation split: {result['mean']:.4f}{spread}", highlight=False)
    beside = ", ".join(f"{name} {value:.3f}" for name, value in result["baselines"].items())
    console.print(f"beside it: {beside}" if beside else "")


def run_once(task: dict[str, Any]) -> dict[str, Any]:
    """One run in this process; `task` as `bench_pretrain` writes it. Returns its figures."""
    started = time.perf_counter() - _seconds_since_start()
    from llmm.allocator import keep_freed_memory
    from llmm.device import compiling_nothing_new, pick_device
    from llmm.paths import TOKENIZER, TOKENS
    from llmm.training.pretraining.bits_per_byte import score, token_bytes
    from llmm.training.pretraining.characters import character_shards
    from llmm.training.pretraining.data import TokenShards
    from llmm.training.pretraining.length import Until
    from llmm.training.pretraining.trainer import train
    from llmm.training.tokenizer.folder import load_tokenizer

    keep_freed_memory()  # as the stage does
    recipe, device = recipe_of(task["preset"], task["seconds"]), pick_device()
    with tempfile.TemporaryDirectory() as scratch:
        if task["text"]:
            shards, bytes_of_token = character_shards(Path(task["text"]), Path(scratch), task["part"])
        else:
            shards, bytes_of_token = TokenShards.open(TOKENS), token_bytes(load_tokenizer(TOKENIZER))
        tokens, starts = shards.tokens("val"), shards.starts("val")

        per_step = recipe.batch_size * recipe.grad_accum_steps * recipe.seq_len
        length = Until(started + task["seconds"] - ENDING, after=SCORING * len(tokens) / per_step)
        run = train(recipe, shards, bytes_of_token, task["seed"], device, length=length)
        steps = int(run.curve[-1]["step"]) if run.curve else 0
        if steps <= recipe.warmup_steps:
            raise UserError(f"{task['seconds']:.0f} s leave {steps} steps, the warm-up takes {recipe.warmup_steps}")
        with compiling_nothing_new():
            scored = score(run.model, tokens, starts, bytes_of_token, recipe.seq_len)
        bytes_per_token = shards.bytes("train") / len(shards.tokens("train"))
    training = run.curve[-1]["train_bits_per_byte"]
    in_nats = training * math.log(2) * bytes_per_token
    figures = (
        {"nats_per_character": round(scored.nats_per_token, 4), "training": round(in_nats, 4)}
        if task["text"]
        else {"bits_per_byte": round(scored.bits_per_byte, 4), "training": round(training, 4)}
    )
    return {
        **figures,
        "steps": steps,
        "tokens": steps * per_step,
        "tokens_per_second": round(run.tokens_per_second),
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "compiled": run.compiled,
    }


def recipe_of(preset: str, seconds: float) -> PretrainParams:
    """The recipe of `preset`. Where it leaves compiling to the run (auto), one too short for that goes without.

    Uncompiled, bfloat16 gains nothing: casts take what products save.
    """
    from llmm.presets import params_of

    recipe = params_of(preset).pretrain
    if recipe.compile == "auto" and seconds < WORTH_COMPILING:
        return recipe.model_copy(update={"compile": False, "dtype": "float32"})
    return recipe


def _seconds_since_start() -> float:
    """Since this process began: what the imports took."""
    import psutil

    return time.time() - psutil.Process().create_time()


def _baselines(text: Path | None, part: float) -> dict[str, float]:
    """The n-gram that a model has to beat, in the unit of the result."""
    from llmm.files import read_json
    from llmm.paths import METRICS

    if text is None:
        known = METRICS / "baselines.json"
        return (
            {name.replace("_", "-"): value for name, value in read_json(known)["val"].items()} if known.exists() else {}
        )
    from llmm.training.pretraining.characters import character_shards
    from llmm.training.tokenizer.ngram import witten_bell_nats

    with tempfile.TemporaryDirectory() as scratch:
        shards, _ = character_shards(text, Path(scratch), part)
        nats = witten_bell_nats(shards.tokens("train"), shards.tokens("val")[1:], shards.vocab_size)
    return {"Witten-Bell 5-gram": round(float(nats.mean()), 4)}


if __name__ == "__main__":
    try:
        print(json.dumps(run_once(json.loads(sys.argv[1]))))
    except UserError as error:
        print(f"llmm: {error}", file=sys.stderr)
        sys.exit(1)
