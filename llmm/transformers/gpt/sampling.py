"""From logits to the next token: greedy, temperature, top-k, top-p."""

from dataclasses import dataclass

import torch
from torch import Tensor

from llmm.errors import UserError


@dataclass(frozen=True)
class Sampler:
    """How the next token is drawn. A temperature of 0 takes the most likely one.

    `top_k` keeps the k most likely tokens (0: all). `top_p` keeps the smallest set whose probability reaches p
    (Holtzman et al. 2019, 1904.09751, section 3.1).
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        """Raise UserError for a setting that leaves no token to draw."""
        if not self.temperature >= 0:
            raise UserError(f"temperature = {self.temperature}: expected 0 or more")
        if self.top_k < 0:
            raise UserError(f"top_k = {self.top_k}: expected 0 (all tokens) or more")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p = {self.top_p}: expected more than 0 and at most 1")

    def __call__(self, logits_BV: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw one token a row: (B, V) → (B,)."""
        if self.temperature == 0:
            return logits_BV.argmax(-1)
        logits_BV = logits_BV / self.temperature
        if 0 < self.top_k < logits_BV.shape[-1]:
            smallest = logits_BV.topk(self.top_k).values[:, -1:]
            logits_BV = logits_BV.masked_fill(logits_BV < smallest, -torch.inf)
        if self.top_p < 1:
            ordered, order = logits_BV.sort(descending=True)
            before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
            dropped = torch.zeros_like(before, dtype=torch.bool).scatter(1, order, before >= self.top_p)
            logits_BV = logits_BV.masked_fill(dropped, -torch.inf)
        return torch.multinomial(logits_BV.softmax(-1), 1, generator=generator)[:, 0]


GREEDY = Sampler()
