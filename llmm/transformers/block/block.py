"""The transformer block: attention mixes positions, the feed-forward mixes channels, each added to a residual stream.

Where the norms stand decides how signals and gradients grow with depth: before each branch (Xiong et al. 2020,
2002.04745, figure 1b), after each sum (Vaswani et al. 2017, 1706.03762, section 3.1), or on both sides of a branch
(Ding et al. 2021, 2105.13290, section 2.4).
"""

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from llmm.transformers.attention.kv_cache import LayerCache

Placement = Literal["pre", "post", "sandwich"]


class Block(nn.Module):
    """One layer, x (B, T, D) → (B, T, D), out of any attention and any feed-forward.

    `norm` makes a fresh norm of width D. With A and F the branches, each norm N having gains of its own:
    pre: x + A(N x), then x + F(N x); post: N(x + A x), then N(x + F x); sandwich: x + N A(N x), then x + N F(N x).
    """

    def __init__(
        self,
        attention: nn.Module,
        feed_forward: nn.Module,
        norm: Callable[[], nn.Module],
        placement: Placement = "pre",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.placement = placement
        self.input_layernorm = norm()
        self.self_attn = attention
        self.post_attention_layernorm = norm()
        self.mlp = feed_forward
        self.attention_out_norm = norm() if placement == "sandwich" else nn.Identity()
        self.mlp_out_norm = norm() if placement == "sandwich" else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x_BTD: Tensor,
        rope: tuple[Tensor, Tensor] | None = None,
        mask: Tensor | None = None,
        cache: LayerCache | None = None,
    ) -> Tensor:
        """Arguments as in `Attention.forward`."""
        if self.placement == "post":
            x_BTD = self.input_layernorm(x_BTD + self.dropout(self.self_attn(x_BTD, rope, mask, cache)))
            return self.post_attention_layernorm(x_BTD + self.dropout(self.mlp(x_BTD)))
        attended_BTD = self.self_attn(self.input_layernorm(x_BTD), rope, mask, cache)
        x_BTD = x_BTD + self.dropout(self.attention_out_norm(attended_BTD))
        fed_BTD = self.mlp(self.post_attention_layernorm(x_BTD))
        return x_BTD + self.dropout(self.mlp_out_norm(fed_BTD))
