"""The smallest model in which attention layers can work together: embedding, attention layers, unembedding.

No feed-forward layers: what such a model does is done by moving vectors between positions, and can be read off its
weights and patterns. Every layer adds to the residual stream, from which the next ones read.
Source: Olsson et al. 2022 (2209.11895), and the mathematical framework it builds on.
"""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from llmm.transformers.attention.heads import join_heads
from llmm.transformers.attention.multi_head import MultiHeadAttention


class AttentionOnly(nn.Module):
    """tokens (B, T) → logits (B, T, V): `n_layer` pre-normed layers of multi-head attention with rotary positions."""

    def __init__(self, vocab_size: int, d_model: int, n_layer: int, n_head: int, rope_theta: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.norms = nn.ModuleList(nn.RMSNorm(d_model) for _ in range(n_layer + 1))  # the last before the unembedding
        self.layers = nn.ModuleList(MultiHeadAttention(d_model, n_head, rope_theta=rope_theta) for _ in range(n_layer))
        self.unembedding = nn.Linear(d_model, vocab_size, bias=False)

    def forward(
        self,
        tokens_BT: Tensor,
        without: Collection[tuple[int, int]] = (),
        hidden: Mapping[int, int] | None = None,
    ) -> Tensor:
        """Logits for the token after each. The two arguments break the model in one place, to see what hangs on it.

        Heads (layer, head) in `without` are silenced, their output set to 0. `hidden` maps a layer to a distance: no
        head of it may look exactly so many tokens back.
        """
        return self.look(tokens_BT, without, hidden)[0]

    def look(
        self,
        tokens_BT: Tensor,
        without: Collection[tuple[int, int]] = (),
        hidden: Mapping[int, int] | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Logits (B, T, V) and where every head of every layer looked, a list of (B, H, T, T)."""
        x_BTD, seen = self.embedding(tokens_BT), []
        for layer, (norm, attention) in enumerate(zip(self.norms, self.layers, strict=False)):
            extra = _at_distance(hidden[layer], tokens_BT.shape[1]) if hidden and layer in hidden else 0.0
            mixed_BHTd, weights_BHTT = attention.look(norm(x_BTD), extra=extra)
            silenced = [head for head in range(attention.n_head) if (layer, head) in without]
            mixed_BHTd = mixed_BHTd.index_fill(1, torch.tensor(silenced, dtype=torch.long), 0.0)
            x_BTD = x_BTD + attention.o_proj(join_heads(mixed_BHTd))
            seen.append(weights_BHTT)
        return self.unembedding(self.norms[-1](x_BTD)), seen


def _at_distance(distance: int, T: int) -> Tensor:
    """(T, T): -inf where the key stands `distance` before the query, else 0."""
    return torch.zeros(T, T).masked_fill(torch.eye(T).roll(-distance, 1).bool().tril(), -torch.inf)
