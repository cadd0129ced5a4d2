"""SOAP with matrices of one shape rotated, and their bases turned, as one batch.

Source: Vyas et al. 2024 (2409.11321), algorithm 3.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from llmm.foundations.optimizers.multi_tensor import MultiTensor, States, Tensors, column


class SOAP(MultiTensor):
    """`plain.soap` for matrices only: a ValueError for others, which an AdamW beside it moves the same way."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 3e-3,
        betas: tuple[float, float] = (0.95, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        every: int = 10,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "every": every}
        super().__init__(params, defaults)
        for group in self.param_groups:
            if wrong := [tuple(p.shape) for p in group["params"] if p.ndim != 2]:
                raise ValueError(f"SOAP moves matrices; found a parameter of shape {wrong[0]}")

    def begin(self, p: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        """Of a matrix (m, n): m and v of its shape, L and Q_L (m, m), R and Q_R (n, n)."""
        rows, columns = p.shape
        sides = {"L": rows, "Q_L": rows, "R": columns, "Q_R": columns}
        return {name: torch.zeros_like(p) for name in ("m", "v")} | {
            name: p.new_zeros(size, size) for name, size in sides.items()
        }

    def move(self, params: Tensors, grads: Tensors, states: States, t: int, group: dict[str, Any]) -> None:
        """One step of all `params`, in place."""
        torch._foreach_lerp_(column(states, "m"), grads, 1 - group["betas"][0])
        by_shape: dict[torch.Size, list[int]] = {}
        for i, p in enumerate(params):
            by_shape.setdefault(p.shape, []).append(i)
        for members in by_shape.values():
            chosen = [states[i] for i in members]
            steps = _steps(torch.stack([grads[i] for i in members]), chosen, t, group)
            moved = [params[i] for i in members]
            if group["weight_decay"]:
                torch._foreach_mul_(moved, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(moved, list(steps.unbind()), alpha=-group["lr"])


def _steps(G: Tensor, states: States, t: int, group: dict[str, Any]) -> Tensor:
    """Adam's directions in the eigenbases, turned back (N, m, n), for the gradients G (N, m, n) of one shape."""
    beta1, beta2 = group["betas"]
    v = column(states, "v")
    L = _accumulate(column(states, "L"), G @ G.mT, beta2)
    R = _accumulate(column(states, "R"), G.mT @ G, beta2)
    if t == 1:
        # eigenvalues falling, the order in which the iteration settles: README (29)
        Q_L, Q_R = (torch.linalg.eigh(M).eigenvectors.flip(-1) for M in (L, R))
        _store(states, Q_L, Q_R)
    else:
        Q_L, Q_R = torch.stack(column(states, "Q_L")), torch.stack(column(states, "Q_R"))

    m_rotated = Q_L.mT @ torch.stack(column(states, "m")) @ Q_R / (1 - beta1**t)
    v_hat = _accumulate(v, (Q_L.mT @ G @ Q_R).square(), beta2) / (1 - beta2**t)
    steps = Q_L @ (m_rotated / (v_hat.sqrt() + group["eps"])) @ Q_R.mT

    if t % group["every"] == 0:
        _store(states, torch.linalg.qr(L @ Q_L).Q, torch.linalg.qr(R @ Q_R).Q)
    return steps


def _accumulate(means: Tensors, values: Tensor, beta: float) -> Tensor:
    """mean ← β mean + (1-β) value for each of a batch of values (N, ...); the new means, stacked."""
    torch._foreach_lerp_(means, list(values.unbind()), 1 - beta)
    return torch.stack(means)


def _store(states: States, Q_L: Tensor, Q_R: Tensor) -> None:
    torch._foreach_copy_(column(states, "Q_L"), list(Q_L.unbind()))
    torch._foreach_copy_(column(states, "Q_R"), list(Q_R.unbind()))
