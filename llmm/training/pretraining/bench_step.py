"""How fast a training step is, beside the same sizes in other hands and this machine's matrix products."""

import functools
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

from llmm.allocator import keep_freed_memory
from llmm.device import compiled, pick_device, pick_dtype, precision
from llmm.errors import UserError
from llmm.params import PretrainParams
from llmm.peaks import data_sheet_peak, matmul_peak, wait_for
from llmm.presets import params_of
from llmm.training.pretraining.accumulation import MicroBatch, accumulate
from llmm.training.pretraining.compute import model_flops_utilisation
from llmm.training.pretraining.recipe import (
    architecture,
    build_model,
    build_optimizers,
    compiler_found,
    next_token_loss,
)
from llmm.training.pretraining.step_parts import step_parts
from llmm.training.pretraining.step_peers import TorchModel, TransformersModel
from llmm.training.pretraining.windows import Windows

WARM_UP_STEPS = 3

Step = Callable[[Tensor], tuple[float, float]]  # ids (B, T + 1) → seconds of the model and of the optimizers
PEERS: dict[str, type[TransformersModel] | type[TorchModel]] = {
    "transformers": TransformersModel,
    "plain torch": TorchModel,
}

# what `transformers`' Qwen3 and plain torch's layers stand beside; the second has the same work in other parts
OF_PEERS: dict[str, object] = {
    "positions": "rope",
    "norm": "rms",
    "qk_norm": True,
    "feed_forward": "swiglu",
    "bias": False,
    "tie_embeddings": True,
    "dropout": 0.0,
}


def bench_step(steps: int, preset: str = "default") -> dict[str, Any]:
    """Time `steps` training steps (forward, backward, optimizers) of each model on random tokens; medians.

    The models take turns, so that a machine that slows down slows them all. They share sizes, tokens and precision, and
    the micro-batch too, except that one whose memory is short halves its own ("micro_batch" of its row, in windows).
    Ours has the pipeline's optimizers, the peers torch's fused AdamW, which is cheaper than Muon. So
    there are two ratios: of whole steps, each with its optimizer, and of the models alone, forward and backward.
    "parts_of_ours" are shares of a whole step, on a CPU, and how fast its products run, as a share of the peak.
    "gflops" counts 6 N + 6 L D T for each token; "mfu" is its share of the peak of the step's precision, by the data
    sheet where that is known, else as measured. Raises UserError where the recipe is of another family than the peers.
    """
    keep_freed_memory()  # as every stage does
    params = params_of(preset)
    recipe, vocab_size = params.pretrain, params.tokenizer.vocab_size
    device = pick_device()
    dtype = pick_dtype(recipe.dtype, device)
    config = architecture(recipe, vocab_size)
    for key, expected in {**OF_PEERS, "n_kv_head": config.n_head}.items():
        if (found := getattr(config, key)) != expected:
            raise UserError(
                f"pretrain.{key} = {found}: the peers of a step are made for {expected}; choose a recipe with that"
            )
    shape = (recipe.batch_size * recipe.grad_accum_steps, recipe.seq_len + 1)
    tokens = recipe.seq_len * shape[0]
    peaks = {name: matmul_peak(getattr(torch, name), device) for name in ("float32", "bfloat16")}
    peak = data_sheet_peak(device) if dtype == torch.bfloat16 else None

    compilable = recipe.compile and compiler_found(device)
    steppers: dict[str, Step] = {}
    micro_batches: dict[str, MicroBatch] = {}
    for name in ("ours", *PEERS):
        for compile_it in (True, False) if compilable else (False,):
            if name == "plain torch" and compilable and not compile_it:
                continue  # the better half of that peer is enough
            loss_of, optimizers = _system(name, recipe, vocab_size, dtype, device)
            # a micro-batch that is halved is compiled anew, for its own size: as fast as one that began so
            loss_of = compiled(loss_of, device, dynamic=False) if compile_it else loss_of
            loss_of = _precise(loss_of, dtype, device)
            title = f"{name}, {'compiled' if compile_it else 'eager'}"
            micro_batches[title] = MicroBatch(recipe.batch_size)
            steppers[title] = functools.partial(_timed_step, loss_of, optimizers, micro_batches[title])
            if name == "ours" and compile_it == compilable:
                ours_of, ours_at_once = loss_of, micro_batches[title]

    generator = torch.Generator().manual_seed(params.seed)
    timed: dict[str, list[tuple[float, float]]] = {name: [] for name in steppers}
    for _ in range(steps + WARM_UP_STEPS):
        ids_BT = torch.randint(vocab_size, shape, generator=generator).to(device)
        for name, timed_step in steppers.items():
            timed[name].append(timed_step(ids_BT))

    rows: dict[str, dict[str, float]] = {}
    flops_per_token = config.flops_per_token(recipe.seq_len)
    for name, taken in timed.items():
        columns = zip(*taken[WARM_UP_STEPS:], strict=True)
        model_seconds, optimizer_seconds = (statistics.median(column) for column in columns)
        seconds = model_seconds + optimizer_seconds
        speed = tokens / seconds
        peak_of_step = peak or peaks[_name(dtype)] * 1e9
        rows[name] = {
            "micro_batch": micro_batches[name].rows,
            "step_seconds": round(seconds, 4),
            "model_seconds": round(model_seconds, 4),
            "optimizer_share": round(optimizer_seconds / seconds, 3),
            "tokens_per_second": round(speed),
            "gflops": round(flops_per_token * speed / 1e9, 1),
            "share_of_float32_peak": round(flops_per_token * speed / 1e9 / peaks["float32"], 3),
            "mfu": round(model_flops_utilisation(flops_per_token, speed, peak_of_step), 3),
        }
    ours = rows["ours, compiled" if compilable else "ours, eager"]
    parts = {}
    if device.type == "cpu":
        parts = step_parts(lambda: accumulate(ours_of, ids_BT, ours_at_once.rows), steps)
        in_products = 6 * config.n_matmul_params * tokens / parts["products"] / 1e9
        whole = sum(parts.values()) / (1 - ours["optimizer_share"])
        parts = {part: round(seconds / whole, 3) for part, seconds in parts.items()}
        parts |= {"optimizer": ours["optimizer_share"], "products_of_peak": round(in_products / peaks[_name(dtype)], 3)}
    return {
        "preset": preset,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "parameters": sum(p.numel() for p in build_model(recipe, vocab_size, params.seed).parameters()),
        "tokens_per_step": tokens,
        "data_loading_share": round(_loading_seconds(recipe, params.seed) / ours["step_seconds"], 5),
        "dtype": _name(dtype),
        "matmul_peak_gflops": {name: round(value, 1) for name, value in peaks.items()},
        "data_sheet_peak_gflops": peak and round(peak / 1e9),
        "systems": rows,
        "parts_of_ours": parts,
        "ratio_to": {
            name: {key: round(row[f"{key}_seconds"] / ours[f"{key}_seconds"], 3) for key in ("step", "model")}
            for name, row in rows.items()
            if name.startswith(tuple(PEERS))
        },
    }


