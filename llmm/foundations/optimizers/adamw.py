"""AdamW: Adam's step, and a weight decay that does not pass through its preconditioner.

Sources: Kingma and Ba 2014 (1412.6980), algorithm 1; Loshchilov and Hutter 2017 (1711.05101), algorithm 2.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import Optimizer


class AdamW(Optimizer):
    """m ← β₁m + (1-β₁)g,  v ← β₂v + (1-β₂)g²,  θ ← (1 - lr·wd)θ - lr · m̂ / (√v̂ + ε).

    The hats divide by 1 - βᵗ. All parameters of a group move together in multi-tensor (foreach) operations, since
    with many small parameters the cost of a step is the number of operations and not their size. `fused` leaves the
    arithmetic to torch's kernel, which reads and writes each number once: for the parameters of a large model.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        fused: bool = False,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "fused": fused})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        """Take one step with the gradients at hand; parameters without a gradient stay."""
        if closure is not None:
            raise ValueError("AdamW takes no closure")
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            for p in params:
                if not self.state[p]:
                    self.state[p] = {"step": 0, "mean": torch.zeros_like(p), "square": torch.zeros_like(p)}
            for p in params:
                self.state[p]["step"] += 1
            # parameters that began late (a head unfrozen in mid-run) have a count of their own
            move = self._move_fused if group["fused"] else self._move
            for step in sorted({self.state[p]["step"] for p in params}):
                move([p for p in params if self.state[p]["step"] == step], step, group)

    def _move(self, params: list[torch.Tensor], step: int, group: dict[str, Any]) -> None:
        (beta1, beta2), lr = group["betas"], group["lr"]
        grads = [p.grad for p in params]
        means = [self.state[p]["mean"] for p in params]
        squares = [self.state[p]["square"] for p in params]

        torch._foreach_lerp_(means, grads, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, grads, grads, 1 - beta2)

        denominators = torch._foreach_sqrt(squares)
        torch._foreach_div_(denominators, (1 - beta2**step) ** 0.5)
        torch._foreach_add_(denominators, group["eps"])
        if group["weight_decay"]:
            torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
        torch._foreach_addcdiv_(params, means, denominators, -lr / (1 - beta1**step))

    def _move_fused(self, params: list[torch.Tensor], step: int, group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        torch._fused_adamw_(
            params,
            [p.grad for p in params],
            [self.state[p]["mean"] for p in params],
            [self.state[p]["square"] for p in params],
            [],  # of AMSGrad
            [torch.tensor(float(step), device=params[0].device)] * len(params),
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )
