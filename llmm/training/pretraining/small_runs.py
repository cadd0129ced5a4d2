"""Small models of bytes, trained in seconds on the standard library's own text: the subjects of M9's experiments."""

import functools
import math
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from llmm.foundations.optimizers import AdamW, Muon
from llmm.foundations.optimizers.schedules import warmup_stable_decay
from llmm.training.pretraining.recipe import next_token_loss
from llmm.training.pretraining.windows import Windows
from llmm.training.tokenizer.texts import modules
from llmm.transformers.gpt import GPT, GPTConfig
from llmm.transformers.gpt.small_models import T

VALIDATION = ("cmd", "heapq", "textwrap")
WARM_UP = 20
CLIP = 1.0


@functools.cache
def validation_ids() -> Tensor:
    """The bytes of the validation modules, (N,)."""
    return torch.from_numpy(_ascii(modules(VALIDATION)).astype(np.int64))


@functools.cache
def training_ids() -> np.ndarray:
    """The bytes of all other modules at the top of the standard library, in the order of their names, (N,) uint8."""
    names = sorted(path.stem for path in Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    return _ascii(modules(tuple(name for name in names if name not in VALIDATION)))


def _ascii(texts: list[str]) -> np.ndarray:
    """Texts as ASCII bytes, one after the other; other bytes are left out."""
    return np.frombuffer("\n".join(texts).encode("ascii", "ignore"), np.uint8)


def optimizers_of(model: GPT) -> list[Optimizer]:
    """Ours: Muon for the matrices of the blocks, AdamW for the rest, at the rates that suit models of this size."""
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    chosen = set(map(id, matrices))
    others = [p for p in model.parameters() if id(p) not in chosen]
    return [Muon(matrices, lr=0.02, newton_schulz_steps=3), AdamW(others, lr=0.01)]


def training(
    model: GPT,
    optimizers: Sequence[Optimizer],
    windows: Windows,
    steps: int,
    share: Callable[[int], float] | None = None,
) -> Iterator[float]:
    """Train step by step; yields the loss, in nats, that each step began with.

    `share` gives the share of the learning rates at a step; without it they rise, stay and fall over the second half.
    """
    share = share or (lambda step: warmup_stable_decay(step, steps, WARM_UP, 0.5))
    peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    for step in range(steps):
        for optimizer, its_peaks in zip(optimizers, peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, its_peaks, strict=True):
                group["lr"] = peak * share(step)
        loss = next_token_loss(model, windows.batch(step))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP, foreach=True)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        yield loss.item()


def validation_nats(model: GPT, seq_len: int = T, windows: int | None = None) -> float:
    """`mean_nats` of the validation text."""
    return mean_nats(model, validation_ids(), seq_len, windows)


@torch.no_grad()
def mean_nats(model: GPT, ids: Tensor, seq_len: int = T, windows: int | None = None) -> float:
    """Mean nats a byte over the text `ids` (N,) in windows side by side: all of it, or its first `windows`."""
    count = (len(ids) - 1) // seq_len
    starts = torch.arange(count)[:windows, None] * seq_len
    ids_BT = ids[starts + torch.arange(seq_len + 1)]
    sums = [next_token_loss(model, part).item() * len(part) for part in ids_BT.split(64)]
    return sum(sums) / len(ids_BT)


def fresh(config: GPTConfig, seed: int) -> GPT:
    """A model with the weights of a seed."""
    model = GPT(config)
    model.init_weights(torch.Generator().manual_seed(seed))
    return model


def vertex(rates: Sequence[float], losses: Sequence[float]) -> float:
    """log2 of the rate where the parabola through the lowest loss and its neighbours, a factor 2 apart, is lowest."""
    i = min(max(int(np.argmin(losses)), 1), len(losses) - 2)
    left, middle, right = losses[i - 1 : i + 2]
    curvature = left - 2 * middle + right
    offset = 0.5 * (left - right) / curvature if curvature > 0 else 0.0
    return math.log2(rates[i]) + min(max(offset, -1.0), 1.0)
