"""Causal self-attention with grouped heads, rotary positions and normalised queries and keys.

Sources: Vaswani et al. 2017 (1706.03762), equation 1; grouped heads: Ainslie et al. 2023 (2305.13245); RoPE: Su et al.
2021 (2104.09864); QK-norm: Henry et al. 2020 (2010.04245). Module names are those of `transformers`' Qwen3.
"""

from torch import Tensor, nn

from llmm.transformers.attention.attend import attend
from llmm.transformers.attention.kv_cache import LayerCache
from llmm.transformers.attention.rope import rotate


class Attention(nn.Module):
    """x (B, T, D) → (B, T, D). `n_kv_head` < `n_head` shares each key and value head among several query heads."""

    def __init__(self, d_model: int, n_head: int, n_kv_head: int, norm_eps: float) -> None:
        super().__init__()
        self.n_head, self.n_kv_head, self.d_head = n_head, n_kv_head, d_model // n_head
        self.q_proj = nn.Linear(d_model, n_head * self.d_head, bias=False)
        self.k_proj = nn.Linear(d_model, n_kv_head * self.d_head, bias=False)
        self.v_proj = nn.Linear(d_model, n_kv_head * self.d_head, bias=False)
        self.o_proj = nn.Linear(n_head * self.d_head, d_model, bias=False)
        self.q_norm = nn.RMSNorm(self.d_head, eps=norm_eps)
        self.k_norm = nn.RMSNorm(self.d_head, eps=norm_eps)

    def forward(
        self,
        x_BTD: Tensor,
        rope: tuple[Tensor, Tensor],
        mask: Tensor | None = None,
        cache: LayerCache | None = None,
    ) -> Tensor:
        """Attend causally.

        `rope` holds the cosines and sines of the T positions. `mask` is True where a query may look at a key,
        (B, 1, T, S); None stands for plain causal attention over the T tokens. With a `cache` the keys and values of
        earlier tokens come first, so S is their number plus T.
        """
        B, T, D = x_BTD.shape
        # norms and angles in float32, also where autocast makes the products bfloat16
        query_BHTd = self.q_norm(self.q_proj(x_BTD).view(B, T, self.n_head, self.d_head).float()).transpose(1, 2)
        key_BHTd = self.k_norm(self.k_proj(x_BTD).view(B, T, self.n_kv_head, self.d_head).float()).transpose(1, 2)
        value_BHTd = self.v_proj(x_BTD).view(B, T, self.n_kv_head, self.d_head).transpose(1, 2)

        query_BHTd, key_BHTd = rotate(query_BHTd, *rope), rotate(key_BHTd, *rope)
        if cache is not None:
            key_BHTd, value_BHTd = cache.append(key_BHTd, value_BHTd)

        mixed_BHTd = attend(query_BHTd, key_BHTd, value_BHTd, mask)
        return self.o_proj(mixed_BHTd.transpose(1, 2).reshape(B, T, D))
