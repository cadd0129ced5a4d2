"""Layer normalisation with its backward pass by hand: centre each token's vector, then scale it to length √D.

The output forgets the mean and the length of its input. So no gradient can flow along these two directions: backward
projects them out and divides by the length that forward divided by (README, equations 2.3 and 2.4).

Source: Ba, Kiros and Hinton 2016 (1607.06450), equation 4.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def layer_norm(x: Tensor, gain_D: Tensor, bias_D: Tensor, eps: float = 1e-5) -> Tensor:
    """gain * (x - mean) / √(variance + eps) + bias over the last dimension of x (..., D), which it keeps in shape.

    The variance is the mean of the squared distances from the mean, dividing by D. Differentiable once in `x`, `gain_D`
    and `bias_D`, both of shape (D,); a second derivative raises RuntimeError, where autograd would give a wrong one.
    """
    return _LayerNorm.apply(x, gain_D, bias_D, eps)


class _LayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain_D: Tensor, bias_D: Tensor, eps: float) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        # not mean(x²) - mean(x)²: far from zero these are two large numbers with few digits between them
        rstd = (centred.square().mean(-1, keepdim=True) + eps).rsqrt()
        normed = centred * rstd
        ctx.save_for_backward(normed, rstd, gain_D)
        return normed * gain_D + bias_D

    @staticmethod
    @once_differentiable  # what is saved lies between input and output and would re-enter the graph as a constant
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        normed, rstd, gain_D = ctx.saved_tensors
        scaled = grad * gain_D
        along_ones = scaled.mean(-1, keepdim=True)
        along_normed = normed * (scaled * normed).mean(-1, keepdim=True)
        grad_x = rstd * (scaled - along_ones - along_normed)
        return grad_x, (grad * normed).sum_to_size(gain_D.shape), grad.sum_to_size(gain_D.shape), None


class LayerNorm(nn.Module):
    """`layer_norm` with a gain (called `weight`, starts at 1) and a bias (starts at 0), both of shape (d_model,)."""

    def __init__(self, d_model: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each vector along the last dimension."""
        return layer_norm(x, self.weight, self.bias, self.eps)
