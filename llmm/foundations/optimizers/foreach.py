"""The element-wise rules of plain.py as multi-tensor operations, sorted as there. AdamW has adamw.py to itself."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from llmm.foundations.optimizers.multi_tensor import MultiTensor, States, Tensors, column


class SGD(MultiTensor):
    """`plain.sgd` (momentum 0), `plain.momentum`, or, with `nesterov`, `plain.nesterov`; `weight_decay` is L2.

    Raises ValueError for `nesterov` without momentum.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        if nesterov and not momentum:
            raise ValueError("nesterov is a kind of momentum: give a momentum above 0")
        defaults = {"lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    def begin(self, p: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        """b, where there is momentum."""
        return {"b": torch.zeros_like(p)} if group["momentum"] else {}

    def move(self, params: Tensors, grads: Tensors, states: States, t: int, group: dict[str, Any]) -> None:
        """One step of all `params`, in place."""
        steps = _with_l2(grads, params, group["weight_decay"])
        if group["momentum"]:
            b = column(states, "b")
            torch._foreach_mul_(b, group["momentum"])
            torch._foreach_add_(b, steps)
            steps = torch._foreach_add(steps, b, alpha=group["momentum"]) if group["nesterov"] else b
        torch._foreach_add_(params, steps, alpha=-group["lr"])


class RMSProp(MultiTensor):
    """`plain.rmsprop`: g / (√v + ε), v without bias correction; `weight_decay` is L2."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.01,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay})

    def begin(self, p: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        """v, the running mean of g²."""
        return {"v": torch.zeros_like(p)}

    def move(self, params: Tensors, grads: Tensors, states: States, t: int, group: dict[str, Any]) -> None:
        """One step of all `params`, in place."""
        v = column(states, "v")
        grads = _with_l2(grads, params, group["weight_decay"])
        torch._foreach_mul_(v, group["alpha"])
        torch._foreach_addcmul_(v, grads, grads, 1 - group["alpha"])
        denominators = torch._foreach_sqrt(v)
        torch._foreach_add_(denominators, group["eps"])
        torch._foreach_addcdiv_(params, grads, denominators, -group["lr"])


class Adam(MultiTensor):
    """`plain.adam`, or, with `amsgrad`, `plain.amsgrad`; `weight_decay` is L2."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad}
        super().__init__(params, defaults)

    def begin(self, p: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        """m and v, and the largest v so far where it is needed."""
        names = ["m", "v", "v_max"] if group["amsgrad"] else ["m", "v"]
        return {name: torch.zeros_like(p) for name in names}

    def move(self, params: Tensors, grads: Tensors, states: States, t: int, group: dict[str, Any]) -> None:
        """One step of all `params`, in place."""
        m, v = column(states, "m"), column(states, "v")
        beta1, beta2 = group["betas"]
        grads = _with_l2(grads, params, group["weight_decay"])
        torch._foreach_lerp_(m, grads, 1 - beta1)
        torch._foreach_mul_(v, beta2)
        torch._foreach_addcmul_(v, grads, grads, 1 - beta2)
        if group["amsgrad"]:
            v_max = column(states, "v_max")
            torch._foreach_maximum_(v_max, v)
            v = v_max
        # √v̂ = √v / √(1-β₂ᵗ), and m̂'s divisor goes into the rate: two scalars in place of two passes over memory
        denominators = torch._foreach_sqrt(v)
        torch._foreach_div_(denominators, (1 - beta2**t) ** 0.5)
        torch._foreach_add_(denominators, group["eps"])
        torch._foreach_addcdiv_(params, m, denominators, -group["lr"] / (1 - beta1**t))


class Lion(MultiTensor):
    """`plain.lion`: the sign of an interpolation, decoupled decay, one slot of memory."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    def begin(self, p: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        """m, the slow mean of g."""
        return {"m": torch.zeros_like(p)}

    def move(self, params: Tensors, grads: Tensors, states: States, t: int, group: dict[str, Any]) -> None:
        """One step of all `params`, in place."""
        m = column(states, "m")
        beta1, beta2 = group["betas"]
        steps = torch._foreach_lerp(m, grads, 1 - beta1)
        torch._foreach_sign_(steps)
        torch._foreach_lerp_(m, grads, 1 - beta2)
        if group["weight_decay"]:
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(params, steps, alpha=-group["lr"])


def _with_l2(grads: Tensors, params: Tensors, weight_decay: float) -> Tensors:
    """g + λw, the gradients of the loss with the penalty λ/2 ‖w‖²."""
    return list(torch._foreach_add(grads, params, alpha=weight_decay)) if weight_decay else grads
