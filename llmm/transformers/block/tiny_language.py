"""A language model small enough to train a hundred times, on text that is always there: modules of Python's library."""

import math
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmm.foundations.optimizers.adamw import AdamW
from llmm.transformers.gpt.config import GPTConfig
from llmm.transformers.gpt.model import GPT

TRAINED_ON = ("argparse", "difflib", "inspect", "pickle", "tarfile", "turtle", "typing", "zipfile")
HELD_OUT = ("statistics", "heapq", "textwrap", "fractions")
VOCABULARY = 128  # ASCII; the few other bytes become 0


@cache
def text(modules: tuple[str, ...]) -> Tensor:
    """The source of these modules of the standard library, byte by byte, int64 (N,)."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    joined = b"\n".join((folder / f"{module}.py").read_bytes() for module in modules)
    ids_N = torch.frombuffer(bytearray(joined), dtype=torch.uint8).long()
    return ids_N.where(ids_N < VOCABULARY, 0)


def windows(ids_N: Tensor, batch: int, seq_len: int, generator: torch.Generator) -> Tensor:
    """`batch` random pieces of text, (B, seq_len + 1): inputs and, one further, targets."""
    start_B1 = torch.randint(len(ids_N) - seq_len, (batch, 1), generator=generator)
    return ids_N[start_B1 + torch.arange(seq_len + 1)]


@dataclass(frozen=True)
class Recipe:
    """How long and how fast to train: Adam, a linear warm-up, then a cosine to a tenth of `lr`."""

    lr: float
    steps: int
    warmup: int = 0
    batch: int = 16
    seq_len: int = 32

    def rate(self, step: int) -> float:
        """Learning rate of step 0, 1, ..."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        share = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.lr * (0.55 + 0.45 * math.cos(math.pi * share))


def initialise(model: nn.Module, generator: torch.Generator) -> None:
    """Embeddings N(0, 0.02²), all other matrices N(0, 1/fan-in); no matrix at zero, so every block acts from the start.

    Gains stay 1 and biases 0.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                small = name.endswith(("embed_tokens.weight", "embed_positions.weight", "lm_head.weight"))
                parameter.normal_(0, 0.02 if small else parameter.shape[1] ** -0.5, generator=generator)
            elif name.endswith("bias"):
                parameter.zero_()


def without_norms(model: GPT) -> GPT:
    """The same model with every norm of its stream taken out."""
    for module in [model.model, *model.model.layers]:
        for name in ("norm", "input_layernorm", "post_attention_layernorm"):
            if hasattr(module, name):
                setattr(module, name, nn.Identity())
    return model


def with_feed_forward(model: GPT, make: Callable[[], nn.Module]) -> GPT:
    """The same model with another feed-forward, or mixture of them, in every block."""
    for block in model.model.layers:
        block.mlp = make()
    return model


def train(
    model: GPT, recipe: Recipe, seed: int, penalty: Callable[[GPT], Tensor] | None = None,
    after_step: Callable[[int], None] | None = None,
) -> list[float]:  # fmt: skip
    """Initialise from `seed` and train in place; the loss of each step, in nats a byte.

    Ends early where the loss is not finite: the last number is then inf or NaN. `penalty` is added to what is
    minimised and not to what is returned. Two models with the same seed see the same text.
    """
    initialise(model, torch.Generator().manual_seed(seed))
    ids_N, order = text(TRAINED_ON), torch.Generator().manual_seed(seed)
    optimizer = AdamW(model.parameters(), lr=recipe.lr)
    losses = []
    for step in range(recipe.steps):
        optimizer.param_groups[0]["lr"] = recipe.rate(step)
        loss = next_byte_loss(model, windows(ids_N, recipe.batch, recipe.seq_len, order))
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            break
        (loss if penalty is None else loss + penalty(model)).backward()
        optimizer.step()
        optimizer.zero_grad()
        if after_step is not None:
            after_step(step)
    return losses


def next_byte_loss(model: Callable[[Tensor], Tensor], windows_BT: Tensor) -> Tensor:
    """Mean cross-entropy of all but the first byte of each window (B, T + 1), in nats; `model` maps ids to logits."""
    logits_BTV = model(windows_BT[:, :-1])
    return F.cross_entropy(logits_BTV.flatten(0, 1), windows_BT[:, 1:].flatten())


def held_out_loss(model: GPT, seq_len: int) -> float:
    """Loss on the same 256 windows of modules that were not trained on, in nats a byte."""
    with torch.no_grad():
        return float(next_byte_loss(model, windows(text(HELD_OUT), 256, seq_len, torch.Generator().manual_seed(0))))


def tiny(n_layer: int, d_model: int, seq_len: int, n_head: int = 4, **choices: object) -> GPT:
    """A byte-level GPT of `n_head` heads whose feed-forward is four times as wide; `choices` as in GPTConfig."""
    sizes = {"n_layer": n_layer, "d_model": d_model, "n_head": n_head, "n_kv_head": n_head, "d_ff": 4 * d_model}
    plain = {"feed_forward": "gelu", "qk_norm": False, "positions": "rope", "tie_embeddings": False}
    return GPT(GPTConfig(**{"vocab_size": VOCABULARY, "context_len": seq_len, **sizes, **plain, **choices}))  # type: ignore[arg-type]
