"""Which of torch's optimizers each of ours must agree with, and how torch's Muon is made to compute in float64."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from llmm.foundations.optimizers import AdamW, Muon, plain
from llmm.foundations.optimizers.foreach import SGD, Adam, Lion, RMSProp
from llmm.foundations.optimizers.one_by_one import OneByOne
from llmm.foundations.optimizers.schedule_free import ScheduleFreeAdamW
from llmm.foundations.optimizers.soap import SOAP

Make = Callable[[list[Tensor]], Any]


def by_rule(rule: Callable[..., Tensor], **hyperparameters: Any) -> Make:
    """Builds the plain optimizer of `rule`."""
    return lambda params: OneByOne(params, rule, **hyperparameters)


# name -> the rule, the fast version, torch's own; all with settings that are no one's defaults
TORCH: dict[str, tuple[Make, Make, Make]] = {
    "sgd": (
        by_rule(plain.sgd, lr=0.05, weight_decay=0.1),
        lambda p: SGD(p, lr=0.05, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, lr=0.05, weight_decay=0.1),
    ),
    "momentum": (
        by_rule(plain.momentum, lr=0.03, mu=0.8, weight_decay=0.1),
        lambda p: SGD(p, lr=0.03, momentum=0.8, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, lr=0.03, momentum=0.8, weight_decay=0.1),
    ),
    "nesterov": (
        by_rule(plain.nesterov, lr=0.03, mu=0.8, weight_decay=0.1),
        lambda p: SGD(p, lr=0.03, momentum=0.8, nesterov=True, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, lr=0.03, momentum=0.8, nesterov=True, weight_decay=0.1),
    ),
    "rmsprop": (
        by_rule(plain.rmsprop, lr=0.004, alpha=0.9, eps=1e-3, weight_decay=0.1),
        lambda p: RMSProp(p, lr=0.004, alpha=0.9, eps=1e-3, weight_decay=0.1),
        lambda p: torch.optim.RMSprop(p, lr=0.004, alpha=0.9, eps=1e-3, weight_decay=0.1),
    ),
    "adam": (
        by_rule(plain.adam, lr=0.01, beta1=0.8, beta2=0.95, eps=1e-3, weight_decay=0.1),
        lambda p: Adam(p, lr=0.01, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1),
        lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1),
    ),
    "adamw": (
        by_rule(plain.adamw, lr=0.01, beta1=0.8, beta2=0.95, eps=1e-3, weight_decay=0.3),
        lambda p: AdamW(p, lr=0.01, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.3),
        lambda p: torch.optim.AdamW(p, lr=0.01, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.3),
    ),
    "adamw_fused": (
        by_rule(plain.adamw, lr=0.01, beta1=0.8, beta2=0.95, eps=1e-3, weight_decay=0.3),
        lambda p: AdamW(p, lr=0.01, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.3, fused=True),
        lambda p: torch.optim.AdamW(p, lr=0.01, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.3, fused=True),
    ),
    "amsgrad": (
        by_rule(plain.amsgrad, lr=0.01, beta1=0.8, beta2=0.95, eps=1e-3),
        lambda p: Adam(p, lr=0.01, betas=(0.8, 0.95), eps=1e-3, amsgrad=True),
        lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.8, 0.95), eps=1e-3, amsgrad=True),
    ),
}

MUON: tuple[Make, Make, Make] = (
    by_rule(plain.muon, lr=0.003, mu=0.9, weight_decay=0.1),
    lambda p: Muon(p, lr=0.003, momentum=0.9, weight_decay=0.1, dtype=torch.float64),
    lambda p: torch.optim.Muon(p, lr=0.003, momentum=0.9, weight_decay=0.1),
)
# ours divides by ‖G‖ + 1e-7, torch by max(‖G‖, 1e-7): the same in float64 once 1e-7 is below its last digit beside ‖G‖
MUON_LOSS_SCALE = 1e10

# those that torch does not have: the rule and the fast version
MATRICES_ONLY = ("muon", "muon_schatten4", "normuon", "soap")
OTHERS: dict[str, tuple[Make, Make]] = {
    "lion": (
        by_rule(plain.lion, lr=0.003, beta1=0.8, beta2=0.95, weight_decay=0.3),
        lambda p: Lion(p, lr=0.003, betas=(0.8, 0.95), weight_decay=0.3),
    ),
    "muon_schatten4": (
        by_rule(plain.muon, lr=0.003, mu=0.9, weight_decay=0.1, newton_schulz_steps=2, norm="schatten4"),
        lambda p: Muon(p, 0.003, 0.9, 0.1, newton_schulz_steps=2, norm="schatten4", dtype=torch.float64),
    ),
    "normuon": (
        by_rule(plain.normuon, lr=0.003, mu=0.9, beta2=0.8, weight_decay=0.1),
        lambda p: Muon(p, 0.003, 0.9, 0.1, dtype=torch.float64, neuron_beta=0.8),
    ),
    "soap": (
        by_rule(plain.soap, lr=0.01, beta1=0.8, beta2=0.9, eps=1e-3, weight_decay=0.3, every=7),
        lambda p: SOAP(p, lr=0.01, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.3, every=7),
    ),
    "schedule_free_adamw": (
        by_rule(plain.schedule_free_adamw, lr=0.01, beta1=0.8, beta2=0.95, eps=1e-3, weight_decay=0.3, warmup_steps=9),
        lambda p: ScheduleFreeAdamW(p, lr=0.01, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.3, warmup_steps=9),
    ),
}


@contextlib.contextmanager
def torch_muon_without_rounding() -> Iterator[None]:
    """Within it torch.optim.Muon iterates in the precision of the gradient instead of bfloat16.

    Its code rounds in one place, `grad.bfloat16()`. Here that call returns a copy in the tensor's own type; every line
    that runs is still torch's. With the rounding the two can only be compared to about two digits.
    """
    rounding = torch.Tensor.bfloat16
    torch.Tensor.bfloat16 = torch.Tensor.clone
    try:
        yield
    finally:
        torch.Tensor.bfloat16 = rounding
