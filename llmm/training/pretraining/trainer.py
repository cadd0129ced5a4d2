"""The training loop: read a batch, take a step, look at the loss, save a checkpoint; killed anywhere, it goes on.

What happens at a step depends on the seed and the step's number alone (see `windows`), and a checkpoint holds weights
and optimizer states, so a resumed run ends in the same bits as one that was never interrupted (on a CPU; the order of
sums on a GPU is its own).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim import Optimizer

from llmm.device import pick_dtype, precision
from llmm.errors import UserError
from llmm.params import PretrainParams
from llmm.training.pretraining.bits_per_byte import score
from llmm.training.pretraining.checkpoint import Checkpoints
from llmm.training.pretraining.data import TokenShards
from llmm.training.pretraining.progress import Progress
from llmm.training.pretraining.recipe import (
    build_model,
    build_optimizers,
    compiler_found,
    next_token_loss,
    set_learning_rates,
)
from llmm.training.pretraining.windows import Windows
from llmm.transformers.gpt import GPT

LossOf = Callable[[GPT, Tensor], Tensor]  # (model, ids (B, T + 1)) → mean loss in nats

GLANCE = 32  # windows of the validation split that are looked at during training; the whole split is scored at the end


@dataclass
class TrainingRun:
    """A run: the model, and its loss curve with one row for every `eval_every` steps."""

    model: GPT
    curve: list[dict[str, float]] = field(default_factory=list)
    first_step: int = 0  # above 0 where the run went on from a checkpoint
    tokens_per_second: float = 0.0
    compiled: bool = False
    losses: list[float] = field(default_factory=list)  # of the steps since the last row of the curve


def train(
    recipe: PretrainParams,
    shards: TokenShards,
    bytes_of_token: np.ndarray,
    seed: int,
    device: torch.device,
    checkpoints: Checkpoints | None = None,
) -> TrainingRun:
    """Train a fresh model by `recipe` on the training split, or go on from the newest of `checkpoints`.

    Under torchrun every process takes its share of each step's windows and the gradients are averaged; rank 0 saves
    and speaks. Raises UserError where the text is too short for one window, or where the loss is no longer a number.
    """
    rank, world_size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    if recipe.batch_size * recipe.grad_accum_steps % world_size:
        raise UserError(f"pretrain.batch_size × grad_accum_steps is not a multiple of the {world_size} processes")
    per_step = recipe.batch_size * recipe.grad_accum_steps
    windows = Windows(shards.tokens("train"), recipe.seq_len, per_step, seed)
    model = build_model(recipe, shards.vocab_size, seed).to(device)
    dtype = pick_dtype(recipe.dtype, device)
    optimizers = build_optimizers(model, recipe, dtype)
    run = TrainingRun(model)
    if checkpoints is not None and (state := checkpoints.load()):
        _restore(state, run, optimizers)
    run.compiled = recipe.compile and compiler_found(device)
    loss_of: LossOf = torch.compile(next_token_loss) if run.compiled else next_token_loss
    bits_per_nat = len(shards.tokens("train")) / shards.bytes("train") / math.log(2)
    glance = _glance(shards, recipe.seq_len)

    with Progress("pretrain", recipe.steps, run.first_step, silent=rank > 0) as progress:
        if run.first_step:
            progress.say(f"going on from the checkpoint of step {run.first_step}")
        if recipe.compile and not run.compiled:
            progress.say("no C++ compiler found: training uncompiled, about a quarter slower")
        for step in range(run.first_step, recipe.steps):
            torch.manual_seed(seed * 1_000_003 + step)  # of dropout
            share = set_learning_rates(optimizers, recipe, step)
            ids_BT = windows.batch(step, rank, world_size).to(device)
            loss = _take_step(model, loss_of, optimizers, ids_BT, recipe, dtype)
            if not math.isfinite(loss):
                raise UserError(
                    f"the loss is {loss} at step {step}: lower pretrain.muon_lr = {recipe.muon_lr} or "
                    f"pretrain.adamw_lr = {recipe.adamw_lr}, or raise pretrain.warmup_steps = {recipe.warmup_steps}"
                )
            done = step + 1
            run.losses.append(loss)
            progress.update(done, per_step * recipe.seq_len, {"loss": loss, "bits/byte": loss * bits_per_nat})
            if done % recipe.eval_every == 0 or done == recipe.steps:
                model.eval()
                val = score(model, *glance, bytes_of_token, recipe.seq_len).bits_per_byte
                model.train()
                run.curve.append(
                    {
                        "step": done,
                        "tokens": done * per_step * recipe.seq_len,
                        "train_bits_per_byte": round(sum(run.losses) / len(run.losses) * bits_per_nat, 6),
                        "val_bits_per_byte": round(val, 6),
                        "learning_rate_share": round(share, 6),
                    }
                )
                run.losses = []
                progress.say(f"step {done}: {val:.3f} bits per byte on a part of the validation split")
            if checkpoints is not None and rank == 0 and done % recipe.checkpoint_every == 0 and done < recipe.steps:
                checkpoints.save(_state(run, optimizers, done))
        run.tokens_per_second = progress.tokens_per_second
    model.eval()
    return run


def _take_step(
    model: GPT,
    loss_of: LossOf,
    optimizers: list[Optimizer],
    ids_BT: Tensor,
    recipe: PretrainParams,
    dtype: torch.dtype,
) -> float:
    """One optimizer step on the windows of this process; returns the mean loss over all processes, in nats."""
    total = torch.zeros((), device=ids_BT.device)
    micro_batches = ids_BT.split(recipe.batch_size)
    for micro_BT in micro_batches:
        with precision(dtype, ids_BT.device):
            loss = loss_of(model, micro_BT) * (len(micro_BT) / len(ids_BT))
        loss.backward()
        total += loss.detach()
    if dist.is_initialized():
        _average([total, *(p.grad for p in model.parameters() if p.grad is not None)])
    torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.grad_clip, foreach=True)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return total.item()


def _average(tensors: list[Tensor]) -> None:
    """Replace each tensor by its mean over all processes, in one message."""
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(mean.view_as(tensor))


def _glance(shards: TokenShards, seq_len: int) -> tuple[np.ndarray, np.ndarray]:
    """The first windows of the validation split, as (tokens, document starts)."""
    tokens = np.asarray(shards.tokens("val")[: GLANCE * seq_len + 1])
    starts = shards.starts("val")
    return tokens, np.append(starts[starts < len(tokens)], len(tokens))


def _state(run: TrainingRun, optimizers: list[Optimizer], step: int) -> dict[str, Any]:
    return {
        "step": step,
        "model": run.model.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "curve": run.curve,
        "losses": run.losses,
    }


def _restore(state: dict[str, Any], run: TrainingRun, optimizers: list[Optimizer]) -> None:
    run.model.load_state_dict(state["model"], strict=True)
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    run.first_step, run.curve, run.losses = state["step"], state["curve"], state["losses"]
