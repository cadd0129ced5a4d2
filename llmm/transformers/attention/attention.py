"""Causal self-attention: every token asks, all tokens up to it answer.

Sources: Vaswani et al. 2017 (1706.03762), equation 1; grouped heads: Ainslie et al. 2023 (2305.13245); RoPE: Su et al.
2021 (2104.09864); QK-norm: Henry et al. 2020 (2010.04245). Module names are those of `transformers`' Qwen3.
"""

import torch
from torch import Tensor, nn

from llmm.transformers.attention.attend import attend
from llmm.transformers.attention.kv_cache import LayerCache
from llmm.transformers.attention.rope import rotate


class Attention(nn.Module):
    """x (B, T, D) → (B, T, D). `n_kv_head` < `n_head` shares each key and value head among several query heads."""

    def __init__(
        self,
        d_model: int,
        n_head: int,
        n_kv_head: int,
        d_head: int,
        qk_norm_eps: float | None = None,
        bias: bool = False,
    ) -> None:
        """`qk_norm_eps` turns on RMSNorm of each head's queries and keys; `bias` that of all four projections."""
        super().__init__()
        self.n_head, self.n_kv_head, self.d_head = n_head, n_kv_head, d_head
        self.q_proj = nn.Linear(d_model, n_head * d_head, bias=bias)
        self.k_proj = nn.Linear(d_model, n_kv_head * d_head, bias=bias)
        self.v_proj = nn.Linear(d_model, n_kv_head * d_head, bias=bias)
        self.o_proj = nn.Linear(n_head * d_head, d_model, bias=bias)
        normalised = qk_norm_eps is not None
        self.q_norm = nn.RMSNorm(d_head, eps=qk_norm_eps) if normalised else nn.Identity()
        self.k_norm = nn.RMSNorm(d_head, eps=qk_norm_eps) if normalised else nn.Identity()

    def forward(
        self,
        x_BTD: Tensor,
        rope: tuple[Tensor, Tensor] | None = None,
        mask: Tensor | None = None,
        cache: LayerCache | None = None,
    ) -> Tensor:
        """Attend causally.

        `rope` holds the cosines and sines of the T positions; None leaves queries and keys unturned. `mask` is True
        where a query may look at a key, (B, 1, T, S), and never at a later one; None stands for plain causal attention
        over the T tokens. With a `cache` the keys and values of earlier tokens come first, so S is their number plus T.
        """
        B, T, _ = x_BTD.shape
        query_BHTd = self.q_norm(_precise(self.q_proj(x_BTD).view(B, T, self.n_head, self.d_head))).transpose(1, 2)
        key_BHTd = self.k_norm(_precise(self.k_proj(x_BTD).view(B, T, self.n_kv_head, self.d_head))).transpose(1, 2)
        value_BHTd = self.v_proj(x_BTD).view(B, T, self.n_kv_head, self.d_head).transpose(1, 2)

        if rope is not None:
            query_BHTd, key_BHTd = rotate(query_BHTd, *rope), rotate(key_BHTd, *rope)
        if cache is not None:
            key_BHTd, value_BHTd = cache.append(key_BHTd, value_BHTd)

        mixed_BHTd = attend(query_BHTd, key_BHTd, value_BHTd, mask)
        return self.o_proj(mixed_BHTd.transpose(1, 2).reshape(B, T, self.n_head * self.d_head))


def _precise(x: Tensor) -> Tensor:
    """At least float32: norms and angles stay exact where autocast makes the products bfloat16."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
