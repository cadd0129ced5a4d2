"""How fast a training step is, beside `transformers`' model of the same sizes and this machine's matrix products."""

import functools
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from llmm.device import pick_device, pick_dtype, precision
from llmm.params import PretrainParams, load_params
from llmm.training.pretraining.recipe import (
    build_model,
    build_optimizers,
    compiler_found,
    next_token_loss,
)
from llmm.training.pretraining.windows import Windows
from llmm.transformers.gpt.families import to_config_json

WARM_UP_STEPS = 3

Step = Callable[[Tensor], tuple[float, float]]  # ids (B, T + 1) → seconds of the model and of the optimizers


def bench_step(steps: int) -> dict[str, Any]:
    """Time `steps` training steps (forward, backward, optimizers) of each model on random tokens; medians.

    The models take turns, so that a machine that slows down slows them all. They share sizes, tokens and precision;
    ours has the pipeline's optimizers, `transformers` torch's AdamW, which is cheaper than Muon. So there are two
    ratios: of whole steps, each with its optimizer, and of the models alone, forward and backward. "gflops" counts
    6 N + 6 L D T for each token.
    """
    params = load_params()
    recipe, vocab_size = params.pretrain, params.tokenizer.vocab_size
    device = pick_device()
    generator = torch.Generator().manual_seed(params.seed)
    shape = (recipe.batch_size, recipe.seq_len + 1)
    batches = [torch.randint(vocab_size, shape, generator=generator).to(device) for _ in range(steps + WARM_UP_STEPS)]

    ours = build_model(recipe, vocab_size, params.seed).to(device)
    flops = ours.config.flops_per_token(recipe.seq_len) * recipe.batch_size * recipe.seq_len
    dtype = pick_dtype(recipe.dtype, device)
    peaks = {name: matmul_peak(getattr(torch, name), device) for name in ("float32", "bfloat16")}
    steppers: dict[str, Step] = {}
    for name in ("ours", "ours, uncompiled", "transformers", "transformers, compiled"):
        if name in ("ours", "transformers, compiled") and not (recipe.compile and compiler_found(device)):
            continue
        if name.startswith("transformers"):
            theirs = _theirs(to_config_json(ours.config)).to(device)
            loss_of = torch.compile(theirs.loss) if name.endswith("compiled") else theirs.loss
            optimizers: list[Optimizer] = [torch.optim.AdamW(theirs.parameters(), lr=1e-4)]
        else:
            gpt = build_model(recipe, vocab_size, params.seed).to(device)
            loss_of = functools.partial(torch.compile(next_token_loss) if name == "ours" else next_token_loss, gpt)
            optimizers = build_optimizers(gpt, recipe, dtype)
        steppers[name] = functools.partial(_timed_step, loss_of, optimizers, dtype)

    timed: dict[str, list[tuple[float, float]]] = {name: [] for name in steppers}
    for ids_BT in batches:
        for name, step in steppers.items():
            timed[name].append(step(ids_BT))

    rows: dict[str, dict[str, float]] = {}
    for name, taken in timed.items():
        columns = zip(*taken[WARM_UP_STEPS:], strict=True)
        model_seconds, optimizer_seconds = (statistics.median(column) for column in columns)
        seconds = model_seconds + optimizer_seconds
        rows[name] = {
            "step_seconds": round(seconds, 4),
            "model_seconds": round(model_seconds, 4),
            "optimizer_share": round(optimizer_seconds / seconds, 3),
            "tokens_per_second": round(recipe.batch_size * recipe.seq_len / seconds),
            "gflops": round(flops / seconds / 1e9, 1),
            "share_of_float32_peak": round(flops / seconds / 1e9 / peaks["float32"], 3),
        }
    best = rows.get("ours", rows["ours, uncompiled"])
    peers = {name: row for name, row in rows.items() if name.startswith("transformers")}
    return {
        "device": device.type,
        "threads": torch.get_num_threads(),
        "parameters": sum(p.numel() for p in ours.parameters()),
        "tokens_per_step": recipe.batch_size * recipe.seq_len,
        "data_loading_share": round(_loading_seconds(recipe, params.seed) / best["step_seconds"], 5),
        "dtype": str(dtype).removeprefix("torch."),
        "matmul_peak_gflops": {name: round(peak, 1) for name, peak in peaks.items()},
        "systems": rows,
        "ratio_to": {
            name: {key: round(row[f"{key}_seconds"] / best[f"{key}_seconds"], 3) for key in ("step", "model")}
            for name, row in peers.items()
        },
    }


