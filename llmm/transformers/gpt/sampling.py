"""From logits to the next token: what may be drawn, and the draw.

Each rule takes logits (B, V) and returns logits (B, V), with -inf for a token that may not be drawn, so rules compose
and a grammar's mask is one more of them. README, section 4.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llmm.errors import UserError


def penalise_repetition(logits_BV: Tensor, history: Sequence[Sequence[int]], penalty: float) -> Tensor:
    """Divide positive and multiply negative logits of the tokens in a row's `history` by `penalty`.

    Above 1 a token that was there becomes less likely, however often it was there. Source: Keskar et al. 2019
    (1909.05858), section 4.1, with the sign that `transformers` looks at.
    """
    logits_BV = logits_BV.clone()
    for row, tokens in enumerate(history):
        seen = torch.tensor(sorted(set(tokens)), dtype=torch.long, device=logits_BV.device)
        value = logits_BV[row, seen]
        logits_BV[row, seen] = torch.where(value > 0, value / penalty, value * penalty)
    return logits_BV


def keep_top_k(logits_BV: Tensor, k: int) -> Tensor:
    """The k most likely tokens; those that tie with the last of them stay too. 0 keeps all."""
    if not 0 < k < logits_BV.shape[-1]:
        return logits_BV
    smallest_B1 = logits_BV.topk(k).values[:, -1:]
    return logits_BV.masked_fill(logits_BV < smallest_B1, -torch.inf)


def keep_top_p(logits_BV: Tensor, p: float) -> Tensor:
    """The nucleus: the smallest set of most likely tokens whose probability reaches `p`.

    A token stays where those before it, in descending order, have not reached p. Source: Holtzman et al. 2019
    (1904.09751), section 3.1.
    """
    if p >= 1:
        return logits_BV
    ordered, order = logits_BV.sort(descending=True)
    before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
    dropped = torch.zeros_like(before, dtype=torch.bool).scatter(1, order, before >= p)
    return logits_BV.masked_fill(dropped, -torch.inf)


def keep_min_p(logits_BV: Tensor, p: float) -> Tensor:
    """The tokens at least `p` times as likely as the likeliest; 0 keeps all. Source: 2407.01082, section 3.

    log q_i - log q_max = z_i - z_max: the rule needs no softmax, and it does not matter what was dropped before.
    """
    if p == 0:
        return logits_BV
    return logits_BV.masked_fill(logits_BV < logits_BV.amax(-1, keepdim=True) + math.log(p), -torch.inf)


@dataclass(frozen=True)
class Sampler:
    """How the next token is drawn. A temperature of 0 takes the most likely one.

    Rules in order: `repetition_penalty` (1: none), temperature, `top_k` (0: all), `top_p` (1: all), `min_p` (0: all).
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        """Raise UserError for a setting that leaves no token to draw."""
        if not 0 <= self.temperature < math.inf:
            raise UserError(f"temperature = {self.temperature}: expected 0 or more, and finite")
        if self.top_k < 0:
            raise UserError(f"top_k = {self.top_k}: expected 0 (all tokens) or more")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p = {self.top_p}: expected more than 0 and at most 1")
        if not 0 <= self.min_p <= 1:
            raise UserError(f"min_p = {self.min_p}: expected 0 (all tokens) to 1")
        if not 0 < self.repetition_penalty < math.inf:
            raise UserError(f"repetition_penalty = {self.repetition_penalty}: expected more than 0, and finite")

    def __call__(
        self,
        logits_BV: Tensor,
        generator: torch.Generator | None = None,
        history: Sequence[Sequence[int]] | None = None,
    ) -> Tensor:
        """Draw one token a row: (B, V) → (B,). `history` holds each row's tokens so far, for `repetition_penalty`."""
        if self.temperature == 0:
            return self._penalised(logits_BV, history).argmax(-1)
        return torch.multinomial(self.distribution(logits_BV, history), 1, generator=generator)[:, 0]

    def distribution(self, logits_BV: Tensor, history: Sequence[Sequence[int]] | None = None) -> Tensor:
        """The probabilities (B, V) that tokens are drawn with; at temperature 0 all of it on the most likely one."""
        logits_BV = self._penalised(logits_BV, history)
        if self.temperature == 0:
            return torch.zeros_like(logits_BV).scatter(-1, logits_BV.argmax(-1, keepdim=True), 1.0)
        logits_BV = keep_top_k(logits_BV / self.temperature, self.top_k)
        return keep_min_p(keep_top_p(logits_BV, self.top_p), self.min_p).softmax(-1)

    def _penalised(self, logits_BV: Tensor, history: Sequence[Sequence[int]] | None) -> Tensor:
        if self.repetition_penalty == 1 or history is None:
            return logits_BV
        return penalise_repetition(logits_BV, history, self.repetition_penalty)


GREEDY = Sampler()
