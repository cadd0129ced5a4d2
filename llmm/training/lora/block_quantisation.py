"""A matrix in four bits: blocks of numbers over their largest one, each at the nearest level; then the largest again.

Source: Dettmers et al. 2023 (2305.14314), section 3 ("double quantization"). The second time the paper takes 8-bit
floats and this file 8-bit integers, at the same size: finer steps, unless one scale is far above the others.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmm.training.lora.nf4 import nearest_level, normal_float_levels, pack, unpack

BLOCK = 64  # numbers that share a scale
SCALE_BLOCK = 256  # scales that share one of theirs


class QuantisedScales(nn.Module):
    """Scales (S,), none negative, as 8-bit integers: mean + integer / 127 · distance. README (5.6)."""

    integers: Tensor  # (S,) int8
    distances: Tensor  # (⌈S / block⌉,), the largest of each block
    mean: Tensor  # ()

    def __init__(self, scales_S: Tensor, block: int = SCALE_BLOCK) -> None:
        """The mean is taken away first: what is left has both signs and uses the integers on both sides of zero."""
        super().__init__()
        mean = scales_S.mean()
        rows = _blocks(scales_S - mean, block)
        distances = rows.abs().amax(1)
        integers = (rows / _not_zero(distances)[:, None] * 127).round().to(torch.int8)
        self.block = block
        self.register_buffer("integers", integers.flatten()[: len(scales_S)])
        self.register_buffer("distances", distances)
        self.register_buffer("mean", mean)

    def back(self) -> Tensor:
        """The scales (S,), to rounding, and not below zero."""
        distances_S = self.distances.repeat_interleave(self.block)[: len(self.integers)]
        return (self.mean + self.integers / 127 * distances_S).clamp(min=0)


class QuantisedMatrix(nn.Module):
    """A matrix as packed indices of levels, and a scale for each `block` numbers, row after row. README (5.1)."""

    packed: Tensor  # (⌈m n / 2⌉,) uint8
    levels: Tensor  # (16,) float32
    scales: Tensor | QuantisedScales  # of (⌈m n / block⌉,) blocks

    def __init__(
        self, weight_mn: Tensor, levels: Tensor | None = None, block: int = BLOCK, double: bool = True
    ) -> None:
        """`weight_mn` at the nearest of `levels` (NF4's by default) times its block's largest absolute number."""
        super().__init__()
        self.shape, self.block = tuple(weight_mn.shape), block
        levels = (normal_float_levels() if levels is None else levels).to(weight_mn.device)
        rows = _blocks(weight_mn.detach().flatten().float(), block)
        largest = rows.abs().amax(1)
        indices = nearest_level(rows / _not_zero(largest)[:, None], levels)
        self.register_buffer("packed", pack(indices.flatten()[: weight_mn.numel()]))
        self.register_buffer("levels", levels.float())
        if double:
            self.scales = QuantisedScales(largest)
        else:
            self.register_buffer("scales", largest)

    def back(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The matrix (m, n) that is meant."""
        m, n = self.shape
        scales = self.scales.back() if isinstance(self.scales, QuantisedScales) else self.scales
        values = self.levels.to(dtype)[unpack(self.packed, m * n).long()]
        return (values * scales.to(dtype).repeat_interleave(self.block)[: m * n]).view(m, n)

    @property
    def bytes(self) -> int:
        """What is stored for it, the table of levels aside."""
        return sum(b.numel() * b.element_size() for name, b in self.named_buffers() if name != "levels")


def bits_per_parameter(block: int = BLOCK, double: bool = True) -> float:
    """4 bits, and the share of a scale: README (5.5), (5.7)."""
    scale_bits = 8 + 32 / SCALE_BLOCK if double else 32
    return 4 + scale_bits / block


def _blocks(values_N: Tensor, block: int) -> Tensor:
    """(⌈N / block⌉, block), zeros at the end."""
    return F.pad(values_N, (0, -len(values_N) % block)).view(-1, block)


def _not_zero(scales: Tensor) -> Tensor:
    return torch.where(scales == 0, 1.0, scales)
