"""Schedule-Free AdamW with one buffer less than its definition: the average x is never stored.

Source: Defazio et al. 2024 (2405.15682), algorithm 1.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from llmm.foundations.optimizers.multi_tensor import MultiTensor, States, Tensors, column


class ScheduleFreeAdamW(MultiTensor):
    """`plain.schedule_free_adamw` in multi-tensor operations; `eval()` before evaluating, `train()` before going on.

    The parameters hold y, where gradients are taken, and the state holds z. Since y = (1-β₁) z + β₁ x, both give x, and
    eliminating it from the three updates leaves, README (31),

        y ← (1-c) y + c z - lr_t (1 - β₁(1-c)) d,    z ← z - lr_t d,    d = g / (√v + ε) + λy.

    Raises ValueError for β₁ = 0, where y says nothing about x, and RuntimeError for a step taken in evaluation mode.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2.5e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        warmup_steps: int = 0,
    ) -> None:
        if not 0 < betas[0] <= 1:
            raise ValueError(f"beta1 is {betas[0]}; it must be above 0 and at most 1")
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "warmup_steps": warmup_steps}
        super().__init__(params, defaults | {"training": True})

    def begin(self, p: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        """v, the running mean of g², and z, which begins where y does."""
        return {"v": torch.zeros_like(p), "z": p.clone()}

    def move(self, params: Tensors, grads: Tensors, states: States, t: int, group: dict[str, Any]) -> None:
        """One step of all `params`, in place."""
        if not group["training"]:
            raise RuntimeError("the parameters hold the average: call train() before the next step")
        v, z = column(states, "v"), column(states, "z")
        beta1, beta2 = group["betas"]
        torch._foreach_mul_(v, beta2)
        torch._foreach_addcmul_(v, grads, grads, 1 - beta2)
        denominators = torch._foreach_sqrt(v)
        torch._foreach_add_(denominators, group["eps"])
        directions = torch._foreach_div(grads, denominators)
        if group["weight_decay"]:
            torch._foreach_add_(directions, params, alpha=group["weight_decay"])

        warm = min(1.0, t / group["warmup_steps"]) if group["warmup_steps"] else 1.0
        lr = group["lr"] * math.sqrt(1 - beta2**t) * warm
        squares = states[0].get("lr_squares", 0.0) + lr**2
        for state in states:
            state["lr_squares"] = squares
        c = lr**2 / squares if squares else 1.0  # a schedule may begin at a rate of zero
        torch._foreach_lerp_(params, z, c)
        torch._foreach_add_(params, directions, alpha=-lr * (1 - beta1 * (1 - c)))
        torch._foreach_add_(z, directions, alpha=-lr)

    @torch.no_grad()
    def eval(self) -> None:
        """Put the average x = z + (y - z) / β₁ into the parameters; no effect where it is there."""
        self._switch(False, lambda beta1: 1 - 1 / beta1)

    @torch.no_grad()
    def train(self) -> None:
        """Put y = x + (1-β₁)(z - x) back into the parameters; no effect where it is there."""
        self._switch(True, lambda beta1: 1 - beta1)

    def _switch(self, training: bool, weight_of_z: Any) -> None:
        for group in self.param_groups:
            if group["training"] != training:
                moved = [p for p in group["params"] if self.state[p]]
                if moved:
                    torch._foreach_lerp_(moved, [self.state[p]["z"] for p in moved], weight_of_z(group["betas"][0]))
                group["training"] = training
