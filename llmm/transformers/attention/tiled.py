"""Tiled attention, forward and backward: exact, and never more than one tile of scores at a time. README, section 4.

The formula's T × S weights are an intermediate result that nobody asked for. Forward walks over tiles of keys with an
online softmax and keeps, beside the output, one number a query: its log-sum-exp. Backward rebuilds each tile of
weights from that number, p = exp(s - lse), uses it and drops it. More arithmetic, less memory: O(T) instead of O(T²).
Source: Dao et al. 2022 (2205.14135), algorithms 1 and 4; the log-sum-exp in place of two statistics is their sequel's.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from llmm.transformers.attention.heads import gather_heads, share_heads
from llmm.transformers.attention.online_softmax import Running
from llmm.transformers.attention.patterns import CAUSAL, Pattern

TILE = 128  # tokens on a side: on a CPU large enough to hide the loop, on a GPU what fits into shared memory


def tiled_attention(
    query_BHTd: Tensor, key_BKSd: Tensor, value_BKSe: Tensor, pattern: Pattern = CAUSAL, tile: int = TILE
) -> Tensor:
    """softmax(q kᵀ / √d + bias) v, (B, H, T, e), in O(T + S) memory, forward and backward; once differentiable.

    The T queries are the last T of S positions; `pattern` says who sees whom. K key heads, K dividing H. Sums are kept
    in float32 at least. A query that may see no key gets zeros, and gives no gradient. Raises ValueError where S < T.
    """
    if key_BKSd.shape[2] < query_BHTd.shape[2]:
        raise ValueError(f"{query_BHTd.shape[2]} queries are more than the {key_BKSd.shape[2]} positions of the keys")
    return _Tiled.apply(query_BHTd, key_BKSd, value_BKSe, pattern, tile)


def tiled_forward(
    query_BHTd: Tensor, key_BKSd: Tensor, value_BKSe: Tensor, pattern: Pattern, tile: int
) -> tuple[Tensor, Tensor]:
    """Output (B, H, T, e) and the log-sum-exp of each query's scores, (B, H, T)."""
    B, H, T, _ = query_BHTd.shape
    output_BHTe = query_BHTd.new_empty(B, H, T, value_BKSe.shape[-1])
    lse_BHT = query_BHTd.new_empty(B, H, T, dtype=_wide(query_BHTd.dtype))
    for rows in _tiles(T, tile):
        query = query_BHTd[:, :, rows].to(lse_BHT.dtype)
        running = Running.nothing((*query.shape[:-1], value_BKSe.shape[-1]), query)
        for columns in _tiles(key_BKSd.shape[2], tile):
            if (scores := _scores(query, key_BKSd, rows, columns, pattern, T)) is not None:
                value = share_heads(value_BKSe[:, :, columns].to(query.dtype), H)
                running = running.merge(Running.over(scores, value))
        output_BHTe[:, :, rows] = running.output().to(output_BHTe.dtype)
        lse_BHT[:, :, rows] = running.log_sum_exp()
    return output_BHTe, lse_BHT


def tiled_backward(
    grad_BHTe: Tensor,
    query_BHTd: Tensor,
    key_BKSd: Tensor,
    value_BKSe: Tensor,
    output_BHTe: Tensor,
    lse_BHT: Tensor,
    pattern: Pattern,
    tile: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and value, equations (3.1) to (3.5) on rebuilt tiles of weights."""
    H, K, T, S = query_BHTd.shape[1], key_BKSd.shape[1], query_BHTd.shape[2], key_BKSd.shape[2]
    wide, scale = lse_BHT.dtype, query_BHTd.shape[-1] ** -0.5
    grad_query_BHTd = torch.zeros_like(query_BHTd, dtype=wide)
    grad_key_BKSd, grad_value_BKSe = (torch.zeros_like(x, dtype=wide) for x in (key_BKSd, value_BKSe))
    # Σ_j p_ij dp_ij without any p: it is the product of the output with its gradient (4.4)
    delta_BHT = (grad_BHTe.to(wide) * output_BHTe.to(wide)).sum(-1)
    unit_BHT = lse_BHT.masked_fill(lse_BHT == -torch.inf, 0.0)  # rows that saw no key: exp(-inf - 0) = 0

    for rows in _tiles(T, tile):
        query, grad = query_BHTd[:, :, rows].to(wide), grad_BHTe[:, :, rows].to(wide)
        for columns in _tiles(S, tile):
            if (scores := _scores(query, key_BKSd, rows, columns, pattern, T)) is None:
                continue
            key, value = (share_heads(x[:, :, columns].to(wide), H) for x in (key_BKSd, value_BKSe))
            weights = (scores - unit_BHT[:, :, rows, None]).exp()
            grad_scores = weights * (grad @ value.mT - delta_BHT[:, :, rows, None])
            grad_query_BHTd[:, :, rows] += scale * grad_scores @ key
            grad_key_BKSd[:, :, columns] += gather_heads(scale * grad_scores.mT @ query, K)
            grad_value_BKSe[:, :, columns] += gather_heads(weights.mT @ grad, K)
    return (
        grad_query_BHTd.to(query_BHTd.dtype),
        grad_key_BKSd.to(key_BKSd.dtype),
        grad_value_BKSe.to(value_BKSe.dtype),
    )


class _Tiled(torch.autograd.Function):
    """Saves the inputs, the output and the log-sum-exp: everything of size O(T)."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, pattern: Pattern, tile: int) -> Tensor:
        output, lse = tiled_forward(query, key, value, pattern, tile)
        ctx.save_for_backward(query, key, value, output, lse)
        ctx.pattern, ctx.tile = pattern, tile
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, output, lse = ctx.saved_tensors
        return *tiled_backward(grad, query, key, value, output, lse, ctx.pattern, ctx.tile), None, None


def _scores(query: Tensor, key_BKSd: Tensor, rows: slice, columns: slice, pattern: Pattern, T: int) -> Tensor | None:
    """One tile of q kᵀ / √d + bias, (B, H, rows, columns); None where the pattern hides all of it."""
    offset = key_BKSd.shape[2] - T  # the queries stand at the end of the keys' positions
    queries, keys = range(rows.start + offset, rows.stop + offset), range(columns.start, columns.stop)
    if pattern.hides(queries, keys):
        return None
    key = share_heads(key_BKSd[:, :, columns].to(query.dtype), query.shape[1])
    queries_T, keys_S = (torch.arange(r.start, r.stop, device=query.device) for r in (queries, keys))
    return (query * query.shape[-1] ** -0.5) @ key.mT + pattern.bias(queries_T, keys_S, query.dtype)


def _tiles(length: int, tile: int) -> Iterator[slice]:
    for start in range(0, length, tile):
        yield slice(start, min(start + tile, length))


def _wide(dtype: torch.dtype) -> torch.dtype:
    """Where sums are kept: float32 for the half precisions, else the dtype itself."""
    return torch.promote_types(dtype, torch.float32)