def _timed_step(
    loss_of: Callable[[Tensor], Tensor], optimizers: list[Optimizer], dtype: torch.dtype, ids_BT: Tensor
) -> tuple[float, float]:
    """Seconds of the model, forward and backward, and of its optimizers."""
    device = ids_BT.device
    started = time.perf_counter()
    with precision(dtype, device):
        loss = loss_of(ids_BT)
    loss.backward()
    _wait(device)
    middle = time.perf_counter()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    _wait(device)
    return middle - started, time.perf_counter() - middle


def _loading_seconds(recipe: PretrainParams, seed: int, steps: int = 50) -> float:
    """Seconds in which the batch of a step is read from a memory map, the median of `steps`."""
    with tempfile.TemporaryFile() as file:
        np.zeros(4_000_000, np.uint16).tofile(file)
        windows = Windows(np.memmap(file, np.uint16, mode="r"), recipe.seq_len, recipe.batch_size, seed)
        seconds = []
        for step in range(steps):
            started = time.perf_counter()
            windows.batch(step)
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def matmul_peak(dtype: torch.dtype, device: torch.device, size: int = 2048, seconds: float = 1.0) -> float:
    """GFLOP/s of a plain product of two square matrices, measured here and now."""
    a = torch.ones(size, size, dtype=dtype, device=device)
    product: Callable[[], Tensor] = lambda: a @ a  # noqa: E731
    product()
    _wait(device)
    started, products = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        product()
        _wait(device)
        products += 1
    return 2 * size**3 * products / (time.perf_counter() - started) / 1e9


def render(result: dict[str, Any]) -> None:
    """Print the result as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("training step", "tok/s", "GFLOP/s", "of float32 peak", "optimizer"):
        table.add_column(column, justify="left" if column == "training step" else "right")
    for name, row in result["systems"].items():
        speed, share = f"{row['tokens_per_second']:,.0f}", f"{row['share_of_float32_peak']:.0%}"
        table.add_row(name, speed, f"{row['gflops']:.0f}", share, f"{row['optimizer_share']:.0%}")
    console = Console()
    console.print(table)
    console.print(
        f"{result['parameters']:,} parameters, {result['tokens_per_step']} tokens a step, {result['device']}, "
        f"{result['dtype']}, {result['threads']} threads; reading a batch takes {result['data_loading_share']:.2%} of "
        "a step; peak of matrix products, GFLOP/s: "
        + ", ".join(f"{name} {peak:.0f}" for name, peak in result["matmul_peak_gflops"].items())
        + "".join(
            f"; ours takes whole steps {ratio['step']:.2f} times as fast as {name} with torch's AdamW, "
            f"and forward and backward alone {ratio['model']:.2f} times as fast"
            for name, ratio in result["ratio_to"].items()
        )
    )


def _theirs(config: dict[str, Any]) -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    class Peer(nn.Module):
        """Their model with the loss that ours has."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = Qwen3ForCausalLM(Qwen3Config(**config)).float()

        def loss(self, ids_BT: Tensor) -> Tensor:
            logits_BTV = self.inner(ids_BT[:, :-1], use_cache=False).logits
            return F.cross_entropy(logits_BTV.float().flatten(0, 1), ids_BT[:, 1:].flatten())

    return Peer()


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
