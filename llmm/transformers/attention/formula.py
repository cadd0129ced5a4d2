"""Scaled dot-product attention as its formula stands, and its backward by hand. README, sections 1 to 3.

    attention(q, k, v) = softmax(q kᵀ / √d + bias) v

Every query asks every key how well they match and takes the mean of the values, weighted by the answers. This version
writes all T × S answers down: plain, the referee of the fast ones, and what one looks at to see what a head does.
Source: Vaswani et al. 2017 (1706.03762), equation 1.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from llmm.transformers.attention.heads import gather_heads, share_heads


def softmax(scores: Tensor) -> Tensor:
    """exp(s) / Σ exp(s) along the last axis; a row of nothing but -inf, a query that may see no key, gives zeros.

    Subtracting the row's largest score changes nothing and keeps exp below 1: (2.1).
    """
    top = scores.detach().amax(-1, keepdim=True)
    top = top.masked_fill(top == -torch.inf, 0.0)  # -inf - -inf would be NaN
    exponentials = (scores - top).exp()
    total = exponentials.sum(-1, keepdim=True)
    return exponentials / total.masked_fill(total == 0, 1.0)


def softmax_backward(grad_weights: Tensor, weights: Tensor) -> Tensor:
    """The scores' gradient p ∘ (g - Σ p g), equation (2.4): the Jacobian diag(p) - p pᵀ applied and never built."""
    return weights * (grad_weights - (weights * grad_weights).sum(-1, keepdim=True))


def attention(
    query_BHTd: Tensor, key_BKSd: Tensor, value_BKSe: Tensor, bias: Tensor | None = None, scale: float | None = None
) -> tuple[Tensor, Tensor]:
    """Output (B, H, T, e) and weights (B, H, T, S); K key heads, K dividing H, each read by H / K query heads.

    `bias` is added to the scores and broadcasts to (B, H, T, S): -inf hides a key, ALiBi adds its slopes. `scale` is
    1 / √d unless it is given. A query that may see no key gets an output of zeros.
    """
    H, d = query_BHTd.shape[1], query_BHTd.shape[-1]
    scale = d**-0.5 if scale is None else scale
    scores_BHTS = (query_BHTd * scale) @ share_heads(key_BKSd, H).mT
    if bias is not None:
        scores_BHTS = scores_BHTS + bias
    weights_BHTS = softmax(scores_BHTS)
    return weights_BHTS @ share_heads(value_BKSe, H), weights_BHTS


def attention_backward(
    grad_BHTe: Tensor,
    query_BHTd: Tensor,
    key_BKSd: Tensor,
    value_BKSe: Tensor,
    weights_BHTS: Tensor,
    scale: float | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of query, key, value and scores from that of the output, equations (3.1) to (3.5).

    `weights_BHTS` is what `attention` returned beside the output. The scores' gradient (B, H, T, S) is also that of a
    bias, once summed over the axes along which the bias was broadcast.
    """
    H, K, d = query_BHTd.shape[1], key_BKSd.shape[1], query_BHTd.shape[-1]
    scale = d**-0.5 if scale is None else scale
    grad_value_BHSe = weights_BHTS.mT @ grad_BHTe
    grad_weights_BHTS = grad_BHTe @ share_heads(value_BKSe, H).mT
    grad_scores_BHTS = softmax_backward(grad_weights_BHTS, weights_BHTS)
    grad_query_BHTd = scale * grad_scores_BHTS @ share_heads(key_BKSd, H)
    grad_key_BHSd = scale * grad_scores_BHTS.mT @ query_BHTd
    return grad_query_BHTd, gather_heads(grad_key_BHSd, K), gather_heads(grad_value_BHSe, K), grad_scores_BHTS


class _ByHand(torch.autograd.Function):
    """`attention` with `attention_backward` in autograd's place."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
        output, weights = attention(query, key, value, bias)
        ctx.save_for_backward(query, key, value, weights)
        ctx.bias_shape = None if bias is None else bias.shape
        return output

    @staticmethod
    @once_differentiable  # the weights are saved as a constant: a second derivative would be silently wrong
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        *grads, grad_scores = attention_backward(grad, *ctx.saved_tensors)
        grad_bias = None if ctx.bias_shape is None else grad_scores.sum_to_size(ctx.bias_shape)
        return *grads, grad_bias


def attention_by_hand(query_BHTd: Tensor, key_BKSd: Tensor, value_BKSe: Tensor, bias: Tensor | None = None) -> Tensor:
    """The output of `attention`, (B, H, T, e), with `attention_backward` for a backward; once differentiable."""
    return _ByHand.apply(query_BHTd, key_BKSd, value_BKSe, bias)
