"""Which expert answers for which token, how many may come, and the two losses that keep the router healthy.

Sources: Shazeer et al. 2017 (1701.06538), top-k gating; Fedus, Zoph and Shazeer 2021 (2101.03961), equations 1 to 6,
capacity and balancing; Zoph et al. 2022 (2202.08906), equation 5, the z-loss.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Routing:
    """The choices of N tokens, K of E experts each, most wanted first."""

    logits_NE: Tensor
    expert_NK: Tensor  # int64
    weight_NK: Tensor  # what the expert's answer is multiplied by
    kept_NK: Tensor  # bool: whether the expert had room

    @property
    def probability_NE(self) -> Tensor:
        """What the router would like: softmax of the logits over the experts."""
        return self.logits_NE.softmax(-1)

    @property
    def load_E(self) -> Tensor:
        """Share of the N·K choices that fell on each expert, full or not; sums to 1 and has no gradient."""
        return self.expert_NK.flatten().bincount(minlength=self.logits_NE.shape[1]) / self.expert_NK.numel()


def route(logits_NE: Tensor, top_k: int, capacity: int | None = None, renormalise: bool = False) -> Routing:
    """Send each token to its `top_k` likeliest experts, weighted by their probabilities.

    `renormalise` divides a token's weights by their sum, over all K whether kept or not (Mixtral's way; with one choice
    the weight would always be 1 and the router would get no gradient, so Switch leaves it out). `capacity` is the most
    that one expert takes, None for as many as come: all first choices in the order of the tokens, then all second ones.
    """
    probability_NE = logits_NE.softmax(-1)
    weight_NK, expert_NK = probability_NE.topk(top_k, dim=-1)
    if renormalise:
        weight_NK = weight_NK / weight_NK.sum(-1, keepdim=True)
    kept_NK = torch.ones_like(expert_NK, dtype=torch.bool)
    if capacity is not None:
        kept_NK = _place_in_queue(expert_NK, logits_NE.shape[1]) < capacity
    return Routing(logits_NE, expert_NK, weight_NK, kept_NK)


def _place_in_queue(expert_NK: Tensor, n_expert: int) -> Tensor:
    """How many choices of the same expert come before each, (N, K); a column of choices comes before the next."""
    N, K = expert_NK.shape
    queue = expert_NK.mT.flatten()
    chosen = torch.nn.functional.one_hot(queue, n_expert)
    before = (chosen.cumsum(0) - chosen).gather(1, queue[:, None])
    return before.view(K, N).mT


def expert_capacity(tokens: int, n_expert: int, top_k: int, factor: float) -> int:
    """Room in each expert: `factor` times its fair share of the tokens·top_k choices, rounded up."""
    return math.ceil(factor * tokens * top_k / n_expert)


def balance_loss(routing: Routing) -> Tensor:
    """E Σₑ loadₑ · mean probabilityₑ: 1 where the router is even-handed, up to E where one expert gets everything.

    The load counts choices and has no gradient; the probabilities have one, larger for the busier expert (README,
    equation 8.5).
    """
    n_expert = routing.logits_NE.shape[1]
    return n_expert * (routing.load_E * routing.probability_NE.mean(0)).sum()


def z_loss(routing: Routing) -> Tensor:
    """Mean squared log-sum-exp of the logits: keeps them near zero, where softmax in few bits is still exact."""
    return routing.logits_NE.logsumexp(-1).square().mean()
