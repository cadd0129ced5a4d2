"""The fine-tuning loop: LoRA by peft on the pretrained GPT, with a loss on what the model itself writes.

Muon moves the two matrices of every LoRA, AdamW the tokens' embeddings. The product B A learns from the
gradient of either factor through the other; orthogonal steps move all its directions, where AdamW's follow the few
strong ones.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from llmm.device import compile_blocks, compiled, compiling_nothing_new, pick_device, pick_dtype, precision
from llmm.errors import UserError
from llmm.foundations.optimizers import AdamW, Muon
from llmm.foundations.optimizers.schedules import set_learning_rates, warmup_stable_decay
from llmm.params import FinetuneParams
from llmm.training.lora.adapter import attach_lora
from llmm.training.lora.dataset import Example
from llmm.training.lora.last_block import compile_last_block, hidden_at, shorten_last_block
from llmm.training.lora.packing import PackedBatch, batches_in_order, packed_batches
from llmm.training.pretraining.checkpoint import Checkpoints
from llmm.training.pretraining.progress import Progress
from llmm.training.pretraining.recipe import ORTHOGONALISATION, compiler_found
from llmm.transformers.gpt import GPT

PAD = 1  # id of <|pad|>
_CURVE_ROWS = 20


@dataclass
class FinetuneRun:
    """The peft model, and a curve with a row for every twentieth of the steps, its losses in the run's dtype."""

    model: Any
    curve: list[dict[str, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)  # since the last row
    first_step: int = 0  # above 0 where the run went on from a checkpoint
    tokens: int = 0
    tokens_per_second: float = 0.0


def finetune(
    gpt: GPT,
    recipe: FinetuneParams,
    train: Sequence[Example],
    val: Sequence[Example],
    seed: int,
    checkpoints: Checkpoints | None = None,
) -> FinetuneRun:
    """Tune a LoRA on `gpt`, or go on from the newest of `checkpoints`; `val` is looked at a few times on the way.

    `gpt` moves to the device of `pick_device`. Raises UserError where the loss is no longer a number.
    """
    device = pick_device()
    gpt.to(device)
    run = FinetuneRun(attach_lora(gpt, recipe.rank, recipe.alpha, recipe.dropout, seed, recipe.trained_tokens))
    trained = {name: p for name, p in run.model.named_parameters() if p.requires_grad}
    shorten_last_block(gpt)
    if recipe.compile and compiler_found(device):
        _compile_parts(gpt, device)
    dtype = pick_dtype(recipe.dtype, device)
    optimizers = _optimizers(trained, recipe, dtype)
    if checkpoints is not None and (state := checkpoints.load()):
        for name, value in state["trained"].items():
            trained[name].data.copy_(value)
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        run.first_step, run.curve, run.losses, run.tokens = (state[k] for k in ("step", "curve", "losses", "tokens"))
    glance = val[:: max(1, len(val) // 100)]
    batches = packed_batches(train, recipe.batch_size, recipe.seq_len, PAD, seed)
    stream = islice(batches, run.first_step, recipe.steps)
    run.model.train()
    with Progress("finetune", recipe.steps, run.first_step) as progress:
        if run.first_step:
            progress.say(f"going on from the checkpoint of step {run.first_step}")
        for done, batch in enumerate(stream, run.first_step + 1):
            torch.manual_seed(seed * 1_000_003 + done)  # of dropout
            share = warmup_stable_decay(done - 1, recipe.steps, recipe.warmup_steps, 1.0)  # the fall begins at once
            set_learning_rates(optimizers, (recipe.muon_lr, recipe.adamw_lr), share)
            loss = _step(run.model, batch, optimizers, dtype)
            if not math.isfinite(loss):
                raise UserError(
                    f"the loss is {loss} at step {done}: lower finetune.muon_lr = {recipe.muon_lr} or "
                    f"finetune.adamw_lr = {recipe.adamw_lr}"
                )
            run.losses.append(loss)
            run.tokens += batch.tokens
            progress.update(done, batch.tokens, {"loss": loss})
            if done * _CURVE_ROWS // recipe.steps != (done - 1) * _CURVE_ROWS // recipe.steps:
                row = {"step": done, "tokens": run.tokens, "train_loss": sum(run.losses) / len(run.losses)}
                row["val_loss"] = mean_loss(run.model, glance, recipe.batch_size, recipe.seq_len, dtype)
                run.curve.append({key: round(value, 6) for key, value in row.items()})
                run.losses = []
            if checkpoints is not None and done % recipe.checkpoint_every == 0 and done < recipe.steps:
                weights = {name: p.detach() for name, p in trained.items()}
                states = [optimizer.state_dict() for optimizer in optimizers]
                state = {"trained": weights, "optimizers": states, "step": done}
                checkpoints.save({**state, "curve": run.curve, "losses": run.losses, "tokens": run.tokens})
        run.tokens_per_second = progress.tokens_per_second
    run.model.eval()
    return run


def mean_loss(
    model: Any, examples: Sequence[Example], batch_size: int, seq_len: int, dtype: torch.dtype = torch.float32
) -> float:
    """Nats per token that the model writes, over all `examples`, in windows of `seq_len`; every token counts alike."""
    was_training = model.training
    model.eval()
    total, count = 0.0, 0
    with torch.inference_mode(), compiling_nothing_new():
        for batch in batches_in_order(examples, batch_size, seq_len, PAD):
            alike = replace(batch, weights=(batch.weights > 0).float())
            targets = int(alike.weights.sum())
            total += _loss(model, alike, dtype).item() * targets
            count += targets
    model.train(was_training)
    return total / max(1, count)


def _compile_parts(gpt: GPT, device: torch.device) -> None:
    """Compile block and loss, in place: the whole model as one graph takes longer to compile and is no faster."""
    *others, last = gpt.model.layers
    compile_blocks(others)
    compile_last_block(last, device)
    gpt.loss = compiled(gpt.loss, device, dynamic=True)  # type: ignore[method-assign]


def _optimizers(trained: dict[str, torch.nn.Parameter], recipe: FinetuneParams, dtype: torch.dtype) -> list[Optimizer]:
    matrices = [p for name, p in trained.items() if ".lora_" in name]
    tokens = [p for name, p in trained.items() if ".lora_" not in name]
    return [
        Muon(matrices, recipe.muon_lr, recipe.muon_momentum, **ORTHOGONALISATION, dtype=dtype),
        AdamW(tokens, recipe.adamw_lr),
    ]


def _step(model: Any, batch: PackedBatch, optimizers: list[Optimizer], dtype: torch.dtype) -> float:
    loss = _loss(model, batch, dtype)
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.grad is not None], 1.0, foreach=True)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return loss.item()


def _loss(model: Any, batch: PackedBatch, dtype: torch.dtype = torch.float32) -> Tensor:
    """Cross-entropy at the counted positions; the last feed-forward and the LM head are computed for those alone."""
    gpt = model.get_base_model()
    device = gpt.lm_head.weight.device
    batch = batch.to(device)
    with precision(dtype, device):
        hidden_ND = hidden_at(gpt, batch.ids_BT, batch.documents_BT, batch.positions)
        return gpt.loss(hidden_ND, batch.targets, batch.weights)
