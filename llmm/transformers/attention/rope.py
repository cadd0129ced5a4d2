"""Rotary position embeddings: a position turns each pair of channels by an angle of its own.

Source: Su et al. 2021 (2104.09864), equation 34; pairs are (i, i + d/2), as in the weights of Llama and Qwen.
"""

import torch
from torch import Tensor


def rope_tables(d_head: int, context_len: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every angle, each (context_len, d_head); computed in float32 as `transformers` does."""
    frequency = 1.0 / theta ** (torch.arange(0, d_head, 2, dtype=torch.float32) / d_head)
    angle = torch.outer(torch.arange(context_len, dtype=torch.float32), frequency)
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos(), angle.sin()


def rotate(x_BHTd: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs of `x_BHTd` by the angles whose `cos` and `sin` are (T, d), or (B, 1, T, d) for ragged rows."""
    if x_BHTd.is_cuda:
        return rotate_swapped(x_BHTd, cos, sin)
    first, second = x_BHTd.chunk(2, dim=-1)
    cos, sin = (table[..., : first.shape[-1]] for table in (cos, sin))  # both halves of a table are the same
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def rotate_swapped(x_BHTd: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`rotate` as x cos + swapped(x) sin', to the last bit: sin' is -sin in the first half, where the halves swap.

    A compiler makes a single loop over all channels of it, with the norm before it where there is one. On a GPU that
    is faster than a loop for each half; on a CPU slower, which reads neighbours at once and not what lies half a head
    apart.
    """
    x, cos, sin = (tensor.unflatten(-1, (2, -1)) for tensor in (x_BHTd, cos, sin))
    sign = torch.where(torch.arange(2, device=x.device) < 1, -1.0, 1.0).to(sin.dtype)[:, None]
    return (x * cos + x.flip(-2) * (sin * sign)).flatten(-2)
