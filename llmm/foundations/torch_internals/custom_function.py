"""Softmax cross-entropy as one node of the graph: a hand-written backward that can itself be differentiated.

Written op by op, autograd keeps the shifted logits, their exponentials and the probabilities for the backward pass:
three arrays of N x V. One node needs the logits, which are there already, and N numbers: the log-sum-exp of each row.
The rule that makes second derivatives right: *keep inputs and outputs, never something in between*. What is saved
re-enters the graph in backward as itself; an intermediate would re-enter as a constant, and its share of the second
derivative would be lost without an error. So the log-sum-exp is an output (README, equations 5 to 7).
"""

from typing import Any

import torch
from torch import Tensor


class _SoftmaxCrossEntropy(torch.autograd.Function):
    """Loss and log-sum-exp of each row; `forward` runs below autograd, so nothing in it is recorded."""

    generate_vmap_rule = (
        True  # torch.func.vmap, hessian and jacfwd push through: all of it is made of PyTorch's own ops
    )

    @staticmethod
    def forward(logits_NV: Tensor, target_N: Tensor) -> tuple[Tensor, Tensor]:
        top_N = logits_NV.amax(-1)  # without it exp overflows at logits of 89 (float32) or 710 (float64)
        rest_N = (logits_NV - top_N[:, None]).exp().sum(-1).log()
        # not lse - picked: two large numbers, whose difference would be left with few digits
        return rest_N + (top_N - _picked(logits_NV, target_N)), top_N + rest_N

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, Tensor]) -> None:
        logits_NV, target_N = inputs
        ctx.save_for_backward(logits_NV, target_N, output[1])
        ctx.save_for_forward(logits_NV, target_N, output[1])

    @staticmethod
    def backward(ctx: Any, grad_loss_N: Tensor, grad_lse_N: Tensor) -> tuple[Tensor, None]:
        """Equation (6): dz = (dl + dm) p - dl y, with p rebuilt from what was saved."""
        logits_NV, target_N, lse_N = ctx.saved_tensors
        probabilities_NV = (logits_NV - lse_N[:, None]).exp()
        scaled_NV = (grad_loss_N + grad_lse_N)[:, None] * probabilities_NV
        return scaled_NV.scatter_add(-1, target_N[:, None], -grad_loss_N[:, None]), None

    @staticmethod
    def jvp(ctx: Any, tangent_NV: Tensor, _: None) -> tuple[Tensor, Tensor]:
        """Forward mode, equation (7): the log-sum-exp moves by p . t, the loss by that less the target's t."""
        logits_NV, target_N, lse_N = ctx.saved_tensors
        moved_N = ((logits_NV - lse_N[:, None]).exp() * tangent_NV).sum(-1)
        return moved_N - _picked(tangent_NV, target_N), moved_N


def cross_entropy(logits_NV: Tensor, target_N: Tensor) -> tuple[Tensor, Tensor]:
    """(loss_N, lse_N): -log softmax(logits)[target] of each row and the row's log-sum-exp, both differentiable.

    logits_NV floating (N, V), target_N int64 (N,) in [0, V). Logits of +-1000 give no inf and no NaN. Backward keeps
    logits, targets and lse only; first and second derivatives are right in reverse mode, first ones in forward mode.
    The log-sum-exp is there for penalties on it (PaLM's z-loss, 1e-4 * lse^2). Raises ValueError for other shapes.
    """
    if logits_NV.ndim != 2 or target_N.shape != logits_NV.shape[:1]:
        raise ValueError(f"logits (N, V) and target (N,), not {tuple(logits_NV.shape)} and {tuple(target_N.shape)}")
    loss_N, lse_N = _SoftmaxCrossEntropy.apply(logits_NV, target_N)
    return loss_N, lse_N


def cross_entropy_op_by_op(logits_NV: Tensor, target_N: Tensor) -> tuple[Tensor, Tensor]:
    """The same from single ops, each with its node: the plain version that the fused one is compared with."""
    top_N = logits_NV.amax(-1)
    exponentials_NV = (logits_NV - top_N[:, None]).exp()
    total_N = exponentials_NV.sum(-1)
    loss_N = -(exponentials_NV / total_N[:, None]).gather(-1, target_N[:, None]).squeeze(-1).log()
    return loss_N, top_N + total_N.log()


def _picked(values_NV: Tensor, target_N: Tensor) -> Tensor:
    return values_NV.gather(-1, target_N[:, None]).squeeze(-1)
