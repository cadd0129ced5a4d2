"""RMSNorm as an operator of PyTorch's own: a schema, a kernel, a shape function and a derivative under one name.

An `autograd.Function` is a node that only autograd knows. An operator goes through the dispatcher, so that everything
else that dispatches (compile, export, fake tensors, modes, autocast) knows it as well; what each needs is registered
apart:

- `custom_op`: the schema from the annotations, and the kernel that computes;
- `register_fake`: shapes, strides and dtypes without data, which is what tracing runs;
- `register_autograd`: what to keep and the vector-Jacobian product, in ops that can be differentiated again.

`torch.library.opcheck` tests the registrations against each other. Derivation: README, equations (8) to (10).
"""

from typing import Any

import torch
from torch import Tensor


@torch.library.custom_op("llmm::rms_norm", mutates_args=())
def _rms_norm_op(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """y (..., D) = x * r * weight and r (..., 1) = (mean(x^2) + eps)^(-1/2) of each row; x (..., D), weight (D,)."""
    x = x.contiguous()  # the strides of the result must be those that the fake kernel promises
    rstd = (x.square().mean(-1, keepdim=True) + eps).rsqrt()
    return x * rstd * weight, rstd


@_rms_norm_op.register_fake
def _(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty((*x.shape[:-1], 1))


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, float], output: tuple[Tensor, Tensor]) -> None:
    x, weight, _ = inputs
    ctx.save_for_backward(x, weight, output[1])


def _vjp(ctx: Any, grad_y: Tensor, grad_rstd: Tensor) -> tuple[Tensor, Tensor, None]:
    """Equations (9) and (10). `grad_rstd` is zero in a first backward; a second one sends gradients here."""
    x, weight, rstd = ctx.saved_tensors
    normed = x * rstd
    weighted = grad_y * weight
    grad_x = rstd * (weighted - normed * (weighted * normed).mean(-1, keepdim=True))
    grad_x = grad_x - grad_rstd * rstd.square() * normed / x.shape[-1]
    return grad_x, (grad_y * normed).sum_to_size(weight.shape), None


_rms_norm_op.register_autograd(_vjp, setup_context=_keep)


def rms_norm(x: Tensor, weight: Tensor, eps: float = 1e-6) -> tuple[Tensor, Tensor]:
    """(y, rstd) by the operator `torch.ops.llmm.rms_norm`, which this module registers, with a fake and a derivative.

    x floating (..., D), weight (D,) of the same dtype; y = x * rstd * weight (..., D), contiguous, and
    rstd = (mean over D of x^2 + eps)^(-1/2) (..., 1). Both can be differentiated twice by x and weight. The schema is
    `rms_norm(Tensor x, Tensor weight, float eps) -> (Tensor, Tensor)`. Raises ValueError where the weight does not fit.
    """
    if x.ndim == 0 or weight.shape != x.shape[-1:]:
        raise ValueError(f"weight {tuple(weight.shape)} does not fit the last dimension of x {tuple(x.shape)}")
    y, rstd = torch.ops.llmm.rms_norm(x, weight, eps)
    return y, rstd
