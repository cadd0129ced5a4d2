"""The training loop: read a batch, take a step, look at the loss, save a checkpoint; killed anywhere, it goes on.

What happens at a step depends on the seed and the step's number alone (see `windows`), and a checkpoint holds weights
and optimizer states, so a resumed run ends in the same bits as one that was never interrupted (on a CPU; the order of
sums on a GPU is its own).
"""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from llmm.device import compile_blocks, compiled, leave_uncompiled, pick_dtype, precision
from llmm.errors import UserError
from llmm.params import PretrainParams
from llmm.training.pretraining.accumulation import MicroBatch
from llmm.training.pretraining.checkpoint import Checkpoints
from llmm.training.pretraining.data import TokenShards
from llmm.training.pretraining.distributed import processes
from llmm.training.pretraining.length import Length, Steps
from llmm.training.pretraining.observer import Decode, Observer
from llmm.training.pretraining.progress import Progress
from llmm.training.pretraining.recipe import (
    build_model,
    build_optimizers,
    compiler_found,
    learning_rate_share,
    next_token_loss,
    set_pace,
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
    length: Length | None = None,
) -> TrainingRun:
    """Train a fresh model by `recipe` on the training split, or go on from the newest of `checkpoints`.

    Under torchrun every process takes its share of each step's windows and the gradients are averaged; rank 0 saves
    and speaks. With `decode` (ids → text) it shows what the model writes on the way. `length` may set another number of
    steps than the recipe, and change its mind on the way. Raises UserError where the text is too short for one window,
    or where loss or gradient are no longer numbers: before the step that they would spoil, so that weights and the
    newest checkpoint are still good.
    """
    length = length or Steps(recipe.steps)
    group = processes(recipe.parallel)
    per_step = recipe.batch_size * recipe.grad_accum_steps
    if per_step % group.world_size:
        raise UserError(f"pretrain.batch_size × grad_accum_steps is not a multiple of the {group.world_size} processes")
    windows = Windows(shards.tokens("train"), recipe.seq_len, per_step, seed)
    model = group.shard(build_model(recipe, shards.vocab_size, seed).to(device))
    dtype = pick_dtype(recipe.dtype, device)
    optimizers = group.adapt(build_optimizers(model, recipe, dtype))
    peaks = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    saver = group.saver(checkpoints) if checkpoints is not None else None
    wanted = dtype != torch.float32 if recipe.compile == "auto" else recipe.compile
    compilable = wanted and compiler_found(device)
    model_loss = next_token_loss
    if compilable and recipe.compile == "auto":
        compile_blocks(model.model.layers)
    elif compilable:
        model_loss = compiled(next_token_loss, device)
        if device.type == "cpu":  # compiled, its threads add what equal tokens get in any order: other bits each time
            leave_uncompiled(model.model.embed_tokens)

    def loss_of(ids_BT: Tensor) -> Tensor:
        with precision(dtype, device):
            return model_loss(model, ids_BT)

    def clear() -> None:
        model.zero_grad(set_to_none=True)

    found = saver.load(model, optimizers) if saver is not None else None
    first_step = found[0] if found else 0
    with Progress("pretrain", recipe.steps, first_step, silent=group.rank > 0) as progress:
        observer = Observer(lambda: group.whole(model), recipe, shards, bytes_of_token, progress, decode)
        micro_batch = MicroBatch(recipe.batch_size, progress.say, fixed=group.in_step)
        if found:
            observer.restore(found[1])
            progress.say(f"going on from the checkpoint of step {first_step}")
        if wanted and not compilable:
            progress.say("no C++ compiler found: training uncompiled, about a tenth slower")
        step = first_step
        while step < (steps := length.steps(step)):
            torch.manual_seed((seed * 1_000_003 + step) * group.world_size + group.rank)  # of dropout
            share = learning_rate_share(recipe, step, steps)
            set_pace(optimizers, peaks, recipe, share)
            ids_BT = windows.batch(step, group.rank, group.world_size).to(device)
            loss = group.average(micro_batch.accumulate(loss_of, ids_BT, clear), model).item()
            norm = group.clip(model, recipe.grad_clip).item()
            _refuse_no_number(loss, norm, step, recipe, checkpoints)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            step += 1
            observer.after_step(step, loss, share)
            if saver is not None and step % recipe.checkpoint_every == 0 and step < steps:
                saver.save(step, model, optimizers, observer.state())
        observer.finish(step)
    return TrainingRun(
        model=group.whole(model).eval(),
        curve=observer.curve,
        spikes=observer.spikes,
        first_step=first_step,
        tokens_per_second=progress.tokens_per_second,
        compiled=compilable,
        micro_batch=micro_batch.rows,
    )


def _refuse_no_number(
    loss: float, gradient_norm: float, step: int, recipe: PretrainParams, checkpoints: Checkpoints | None
) -> None:
    if math.isfinite(loss) and math.isfinite(gradient_norm):
        return
    what = f"loss is {loss}" if not math.isfinite(loss) else f"norm of the gradient is {gradient_norm}"
    kept = f"; the last checkpoint is kept: {checkpoints.folder}" if checkpoints and checkpoints.folder.exists() else ""
    rates = f"pretrain.muon_lr = {recipe.muon_lr} or " if recipe.optimizer == "muon" else ""
    raise UserError(
        f"the {what} at step {step}: lower {rates}pretrain.adamw_lr = {recipe.adamw_lr}, "
        f"or raise pretrain.warmup_steps = {recipe.warmup_steps}{kept}"
    )
