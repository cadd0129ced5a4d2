"""The subject of M10's experiments: a small model of Python modules, tuned to a new format or to a new kind of text."""

import copy
import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llmm.foundations.optimizers import AdamW
from llmm.foundations.optimizers.schedules import warmup_stable_decay
from llmm.training.lora.adapter import TARGETS
from llmm.training.lora.dora import DoRALinear
from llmm.training.lora.low_rank import LoRALinear, Scaling, attach
from llmm.training.pretraining.small_runs import fresh, optimizers_of, training, training_ids, validation_ids
from llmm.training.pretraining.windows import Windows
from llmm.transformers.gpt import GPT
from llmm.transformers.gpt.small_models import T, config

SIZE = config(2, 128)
BASE_STEPS, BASE_BATCH = 500, 16
TUNE_STEPS, TUNE_BATCH, WARM_UP = 100, 8, 10
SCALE = 2.0  # of the branch, whatever its rank: α = 2 √r under α / √r
FORMAT_BYTES = 400_000

# name → what is trained; None is all weights
VARIANTS: Mapping[str, tuple[type[LoRALinear], int] | None] = {
    "full": None,
    "rank_1": (LoRALinear, 1),
    "rank_4": (LoRALinear, 4),
    "rank_16": (LoRALinear, 16),
    "dora_4": (DoRALinear, 4),
}


def pretrained() -> GPT:
    """The base model: bytes of the standard library's modules."""
    model = fresh(SIZE, 0)
    for _ in training(model, optimizers_of(model), Windows(training_ids(), T, BASE_BATCH, 0), BASE_STEPS):
        pass
    return model.eval()


@dataclass(frozen=True)
class Text:
    """Bytes to tune on (N,), and two held-out parts: one to choose a rate on, one to report."""

    tune: np.ndarray
    choose: Tensor
    report: Tensor

    @classmethod
    def of(cls, tune: bytes, aside: bytes) -> "Text":
        """The held-out bytes are cut in the middle."""
        middle = len(aside) // 2
        choose, report = (torch.tensor(list(part)) for part in (aside[:middle], aside[middle:]))
        return cls(np.frombuffer(tune, np.uint8), choose, report)


@functools.cache
def prose() -> Text:
    """New knowledge: the text behind `help()`'s topics, English about Python; nine tenths to tune on."""
    from pydoc_data.topics import topics

    text = "\n".join(topics[name] for name in sorted(topics)).encode("ascii", "ignore")
    cut = len(text) * 9 // 10
    return Text.of(text[:cut], text[cut:])


@functools.cache
def semicolons() -> Text:
    """A new format: modules as before, every line ended by a semicolon; the validation modules aside."""
    tune, aside = (
        bytes(ids.astype(np.uint8)).replace(b"\n", b";\n")
        for ids in (training_ids()[:FORMAT_BYTES], validation_ids().numpy())
    )
    return Text.of(tune, aside)


TASKS = {"format": semicolons, "prose": prose}


def tuned(
    base: GPT,
    task: str,
    kind: tuple[type[LoRALinear], int] | None,
    rate: float,
    seed: int,
    steps: int = TUNE_STEPS,
    batch: int = TUNE_BATCH,
    alpha: float | None = None,
    scaling: Scaling = "rslora",
) -> GPT:
    """A copy of `base` tuned by AdamW: all weights, or adapters of a kind and rank beside the blocks' matrices."""
    model = copy.deepcopy(base)
    model.requires_grad_(kind is None)
    if kind is not None:
        layer, rank = kind
        attach(model, TARGETS, rank, SCALE * rank**0.5 if alpha is None else alpha, scaling, layer, seed)
    trained = [p for p in model.parameters() if p.requires_grad]
    for _ in training(
        model,
        [AdamW(trained, lr=rate)],
        Windows(TASKS[task]().tune, T, batch, seed),
        steps,
        lambda step: warmup_stable_decay(step, steps, WARM_UP, 0.5),
    ):
        pass
    return model


def trained_share(kind: tuple[type[LoRALinear], int] | None) -> float:
    """Numbers that are trained over those of the base model."""
    model = GPT(SIZE)
    total = sum(p.numel() for p in model.parameters())
    if kind is None:
        return 1.0
    attach(model, TARGETS, kind[1], 1.0, kind=kind[0])
    return sum(p.numel() for p in model.parameters() if p.requires_grad) / total
