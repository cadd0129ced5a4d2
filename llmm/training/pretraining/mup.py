"""Maximal update parametrisation: one learning rate for every width, by numbers beside the parameters.

Under the usual (standard) parametrisation a wider model moves further at the same learning rate, so each width has a
best rate of its own. Here each kind of parameter has a factor for its first values and one for its learning rate, such
that the features of a wide model move as far as those of the narrow one that the rate was tuned on (README, section 4).

The forward pass stays as it is. Where the parametrisation asks for a multiplier in it (1 / width before the LM head,
1 / head width in attention), a gain that stands there already takes it over: AdamW moves a parameter by about its
learning rate, so scaling a gain and its rate by c is the same as scaling what passes through it (README 4.6). The
weights therefore stay those of a model that other programs open.

Source: Yang et al. 2022 (2203.03466), table 8, the form of the parametrisation that allows a tied LM head.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import torch

from llmm.errors import UserError
from llmm.transformers.gpt import GPT, GPTConfig


@dataclass(frozen=True)
class Factors:
    """Of a parameter beside the same one in the base model: of its first values and of its learning rate."""

    init: float = 1.0
    lr: float = 1.0


def factors(model: GPT, base: GPTConfig) -> dict[str, Factors]:
    """Parameter's name -> factors under AdamW, for a model whose learning rate was tuned at `base`: README (4.7).

    `init` is a factor on what `GPT.init_weights` draws, where matrices have a variance of 1 / fan-in already. Raises
    UserError where the attention has no QK-norm: its gain is where 1 / head width goes.
    """
    config = model.config
    if not config.qk_norm and config.d_head != base.d_head:
        raise UserError("wider heads need 1 / head width in attention, which goes into the gain of a QK-norm")
    width = config.d_model / base.d_model
    heads = config.n_head * config.d_head / (base.n_head * base.d_head)
    by_kind = {
        "q_norm.weight": Factors((base.d_head / config.d_head) ** 0.5, (base.d_head / config.d_head) ** 0.5),
        "o_proj.weight": Factors(lr=1 / heads),
        "down_proj.weight": Factors(lr=base.d_ff / config.d_ff),
        "_proj.weight": Factors(lr=1 / width),
        "model.norm.weight": Factors(1 / width, 1 / width),
        "model.norm.bias": Factors(lr=1 / width),
    }
    names = [name for name, _ in model.named_parameters()]
    return {name: next((found for end, found in by_kind.items() if name.endswith(end)), Factors()) for name in names}


@torch.no_grad()
def scale_init(model: GPT, base: GPTConfig) -> None:
    """Bring freshly drawn weights into the parametrisation, in place."""
    by_name = factors(model, base)
    for name, parameter in model.named_parameters():
        parameter.mul_(by_name[name].init)


def parameter_groups(model: GPT, lr: float, base: GPTConfig) -> list[dict[str, Any]]:
    """Groups for AdamW, one for each learning rate: {"params", "lr"}, where `lr` is the rate tuned at `base`."""
    by_name = factors(model, base)
    groups: dict[float, list[torch.nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        groups[by_name[name].lr].append(parameter)
    return [{"params": members, "lr": lr * factor} for factor, members in sorted(groups.items())]
