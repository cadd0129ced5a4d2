"""Multi-head, grouped-query and multi-query attention: one module, one number apart. README, section 6.

Several heads look at several places at once. With fewer key and value heads than query heads the cache shrinks by the
same factor, and so does what a decoding step has to read from memory.
Sources: Vaswani et al. 2017 (1706.03762), section 3.2.2; Ainslie et al. 2023 (2305.13245).
"""

import torch
from torch import Tensor, nn

from llmm.transformers.attention.formula import attention
from llmm.transformers.attention.heads import join_heads, split_heads
from llmm.transformers.attention.kv_cache import LayerCache
from llmm.transformers.attention.patterns import CAUSAL, Pattern
from llmm.transformers.attention.rope import rotate
from llmm.transformers.attention.rope_relative import rope_at
from llmm.transformers.attention.window_cache import WindowCache


class MultiHeadAttention(nn.Module):
    """x (B, T, D) → (B, T, D). `n_kv_head` = `n_head` is multi-head attention, 1 multi-query, between them grouped.

    Linear layers q_proj, k_proj, v_proj, o_proj without biases, heads of D / n_head channels; with `rope_theta` queries
    and keys are rotated by their positions. Written to be read and looked into: see `attention.py` for the one that
    the pipeline trains.
    """

    def __init__(
        self,
        d_model: int,
        n_head: int,
        n_kv_head: int | None = None,
        pattern: Pattern = CAUSAL,
        rope_theta: float | None = None,
    ) -> None:
        """Raises ValueError where the heads do not divide the width or the key heads the heads."""
        super().__init__()
        self.n_head, self.n_kv_head = n_head, n_head if n_kv_head is None else n_kv_head
        if d_model % n_head or n_head % self.n_kv_head:
            raise ValueError(
                f"{d_model} channels, {n_head} heads, {self.n_kv_head} key heads: each must divide the last"
            )
        self.pattern, self.rope_theta = pattern, rope_theta
        d_head = d_model // n_head
        self.q_proj = nn.Linear(d_model, n_head * d_head, bias=False)
        self.k_proj = nn.Linear(d_model, self.n_kv_head * d_head, bias=False)
        self.v_proj = nn.Linear(d_model, self.n_kv_head * d_head, bias=False)
        self.o_proj = nn.Linear(n_head * d_head, d_model, bias=False)

    def forward(self, x_BTD: Tensor, cache: LayerCache | WindowCache | None = None) -> Tensor:
        """Attend. With a `cache`, x_BTD are the tokens after those it holds, and is added to it."""
        mixed_BHTd, _ = self.look(x_BTD, cache)
        return self.o_proj(join_heads(mixed_BHTd))

    def look(
        self, x_BTD: Tensor, cache: LayerCache | WindowCache | None = None, extra: Tensor | float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """What each head found, (B, H, T, d), and where it looked, (B, H, T, S): `forward` before `o_proj`.

        `extra` is added to the pattern's bias, so that an experiment can hide more: it broadcasts to (B, H, T, S).
        """
        query_BHTd = split_heads(self.q_proj(x_BTD), self.n_head)
        key_BKTd = split_heads(self.k_proj(x_BTD), self.n_kv_head)
        value_BKTd = split_heads(self.v_proj(x_BTD), self.n_kv_head)
        start = 0 if cache is None else cache.length
        end = start + x_BTD.shape[1]
        if self.rope_theta is not None:  # keys enter the cache rotated, once and for all
            tables = rope_at(torch.arange(start, end), query_BHTd.shape[-1], self.rope_theta)
            cos, sin = (table.to(x_BTD) for table in tables)
            query_BHTd, key_BKTd = rotate(query_BHTd, cos, sin), rotate(key_BKTd, cos, sin)
        if cache is not None:
            key_BKTd, value_BKTd = cache.append(key_BKTd, value_BKTd)
        first = end - key_BKTd.shape[2]  # a window cache has forgotten what came before
        bias = self.pattern.bias(torch.arange(start, end), torch.arange(first, end), x_BTD.dtype).to(x_BTD.device)
        return attention(query_BHTd, key_BKTd, value_BKTd, bias + extra)


def pooled_heads(weight_HdD: Tensor, n_head: int, n_kv_head: int) -> Tensor:
    """Key or value weights (H·d, D) for fewer heads, (K·d, D): the mean over each group of H / K heads in a row.

    How Ainslie et al. turn a trained multi-head model into a grouped one, before a little more training.
    """
    d, D = weight_HdD.shape[0] // n_head, weight_HdD.shape[1]
    return weight_HdD.view(n_kv_head, n_head // n_kv_head, d, D).mean(1).reshape(n_kv_head * d, D)
