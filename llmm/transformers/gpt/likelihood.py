"""What a text costs a model: nats by the chain rule, perplexity, bits per byte. README, section 1."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from llmm.transformers.gpt.model import GPT


@torch.inference_mode()
def token_nats(model: GPT, ids_BT: Tensor) -> Tensor:
    """-log p(x_t | x_<t) of every token after the first: ids (B, T) → (B, T - 1), float32 at least."""
    logits_BTV = model(ids_BT[:, :-1])
    logits_BTV = logits_BTV.to(torch.promote_types(logits_BTV.dtype, torch.float32))
    return F.cross_entropy(logits_BTV.transpose(1, 2), ids_BT[:, 1:], reduction="none")


def sequence_nats(model: GPT, ids_BT: Tensor) -> Tensor:
    """-log p(x_2 … x_T | x_1) of every row, by the chain rule the sum over its tokens: (B, T) → (B,)."""
    return token_nats(model, ids_BT).sum(1)


def perplexity(nats: float, tokens: int) -> float:
    """e^(nats / tokens): the number of equally likely tokens that would surprise as much."""
    return math.exp(nats / tokens)


def bits_per_byte(nats: float, n_bytes: int) -> float:
    """nats / (ln 2 · bytes): what an arithmetic coder would write, whatever the tokens are."""
    return nats / math.log(2) / n_bytes