def _system(
    name: str, recipe: PretrainParams, vocab_size: int, dtype: torch.dtype, device: torch.device
) -> tuple[Callable[[Tensor], Tensor], list[Optimizer]]:
    """The loss of a fresh model, and what moves it."""
    if name == "ours":
        gpt = build_model(recipe, vocab_size, seed=0).to(device)
        return lambda ids_BT: next_token_loss(gpt, ids_BT), build_optimizers(gpt, recipe, dtype)
    peer = PEERS[name](architecture(recipe, vocab_size), recipe.seq_len).to(device)
    return peer.loss, [AdamW(peer.parameters(), lr=1e-4, fused=True)]


def _precise(
    loss_of: Callable[[Tensor], Tensor], dtype: torch.dtype, device: torch.device
) -> Callable[[Tensor], Tensor]:
    """The loss with its products in `dtype`."""

    def precise(ids_bT: Tensor) -> Tensor:
        with precision(dtype, device):
            return loss_of(ids_bT)

    return precise


def _timed_step(
    loss_of: Callable[[Tensor], Tensor],
    optimizers: list[Optimizer],
    micro_batch: MicroBatch,
    ids_BT: Tensor,
) -> tuple[float, float]:
    """Seconds of the model, forward and backward, and of its optimizers."""
    device = ids_BT.device
    wait_for(device)
    started = time.perf_counter()
    micro_batch.accumulate(loss_of, ids_BT, lambda: _forget_gradients(optimizers))
    wait_for(device)
    middle = time.perf_counter()
    for optimizer in optimizers:
        optimizer.step()
    _forget_gradients(optimizers)
    wait_for(device)
    return middle - started, time.perf_counter() - middle


def _forget_gradients(optimizers: list[Optimizer]) -> None:
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _loading_seconds(recipe: PretrainParams, seed: int, steps: int = 50) -> float:
    """Seconds in which the batch of a step is read from a memory map, the median of `steps`."""
    with tempfile.TemporaryFile() as file:
        np.zeros(4_000_000, np.uint16).tofile(file)
        per_step = recipe.batch_size * recipe.grad_accum_steps
        windows = Windows(np.memmap(file, np.uint16, mode="r"), recipe.seq_len, per_step, seed)
        seconds = []
        for step in range(steps):
            started = time.perf_counter()
            windows.batch(step)
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def render(result: dict[str, Any]) -> None:
    """Print the result as a table."""
    from rich.console import Console
    from rich.table import Table

    sheet = result["data_sheet_peak_gflops"]
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in (
        "training step",
        "at once",
        "tok/s",
        "GFLOP/s",
        "of float32 peak",
        "MFU",
        "optimizer",
        "theirs / ours",
    ):
        table.add_column(column, justify="left" if column == "training step" else "right")
    for name, row in result["systems"].items():
        shares = (f"{row[key]:.0%}" for key in ("share_of_float32_peak", "mfu", "optimizer_share"))
        ratio = result["ratio_to"].get(name)
        beside = f"{ratio['step']:.2f} ({ratio['model']:.2f})" if ratio else ""
        speeds = (f"{row[key]:,.0f}" for key in ("micro_batch", "tokens_per_second", "gflops"))
        table.add_row(name, *speeds, *shares, beside)
    console = Console()
    console.print(table)
    console.print(
        "theirs / ours: seconds of a whole step, each with its optimizer (and of forward and backward alone). "
        f"{result['parameters']:,} parameters, {result['tokens_per_step']:,} tokens a step in as many windows at "
        f"once as the column says, {result['device']}, {result['dtype']}, {result['threads']} threads; reading "
        f"a step's tokens takes {result['data_loading_share']:.2%} of it. Peak of matrix products, GFLOP/s: "
        + ", ".join(f"{name} {peak:,.1f}" for name, peak in result["matmul_peak_gflops"].items())
        + (f"; by the data sheet, which MFU is a share of, {sheet:,}" if sheet else ""),
        highlight=False,
    )
    if parts := result["parts_of_ours"]:
        console.print(
            f"Ours: {parts['products']:.0%} matrix products of the model (at {parts['products_of_peak']:.0%} of the "
            f"peak), {parts['attention']:.0%} attention, {parts['rest']:.0%} between them, {parts['optimizer']:.0%} "
            "optimizers.",
            highlight=False,
        )
