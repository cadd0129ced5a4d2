"""The recipe: which model, which optimizer moves which parameter, at which learning rate."""

import os
import shutil

import torch
from torch.optim import Optimizer

from llmm.foundations.optimizers import AdamW, Muon
from llmm.foundations.optimizers.schedules import warmup_stable_decay
from llmm.params import PretrainParams
from llmm.transformers.gpt import GPT, GPTConfig

# three bring all singular values above 2% of the norm into [0.7, 1.2], five those above 0.3%; they cost 3/5 of the time
NEWTON_SCHULZ_STEPS = 3


def build_model(recipe: PretrainParams, vocab_size: int, seed: int) -> GPT:
    """A GPT of the recipe's sizes with fresh weights; the same seed gives the same weights."""
    config = GPTConfig(
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
    )
    model = GPT(config)
    model.init_weights(torch.Generator().manual_seed(seed))
    return model


def build_optimizers(model: GPT, recipe: PretrainParams, dtype: torch.dtype = torch.float32) -> list[Optimizer]:
    """Muon, with products in `dtype`, for the matrices of the blocks; AdamW for embeddings and gains, undecayed."""
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    chosen = set(map(id, matrices))
    others = [p for p in model.parameters() if id(p) not in chosen]
    return [
        Muon(
            matrices,
            recipe.muon_lr,
            weight_decay=recipe.weight_decay,
            newton_schulz_steps=NEWTON_SCHULZ_STEPS,
            dtype=dtype,
        ),
        AdamW(others, lr=recipe.adamw_lr, betas=(0.9, 0.95)),
    ]


def set_learning_rates(optimizers: list[Optimizer], recipe: PretrainParams, step: int) -> float:
    """Set every learning rate for `step` and return its share of the peak."""
    factor = warmup_stable_decay(step, recipe.steps, recipe.warmup_steps, recipe.cooldown_fraction)
    for optimizer, peak in zip(optimizers, (recipe.muon_lr, recipe.adamw_lr), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = peak * factor
    return factor


def next_token_loss(model: GPT, ids_BT: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy, in nats, of each token after the first given those before it."""
    return model.loss(model.hidden(ids_BT[:, :-1]).flatten(0, 1), ids_BT[:, 1:].flatten())


def compiler_found(device: torch.device) -> bool:
    """Whether torch.compile can work here: on a CPU it needs a C++ compiler."""
    compilers = [os.environ.get("CXX", ""), "g++", "c++", "clang++"]
    return device.type != "cpu" or any(shutil.which(name) for name in compilers if name)
