"""The transformer block whose memory this milestone accounts for, and the sizes of a run of them."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class BlockShape:
    """Sizes of a run of equal blocks: B sequences of T tokens, D numbers a token, H heads, `blocks` blocks."""

    B: int
    T: int
    D: int
    H: int
    blocks: int
    dropout: float = 0.1


class Block(nn.Module):
    """A pre-norm transformer block: x_BTD -> x_BTD by attention and a GELU layer of 4 D, dropout before both sums."""

    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        self.heads, self.rate = shape.H, shape.dropout
        self.norm1, self.norm2 = nn.LayerNorm(shape.D), nn.LayerNorm(shape.D)
        self.qkv, self.project = nn.Linear(shape.D, 3 * shape.D), nn.Linear(shape.D, shape.D)
        self.up, self.down = nn.Linear(shape.D, 4 * shape.D), nn.Linear(4 * shape.D, shape.D)

    def forward(self, x_BTD: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(self.norm1(x_BTD)).chunk(3, -1)
        )
        mixed_BTD = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x_BTD = x_BTD + F.dropout(self.project(mixed_BTD), self.rate, self.training)
        hidden = F.gelu(self.up(self.norm2(x_BTD)))
        return x_BTD + F.dropout(self.down(hidden), self.rate, self.training)


def blocks_of(shape: BlockShape, seed: int) -> list[Block]:
    """`shape.blocks` blocks with weights drawn from `seed`, in training mode; the global random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return [Block(shape) for _ in range(shape.blocks)]
