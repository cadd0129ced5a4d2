"""Small models of bytes, trained in seconds on the standard library's own text: the subjects of M7's experiments."""

import argparse
import csv
import functools
import heapq
import inspect
import json.decoder
import shlex
import statistics
import string
import textwrap
from dataclasses import replace

import torch
from torch import Tensor

from llmm.foundations.optimizers import AdamW, Muon
from llmm.foundations.optimizers.schedules import warmup_stable_decay
from llmm.transformers.gpt.config import GPTConfig
from llmm.transformers.gpt.model import GPT

TRAIN = (argparse, csv, heapq, inspect, json.decoder, shlex, statistics, string)
HELD_OUT = (textwrap, functools)
V = 128  # ASCII; other bytes of these files are left out
T = 64


def text_of(modules: tuple[object, ...]) -> bytes:
    """The source of some modules as ASCII bytes, one after the other."""
    return "\n".join(inspect.getsource(module) for module in modules).encode("ascii", "ignore")  # type: ignore[arg-type]


@functools.cache
def tokens(held_out: bool = False) -> Tensor:
    """All bytes of the training or the held-out text as ids (N,)."""
    return torch.tensor(list(text_of(HELD_OUT if held_out else TRAIN)))


def config(n_layer: int, d_model: int, **changes: object) -> GPTConfig:
    """A byte model of Qwen3's build with heads of 16 channels."""
    heads = d_model // 16
    sizes = GPTConfig(V, n_layer, heads, heads, d_model, d_ff=d_model * 5 // 2, context_len=256)
    return replace(sizes, **changes)  # type: ignore[arg-type]


def train(c: GPTConfig, steps: int, seed: int, batch: int = 8, ids: Tensor | None = None) -> GPT:
    """A model trained for `steps` steps on `batch` windows of T tokens of `ids` (default: `tokens()`)."""
    ids = tokens() if ids is None else ids
    model = GPT(c)
    model.init_weights(torch.Generator().manual_seed(seed))
    generator = torch.Generator().manual_seed(seed)  # of its own: models of one seed see the same batches
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    chosen = set(map(id, matrices))
    others = [p for p in model.parameters() if id(p) not in chosen]
    optimizers: list[torch.optim.Optimizer] = [Muon(matrices, lr=0.02, newton_schulz_steps=3), AdamW(others, lr=0.01)]
    peaks = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    offsets = torch.arange(T + 1)
    for step in range(steps):
        factor = warmup_stable_decay(step, steps, 10, 0.5)
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * factor
        starts = torch.randint(len(ids) - T, (batch, 1), generator=generator)
        window = ids[starts + offsets]
        loss = model.loss(model.hidden(window[:, :-1]).flatten(0, 1), window[:, 1:].flatten())
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    return model.eval()


@torch.inference_mode()
def held_out_nats(model: GPT, ids: Tensor | None = None, windows: int = 128) -> float:
    """Mean nats a token of windows spread evenly over the held-out text."""
    ids = tokens(held_out=True) if ids is None else ids
    starts = torch.linspace(0, len(ids) - T - 1, windows).long()[:, None]
    window = ids[starts + torch.arange(T + 1)]
    return float(model.loss(model.hidden(window[:, :-1]).flatten(0, 1), window[:, 1:].flatten()))
