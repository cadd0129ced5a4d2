"""The recipe: which model, which optimizer moves which parameter, at which learning rate."""

import os
import shutil
from typing import Any

import torch
from torch.optim import Optimizer

from llmm.foundations.optimizers import AdamW, Muon
from llmm.params import PretrainParams
from llmm.transformers.gpt import GPT, GPTConfig

# Two steps from the tighter norm lift what three do from the Frobenius norm, in two thirds of the time: M3, (27.1)
NEWTON_SCHULZ: dict[str, Any] = {"newton_schulz_steps": 2, "norm": "schatten4"}


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
        Muon(matrices, recipe.muon_lr, weight_decay=recipe.weight_decay, **NEWTON_SCHULZ, dtype=dtype),
        AdamW(others, lr=recipe.adamw_lr, betas=(0.9, 0.95)),
    ]


def next_token_loss(model: GPT, ids_BT: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy, in nats, of each token after the first given those before it."""
    return model.loss(model.hidden(ids_BT[:, :-1]).flatten(0, 1), ids_BT[:, 1:].flatten())


def compiler_found(device: torch.device) -> bool:
    """Whether torch.compile can work here: on a CPU it needs a C++ compiler."""
    compilers = [os.environ.get("CXX", ""), "g++", "c++", "clang++"]
    return device.type != "cpu" or any(shutil.which(name) for name in compilers if name)
