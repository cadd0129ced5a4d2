"""The transformer block: attention mixes positions, the feed-forward mixes channels, each added to a residual stream.

Pre-norm (Xiong et al. 2020, 2002.04745, figure 1b) with RMSNorm (Zhang and Sennrich 2019, 1910.07467, equation 4).
"""

from torch import Tensor, nn

from llmm.transformers.attention.attention import Attention
from llmm.transformers.attention.kv_cache import LayerCache
from llmm.transformers.block.feed_forward import SwiGLU


class Block(nn.Module):
    """x (B, T, D) → x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, d_model: int, n_head: int, n_kv_head: int, d_ff: int, norm_eps: float, dropout: float) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(d_model, eps=norm_eps)
        self.self_attn = Attention(d_model, n_head, n_kv_head, norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(d_model, eps=norm_eps)
        self.mlp = SwiGLU(d_model, d_ff)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x_BTD: Tensor,
        rope: tuple[Tensor, Tensor],
        mask: Tensor | None = None,
        cache: LayerCache | None = None,
    ) -> Tensor:
        """Arguments as in `Attention.forward`."""
        x_BTD = x_BTD + self.dropout(self.self_attn(self.input_layernorm(x_BTD), rope, mask, cache))
        return x_BTD + self.dropout(self.mlp(self.post_attention_layernorm(x_BTD)))
