"""The recipe: which model, which optimizer moves which parameter, at which learning rate."""

import math
import os
import shutil
from collections.abc import Sequence
from typing import Any

import torch
from torch.optim import Optimizer

from llmm.foundations.optimizers import AdamW, Muon
from llmm.foundations.optimizers.schedules import cosine, set_learning_rates, warmup_stable_decay
from llmm.params import PretrainParams
from llmm.training.pretraining.induction_start import begin_with_induction
from llmm.transformers.gpt import GPT, GPTConfig

# Two steps from the tighter norm lift what three do from the Frobenius norm, in two thirds of the time: M3, (27.1)
ORTHOGONALISATION: dict[str, Any] = {"newton_schulz_steps": 2, "norm": "schatten4"}
BETAS = (0.9, 0.95)  # of AdamW
COSINE_FLOOR = 0.1  # share of the peak at the end of the cosine: Hoffmann et al. 2022 (2203.15556), appendix B


def architecture(recipe: PretrainParams, vocab_size: int) -> GPTConfig:
    """The model that the recipe describes."""
    return GPTConfig(
        vocab_size=vocab_size,
        n_layer=recipe.n_layer,
        n_head=recipe.n_head,
        n_kv_head=recipe.n_kv_head,
        d_model=recipe.d_model,
        d_ff=recipe.d_ff,
        context_len=recipe.context_len,
        rope_theta=recipe.rope_theta,
        tie_embeddings=recipe.tie_embeddings,
        dropout=recipe.dropout,
        positions=recipe.positions,
        norm=recipe.norm,
        qk_norm=recipe.qk_norm,
        feed_forward=recipe.feed_forward,
        bias=recipe.bias,
    )


def build_model(recipe: PretrainParams, vocab_size: int, seed: int) -> GPT:
    """A GPT of the recipe's sizes with fresh weights; the same seed gives the same weights."""
    model = GPT(architecture(recipe, vocab_size))
    generator = torch.Generator().manual_seed(seed)
    model.init_weights(generator)
    if not recipe.zero_init:
        _init_as_gpt2(model, generator)
    if recipe.induction_start:
        begin_with_induction(model, generator)
    if recipe.residual_dtype != "float32":
        model.model.residual_dtype = getattr(torch, recipe.residual_dtype)
    return model


@torch.no_grad()
def _init_as_gpt2(model: GPT, generator: torch.Generator) -> None:
    """Every matrix N(0, 0.02²), those that write to the residual stream divided by √(2 L): one for each of its writers.

    Source: Radford et al. 2019 (GPT-2), section 2.3.
    """
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            writes = name.endswith(("o_proj.weight", "down_proj.weight"))
            deviation = 0.02 / math.sqrt(2 * model.config.n_layer) if writes else 0.02
            parameter.normal_(0, deviation, generator=generator)


def build_optimizers(model: GPT, recipe: PretrainParams, dtype: torch.dtype = torch.float32) -> list[Optimizer]:
    """(Nor)Muon, with products in `dtype`, for the matrices of the blocks; AdamW for embeddings and gains, undecayed.

    `optimizer: adamw` is AdamW for everything, with the weight decay on every matrix.
    """
    if recipe.optimizer == "adamw":
        decayed = [p for p in model.parameters() if p.ndim == 2]
        undecayed = [p for p in model.parameters() if p.ndim < 2]
        groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": undecayed}]
        return [AdamW(groups, recipe.adamw_lr, BETAS, fused=True)]
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    chosen = set(map(id, matrices))
    others = [p for p in model.parameters() if id(p) not in chosen]
    options = {**ORTHOGONALISATION, "dtype": dtype, "neuron_beta": recipe.muon_neuron_beta}
    return [
        Muon(matrices, recipe.muon_lr, recipe.muon_momentum, recipe.weight_decay, **options),
        AdamW(others, lr=recipe.adamw_lr, betas=BETAS, fused=True),
    ]


def learning_rate_share(recipe: PretrainParams, step: int, steps: int) -> float:
    """The share of the peak learning rates at a step of `steps`, in [0, 1]: warm-up, then what `schedule` says."""
    if recipe.schedule == "cosine":
        return cosine(step, steps, recipe.warmup_steps, COSINE_FLOOR)
    return warmup_stable_decay(step, steps, recipe.warmup_steps, recipe.cooldown_fraction)


def set_pace(optimizers: Sequence[Optimizer], peaks: Sequence[float], recipe: PretrainParams, share: float) -> None:
    """Give every optimizer `share` of its peak learning rate, and Muon the momentum that goes with it.

    That falling helps is measured, not derived: "How much should Muon remember?" in experiments_log.md.
    """
    set_learning_rates(optimizers, peaks, share)
    for optimizer in optimizers:
        if isinstance(optimizer, Muon):
            for group in optimizer.param_groups:
                group["momentum"] = (1 - share) * recipe.muon_momentum_end + share * recipe.muon_momentum


def next_token_loss(model: GPT, ids_BT: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy, in nats, of each token after the first given those before it."""
    return model.loss(model.hidden(ids_BT[:, :-1]).flatten(0, 1), ids_BT[:, 1:].flatten())


def compiler_found(device: torch.device) -> bool:
    """Whether torch.compile can work here: on a CPU it needs a C++ compiler."""
    compilers = [os.environ.get("CXX", ""), "g++", "c++", "clang++"]
    return device.type != "cpu" or any(shutil.which(name) for name in compilers if name)
