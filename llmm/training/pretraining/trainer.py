"""The training loop: read a batch, take a step, look at the loss, save a checkpoint; killed anywhere, it goes on.

What happens at a step depends on the seed and the step's number alone (see `windows`), and a checkpoint holds weights
and optimizer states, so a resumed run ends in the same bits as one that was never interrupted (on a CPU; the order of
sums on a GPU is its own).
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim import Optimizer

from llmm.device import pick_dtype, precision
from llmm.errors import UserError
from llmm.foundations.optimizers.schedules import set_learning_rates
from llmm.params import PretrainParams
from llmm.training.pretraining.accumulation import MicroBatch
from llmm.training.pretraining.checkpoint import Checkpoints
from llmm.training.pretraining.data import TokenShards
from llmm.training.pretraining.observer import Decode, Observer
from llmm.training.pretraining.progress import Progress
from llmm.training.pretraining.recipe import (
    build_model,
    build_optimizers,
    compiler_found,
    learning_rate_share,
    next_token_loss,
)
from llmm.training.pretraining.windows import Windows
from llmm.transformers.gpt import GPT


@dataclass
class TrainingRun:
    """A finished run: the model, and its loss curve with one row for every `eval_every` steps."""

    model: GPT
    curve: list[dict[str, float]] = field(default_factory=list)
    spikes: int = 0
    first_step: int = 0  # above 0 where the run went on from a checkpoint
    tokens_per_second: float = 0.0
    compiled: bool = False
    micro_batch: int = 0  # windows; below the recipe's where memory was short


def train(
    recipe: PretrainParams,
    shards: TokenShards,
    bytes_of_token: np.ndarray,
    seed: int,
    device: torch.device,
    checkpoints: Checkpoints | None = None,
    decode: Decode | None = None,
) -> TrainingRun:
    """Train a fresh model by `recipe` on the training split, or go on from the newest of `checkpoints`.

    Under torchrun every process takes its share of each step's windows and the gradients are averaged; rank 0 saves
    and speaks. With `decode` (ids → text) it shows what the model writes on the way. Raises UserError where the text is
    too short for one window, or where loss or gradient are no longer numbers: before the step that they would spoil, so
    that weights and the newest checkpoint are still good.
    """
    rank, world_size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    per_step = recipe.batch_size * recipe.grad_accum_steps
    if per_step % world_size:
        raise UserError(f"pretrain.batch_size × grad_accum_steps is not a multiple of the {world_size} processes")
    windows = Windows(shards.tokens("train"), recipe.seq_len, per_step, seed)
    model = build_model(recipe, shards.vocab_size, seed).to(device)
    dtype = pick_dtype(recipe.dtype, device)
    optimizers = build_optimizers(model, recipe, dtype)
    peaks = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    state = checkpoints.load() if checkpoints is not None else None
    first_step = state["step"] if state else 0
    compiled = recipe.compile and compiler_found(device)
    model_loss = torch.compile(next_token_loss) if compiled else next_token_loss

    def loss_of(ids_BT: Tensor) -> Tensor:
        with precision(dtype, device):
            return model_loss(model, ids_BT)

    def clear() -> None:
        model.zero_grad(set_to_none=True)

    with Progress("pretrain", recipe.steps, first_step, silent=rank > 0) as progress:
        observer = Observer(model, recipe, shards, bytes_of_token, progress, decode)
        micro_batch = MicroBatch(recipe.batch_size, progress.say)
        if state:
            _restore(state, model, optimizers, observer)
            progress.say(f"going on from the checkpoint of step {first_step}")
        if recipe.compile and not compiled:
            progress.say("no C++ compiler found: training uncompiled, about a tenth slower")
        for step in range(first_step, recipe.steps):
            torch.manual_seed(seed * 1_000_003 + step)  # of dropout
            share = learning_rate_share(recipe, step)
            set_learning_rates(optimizers, peaks, share)
            loss = micro_batch.accumulate(loss_of, windows.batch(step, rank, world_size).to(device), clear)
            if world_size > 1:
                _average([loss, *(p.grad for p in model.parameters() if p.grad is not None)])
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.grad_clip, foreach=True)
            _refuse_no_number(loss.item(), norm.item(), step, recipe, checkpoints)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            done = step + 1
            observer.after_step(done, loss.item(), share)
            if checkpoints is not None and rank == 0 and done % recipe.checkpoint_every == 0 and done < recipe.steps:
                checkpoints.save(_state(done, model, optimizers, observer))
    model.eval()
    return TrainingRun(
        model, observer.curve, observer.spikes, first_step, progress.tokens_per_second, compiled, micro_batch.rows
    )


def _refuse_no_number(
    loss: float, gradient_norm: float, step: int, recipe: PretrainParams, checkpoints: Checkpoints | None
) -> None:
    if math.isfinite(loss) and math.isfinite(gradient_norm):
        return
    what = f"loss is {loss}" if not math.isfinite(loss) else f"norm of the gradient is {gradient_norm}"
    kept = f"; the last checkpoint is kept: {checkpoints.file}" if checkpoints and checkpoints.file.exists() else ""
    rates = f"pretrain.muon_lr = {recipe.muon_lr} or " if recipe.optimizer == "muon" else ""
    raise UserError(
        f"the {what} at step {step}: lower {rates}pretrain.adamw_lr = {recipe.adamw_lr}, "
        f"or raise pretrain.warmup_steps = {recipe.warmup_steps}{kept}"
    )


def _average(tensors: list[Tensor]) -> None:
    """Replace each tensor by its mean over all processes, in one message."""
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(mean.view_as(tensor))


def _state(step: int, model: GPT, optimizers: list[Optimizer], observer: Observer) -> dict[str, Any]:
    states = [optimizer.state_dict() for optimizer in optimizers]
    return {"step": step, "model": model.state_dict(), "optimizers": states, "observer": observer.state()}


def _restore(state: dict[str, Any], model: GPT, optimizers: list[Optimizer], observer: Observer) -> None:
    model.load_state_dict(state["model"], strict=True)
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    observer.restore(state["observer"])
