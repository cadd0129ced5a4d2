"""How many bytes a transformer block keeps for its backward pass, from a table, and what checkpointing leaves of them.

The table lists what autograd keeps per token, tensor by tensor; the check reads the same number off PyTorch. With n
blocks in k segments the peak is k boundaries and one segment recomputed in full, equation (13): its minimum is at k =
sqrt(n a / b), which is the sqrt(n) of the paper only where a block keeps no more than its input (a = b).
"""

import math

from llmm.foundations.torch_internals.block import BlockShape

FLOAT32_BYTES = 4


def block_bytes(shape: BlockShape) -> int:
    """a of equation (13): bytes that one `Block` keeps for backward in training, its input among them, in float32.

    A tensor that two operations keep counts once; parameters do not count. Attention is PyTorch's fused one, which
    keeps the log-sum-exp and no weights; dropout keeps a float32 mask, and none at all where the rate is 0.
    """
    return FLOAT32_BYTES * shape.B * shape.T * sum(_saved_per_token(shape).values())


def _saved_per_token(shape: BlockShape) -> dict[str, int]:
    """Numbers that backward needs of one block, for one token, by the tensor that holds them."""
    rows = {
        "norm1: its input, which is the block's": shape.D,
        "norm1: mean and 1/sd": 2,
        "qkv: its input": shape.D,
        "attention: q, k, v, which are views of one tensor": 3 * shape.D,
        "attention: its output, which is the projection's input": shape.D,
        "attention: log-sum-exp": shape.H,
        "norm2: its input": shape.D,
        "norm2: mean and 1/sd": 2,
        "up: its input": shape.D,
        "gelu: its input": 4 * shape.D,
        "down: its input": 4 * shape.D,
    }
    masks = {"dropout after the projection: mask": shape.D, "dropout after down: mask": shape.D}
    return rows | masks if shape.dropout else rows


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

    The recomputed segment starts at a boundary that is held already, so one boundary is not counted twice. On top comes
    what backward works on at that moment: the gradients of the hidden layer (4 D a token) and of down's weight (4 D^2).
    """
    a, b = block_bytes(shape), boundary_bytes(shape)
    working = 4 * b + FLOAT32_BYTES * 4 * shape.D**2
    return round(peak(shape.blocks, a, b, segments)) - b + working


def peak(blocks: int, a: float, b: float, segments: int) -> float:
    """k b + ceil(n / k) a: the most that `blocks` blocks of a (inside) and b (input) hold in `segments` segments."""
    return segments * b + math.ceil(blocks / segments) * a


def best_segments(blocks: int, a: float, b: float) -> int:
    """How many segments give the lowest `peak`, the fewest on a tie: near sqrt(n a / b), equation (14)."""
    return min(range(1, blocks + 1), key=lambda segments: (peak(blocks, a, b, segments), segments))
