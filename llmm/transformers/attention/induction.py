"""Repeated random sequences, and the heads that continue them: the smallest case of learning in context.

"… A B … A" is continued with B by a model that has never seen A B before, because an *induction head* looks for the
place after the last A. It cannot do that alone. Keys know their own token; the head needs keys that know the token
*before* them, and that is what a *previous-token head* in an earlier layer writes there. README, section 11.
Source: Olsson et al. 2022 (2209.11895).
"""

import math
from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from llmm.foundations.optimizers.adamw import AdamW
from llmm.transformers.attention.attention_only import AttentionOnly


def repeated_sequences(
    batch: int, T: int, vocab_size: int, periods: range, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Tokens (B, T) and the period (B,) of each row: random tokens, no two equal, over and over.

    A period of its own for each row, drawn from `periods`: with a single one, or with one a batch, a head that looks a
    fixed number of tokens back would do, which rotary positions make easy for one layer. No token twice in a period, so
    that what follows is never in doubt.
    """
    period_B = torch.randint(periods.start, periods.stop, (batch,), generator=generator)
    shuffled_BV = torch.rand(batch, vocab_size, generator=generator).argsort(-1)
    return shuffled_BV.gather(1, torch.arange(T)[None, :] % period_B[:, None]), period_B


def predictable(period_B: Tensor, T: int) -> Tensor:
    """(B, T - 1) bool: where the next token is known to whoever has read so far, from one full period on."""
    return torch.arange(T - 1)[None, :] >= period_B[:, None]


def repetition_loss(logits_BTV: Tensor, tokens_BT: Tensor, period_B: Tensor) -> Tensor:
    """Mean cross-entropy of the next token, in nats, over the predictable positions only."""
    known_BT = predictable(period_B, tokens_BT.shape[1])
    return F.cross_entropy(logits_BTV[:, :-1][known_BT], tokens_BT[:, 1:][known_BT])


def accuracy(
    model: AttentionOnly,
    tokens_BT: Tensor,
    period_B: Tensor,
    without: Collection[tuple[int, int]] = (),
    hidden: Mapping[int, int] | None = None,
) -> float:
    """Share of the predictable tokens that get the highest logit, with the model broken as `forward` says."""
    known_BT = predictable(period_B, tokens_BT.shape[1])
    with torch.no_grad():
        right_BT = model(tokens_BT, without, hidden)[:, :-1].argmax(-1) == tokens_BT[:, 1:]
    return float(right_BT[known_BT].double().mean())


def head_scores(weights_BHTT: Tensor, period_B: Tensor) -> tuple[Tensor, Tensor]:
    """How much of its attention each head of a layer pays, (H,) each, at the predictable positions t:

    to the previous token t - 1, and to t - period + 1, the token that came after the last token like t's.
    """
    T = weights_BHTT.shape[-1]
    known_BT = F.pad(predictable(period_B, T), (0, 1))
    at_T = torch.arange(T)
    previous_BT = (at_T - 1).clamp(min=0).expand(len(period_B), T)
    after_last_BT = (at_T[None, :] - period_B[:, None] + 1).clamp(min=0)

    def paid(target_BT: Tensor) -> Tensor:
        index_BHT1 = target_BT[:, None, :, None].expand(-1, weights_BHTT.shape[1], -1, 1)
        share_BHT = weights_BHTT.gather(-1, index_BHT1).squeeze(-1)
        return share_BHT.transpose(0, 1)[:, known_BT].mean(-1)

    return paid(previous_BT), paid(after_last_BT)


def train(
    model: AttentionOnly, steps: int, batch: int, T: int, periods: range, lr: float, seed: int
) -> Iterator[tuple[int, float]]:
    """Train on fresh sequences with AdamW, the rate falling to 0 as a cosine; yields (step, loss) after every step."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98))
    for step in range(1, steps + 1):
        warm_up = min(1.0, step / 50)
        for group in optimizer.param_groups:
            group["lr"] = lr * warm_up * 0.5 * (1 + math.cos(math.pi * step / (steps + 1)))
        tokens_BT, period_B = repeated_sequences(batch, T, model.embedding.num_embeddings, periods, generator)
        loss = repetition_loss(model(tokens_BT), tokens_BT, period_B)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield step, loss.item()
