"""Learning which of two answers is better: DPO, the short way to what reinforcement learning from preferences seeks.

Of all policies that do not stray far from a base, the one with the most reward is known in closed form. So a policy can
be read as a reward, and fitted to preferences as a classifier is, without a reward model and without drawing a sample
while it trains. The base need not be held a second time where the policy is the base with an adapter: it is what is
there when the adapter is switched off. Source: Rafailov et al. 2023 (2305.18290), equations 3 to 7. README, section 7.

Shapes: N pairs; in (N, 2) the preferred answer comes first.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from llmm.transformers.gpt import GPT


def best_policy(log_base_V: Tensor, reward_V: Tensor, beta: float) -> Tensor:
    """ln π*(y) of every answer y of a finite number V, (7.2): the base, tilted towards reward."""
    return (log_base_V + reward_V / beta).log_softmax(-1)


def regularised_reward(log_policy_V: Tensor, log_base_V: Tensor, reward_V: Tensor, beta: float) -> Tensor:
    """E r - β KL(π ‖ base), in units of reward, (7.1): what `best_policy` makes as large as it can be."""
    return (log_policy_V.exp() * (reward_V - beta * (log_policy_V - log_base_V))).sum(-1)


def implicit_reward(log_p: Tensor, log_base: Tensor, beta: float) -> Tensor:
    """The reward for which a policy is the best one, up to a number that depends on the question alone, (7.3)."""
    return beta * (log_p - log_base)


def dpo_loss(log_p_N2: Tensor, log_base_N2: Tensor, beta: float) -> Tensor:
    """Mean of -ln P(the first answer is preferred) under the policy's own rewards, (7.5)."""
    reward_N2 = implicit_reward(log_p_N2, log_base_N2, beta)
    return -F.logsigmoid(reward_N2[:, 0] - reward_N2[:, 1]).mean()


def dpo_gradient(log_p_N2: Tensor, log_base_N2: Tensor, beta: float) -> Tensor:
    """d dpo_loss / d log_p (N, 2) by hand, (7.6): pairs weigh by how wrong the policy still has them."""
    reward_N2 = implicit_reward(log_p_N2, log_base_N2, beta)
    wrong_N = torch.sigmoid(reward_N2[:, 1] - reward_N2[:, 0])
    return beta * torch.stack([-wrong_N, wrong_N], 1) / len(wrong_N)


def best_of_n_kl(n: int) -> float:
    """KL in nats between the best of n draws and one draw, where no two draws have the same reward, (7.8)."""
    return math.log(n) - (n - 1) / n


def answer_log_p(model: GPT, ids_BT: Tensor, start: int) -> Tensor:
    """ln p of the tokens from place `start` on, at least 1, given those before: ids (B, T) → (B,)."""
    logits_BTV = model(ids_BT[:, :-1])[:, start - 1 :]
    return -F.cross_entropy(logits_BTV.mT, ids_BT[:, start:], reduction="none").sum(1)
