"""Multi-head latent attention: cache one short vector a token and make all heads' keys and values of it. README, 9.

Keys and values of H heads are linear in one latent c of C numbers, so c is all that has to be kept. Better still, they
never have to be made: the matrix that would expand c into keys can be moved over to the query (q · Wc = Wᵀq · c), and
the one for values to behind the mean. So *absorbed*, it is multi-query attention with one wide head, the latent itself.
Rotation by position does not commute with those matrices, so a few channels apart, shared by all heads, carry it.
Source: DeepSeek-AI 2024 (2405.04434), section 2.1; names of layers there in comments.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llmm.transformers.attention.formula import attention
from llmm.transformers.attention.heads import join_heads, split_heads
from llmm.transformers.attention.patterns import CAUSAL
from llmm.transformers.attention.rope import rotate
from llmm.transformers.attention.rope_relative import rope_at


@dataclass
class LatentCache:
    """Latents (B, capacity, C) and rotated keys (B, capacity, R) of one layer; the first `length` places are filled."""

    latents: Tensor
    rope_keys: Tensor
    length: int = 0

    def append(self, latent_BTC: Tensor, rope_key_BTR: Tensor) -> tuple[Tensor, Tensor]:
        """Store T more tokens and return all latents and rotated keys so far, (B, length, C) and (B, length, R)."""
        end = self.length + latent_BTC.shape[1]
        self.latents[:, self.length : end] = latent_BTC
        self.rope_keys[:, self.length : end] = rope_key_BTR
        self.length = end
        return self.latents[:, :end], self.rope_keys[:, :end]


class LatentAttention(nn.Module):
    """x (B, T, D) → (B, T, D), causal, with H heads of d content and R rotated channels over latents of C numbers.

    Layers without biases: q_proj D → H (d + R), each head's content first; latent_proj D → C, followed by latent_norm,
    an RMSNorm with eps 1e-6; rope_key_proj D → R; key_up and value_up C → H d; o_proj H d → D.
    """

    def __init__(
        self, d_model: int, n_head: int, d_head: int, d_latent: int, d_rope: int, rope_theta: float = 10_000.0
    ) -> None:
        super().__init__()
        self.n_head, self.d_head, self.d_rope, self.rope_theta = n_head, d_head, d_rope, rope_theta
        self.q_proj = nn.Linear(d_model, n_head * (d_head + d_rope), bias=False)  # W^Q and W^QR
        self.latent_proj = nn.Linear(d_model, d_latent, bias=False)  # W^DKV
        self.latent_norm = nn.RMSNorm(d_latent, eps=1e-6)
        self.rope_key_proj = nn.Linear(d_model, d_rope, bias=False)  # W^KR
        self.key_up = nn.Linear(d_latent, n_head * d_head, bias=False)  # W^UK
        self.value_up = nn.Linear(d_latent, n_head * d_head, bias=False)  # W^UV
        self.o_proj = nn.Linear(n_head * d_head, d_model, bias=False)  # W^O

    def forward(self, x_BTD: Tensor, cache: LatentCache | None = None, absorbed: bool = False) -> Tensor:
        """Attend, with keys and values made of the latents, or `absorbed`, on the latents themselves: the same numbers.

        With a `cache`, x_BTD are the tokens after those it holds, and is added to it.
        """
        start = 0 if cache is None else cache.length
        positions_T = torch.arange(start, start + x_BTD.shape[1], device=x_BTD.device)
        cos, sin = (table.to(x_BTD) for table in rope_at(positions_T, self.d_rope, self.rope_theta))
        content_BHTd, turned_BHTR = split_heads(self.q_proj(x_BTD), self.n_head).split([self.d_head, self.d_rope], -1)
        turned_BHTR = rotate(turned_BHTR, cos, sin)
        latent_BSC = self.latent_norm(self.latent_proj(x_BTD))
        rope_key_BSR = rotate(self.rope_key_proj(x_BTD), cos, sin)
        if cache is not None:
            latent_BSC, rope_key_BSR = cache.append(latent_BSC, rope_key_BSR)

        bias = CAUSAL.bias(positions_T, torch.arange(latent_BSC.shape[1], device=x_BTD.device), x_BTD.dtype)
        mix = self._absorbed if absorbed else self._expanded
        return self.o_proj(join_heads(mix(content_BHTd, turned_BHTR, latent_BSC, rope_key_BSR, bias)))

    def _expanded(
        self, content_BHTd: Tensor, turned_BHTR: Tensor, latent_BSC: Tensor, rope_key_BSR: Tensor, bias: Tensor
    ) -> Tensor:
        """Equation (9.1): keys and values of every head; for training, where they are needed once anyway."""
        key_BHSd = split_heads(self.key_up(latent_BSC), self.n_head)
        value_BHSd = split_heads(self.value_up(latent_BSC), self.n_head)
        shared_BHSR = rope_key_BSR[:, None].expand(-1, self.n_head, -1, -1)
        query, key = torch.cat([content_BHTd, turned_BHTR], -1), torch.cat([key_BHSd, shared_BHSR], -1)
        return attention(query, key, value_BHSd, bias)[0]

    def _absorbed(
        self, content_BHTd: Tensor, turned_BHTR: Tensor, latent_BSC: Tensor, rope_key_BSR: Tensor, bias: Tensor
    ) -> Tensor:
        """Equation (9.3): one key head, C + R wide, whose first C channels are also the values; for decoding."""
        key_up_HdC, value_up_HdC = (
            layer.weight.view(self.n_head, self.d_head, -1) for layer in (self.key_up, self.value_up)
        )
        query = torch.cat([content_BHTd @ key_up_HdC, turned_BHTR], -1)
        key = torch.cat([latent_BSC, rope_key_BSR], -1)
        scale = (self.d_head + self.d_rope) ** -0.5  # of the expanded heads, not of the wide one
        mixed_BHTC = attention(query, key[:, None], latent_BSC[:, None], bias, scale)[0]
        return mixed_BHTC @ value_up_HdC.mT
