"""Root-mean-square normalisation with its backward pass by hand: scale each token's vector to length √D, keep its mean.

One direction is lost instead of layer normalisation's two, the length; so backward projects out one (README,
equation 2.7). Without a mean to subtract there is no bias to add either.

Source: Zhang and Sennrich 2019 (1910.07467), equation 4.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def rms_norm(x: Tensor, gain_D: Tensor, eps: float = 1e-6) -> Tensor:
    """gain * x / √(mean(x²) + eps) over the last dimension of x (..., D), which it keeps in shape.

    Differentiable once in `x` and in `gain_D` (D,); a second derivative raises RuntimeError.
    """
    return _RMSNorm.apply(x, gain_D, eps)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain_D: Tensor, eps: float) -> Tensor:
        rstd = (x.square().mean(-1, keepdim=True) + eps).rsqrt()
        ctx.save_for_backward(x, rstd, gain_D)  # x is kept by its maker anyway: only one number a row is new
        return x * rstd * gain_D

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, rstd, gain_D = ctx.saved_tensors
        normed = x * rstd
        scaled = grad * gain_D
        along_normed = normed * (scaled * normed).mean(-1, keepdim=True)
        return rstd * (scaled - along_normed), (grad * normed).sum_to_size(gain_D.shape), None


class RMSNorm(nn.Module):
    """`rms_norm` with a gain of shape (d_model,), called `weight`, that starts at 1."""

    def __init__(self, d_model: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each vector along the last dimension."""
        return rms_norm(x, self.weight, self.eps)
