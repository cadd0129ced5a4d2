"""How many bytes a transformer block keeps for its backward pass, from a table, and what checkpointing leaves of them.

`SAVED` lists what autograd keeps per token, tensor by tensor; the test reads the same number off PyTorch. With n blocks in
k segments the peak is k boundaries and one segment recomputed in full, equation (13): its minimum is at k = sqrt(n a / b),
which is the sqrt(n) of the paper only where a block keeps no more than its input (a = b).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FLOAT32_BYTES = 4


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


# What backward needs of one block, for one token: (which tensor, numbers per D, numbers per head, single numbers).
# Tensors that two operations keep count once: the row of attention's output serves attention and the projection.
SAVED: list[tuple[str, int, int, int]] = [
    ("norm1: its input, which is the block's", 1, 0, 0),
    ("norm1: mean and 1/sd", 0, 0, 2),
    ("qkv: its input", 1, 0, 0),
    ("attention: q, k, v", 3, 0, 0),
    ("attention: its output, the projection's input", 1, 0, 0),
    ("attention: log-sum-exp", 0, 1, 0),
    ("dropout: its mask, in float32", 1, 0, 0),
    ("norm2: its input", 1, 0, 0),
    ("norm2: mean and 1/sd", 0, 0, 2),
    ("up: its input", 1, 0, 0),
    ("gelu: its input", 4, 0, 0),
    ("down: its input", 4, 0, 0),
    ("dropout: its mask, in float32", 1, 0, 0),
]


def block_bytes(shape: BlockShape) -> int:
    """a of equation (13): bytes that one block keeps for backward, its input among them, in float32."""
    rows = [row for row in SAVED if shape.dropout or not row[0].startswith("dropout")]
    per_token = sum(wide * shape.D + heads * shape.H + single for _, wide, heads, single in rows)
    return FLOAT32_BYTES * shape.B * shape.T * per_token


def boundary_bytes(shape: BlockShape) -> int:
    """b of equation (13): bytes of a block's input, float32 (B, T, D)."""
    return FLOAT32_BYTES * shape.B * shape.T * shape.D


def saved_bytes(shape: BlockShape, segments: int | None) -> int:
    """Bytes alive after forward: all that the blocks keep if `segments` is None, else one boundary a segment.

    Not counted: 5,056 bytes of random state a segment, which are no activations.
    """
    return shape.blocks * block_bytes(shape) if segments is None else segments * boundary_bytes(shape)


def peak_bytes(shape: BlockShape, segments: int) -> int:
    """Equation (13) in bytes, at the moment when backward has recomputed its first segment and starts on it.

    The recomputed segment starts at a boundary that is held already, so one boundary is not counted twice. What backward
    itself works on is five boundaries wide: the gradient of the residual stream (D) and that of the hidden layer (4 D).
    """
    a, b = block_bytes(shape), boundary_bytes(shape)
    return round(peak(shape.blocks, a, b, segments)) - b + 5 * b


def peak(blocks: int, a: float, b: float, segments: int) -> float:
    """k b + ceil(n / k) a: memory held at most by `blocks` blocks of a (inside) and b (input) in `segments` segments."""
    return segments * b + math.ceil(blocks / segments) * a


def best_segments(blocks: int, a: float, b: float) -> int:
    """The number of segments, 1 to `blocks`, with the lowest `peak`: near sqrt(n a / b), equation (14). The fewer on a tie."""
    return min(range(1, blocks + 1), key=lambda segments: (peak(blocks, a, b, segments), segments))
