"""A matrix in four bits: blocks of numbers over their largest one, each at the nearest level; then the largest again.

Source: Dettmers et al. 2023 (2305.14314), section 3 ("double quantization"). The second time the paper takes 8-bit
floats and this file 8-bit integers, at the same size.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from llmm.training.lora.nf4 import nearest_level, normal_float_levels, pack, unpack

BLOCK = 64  # numbers that share a scale
SCALE_BLOCK = 256  # scales that share one of theirs


@dataclass(frozen=True)
class QuantisedScales:
    """Positive scales as 8-bit integers around their mean: mean + integer / 127 · the largest distance in the block."""

    integers: Tensor  # (S,) int8
    distances: Tensor  # (⌈S / block⌉,) float32
    mean: Tensor  # () float32
    block: int

    @classmethod
    def of(cls, scales_S: Tensor, block: int = SCALE_BLOCK) -> "QuantisedScales":
        """The mean is taken away first: what is left has both signs and uses all 256 integers."""
        mean = scales_S.mean()
        rows = _blocks(scales_S - mean, block)
        distances = rows.abs().amax(1)
        integers = (rows / _not_zero(distances)[:, None] * 127).round().to(torch.int8)
        return cls(integers.flatten()[: len(scales_S)], distances, mean, block)

    def back(self) -> Tensor:
        """The scales (S,), to rounding."""
        distances_S = self.distances.repeat_interleave(self.block)[: len(self.integers)]
        return self.mean + self.integers / 127 * distances_S


@dataclass(frozen=True)
class QuantisedMatrix:
    """A matrix as packed indices of levels, and a scale for each block of `block` numbers along its rows."""

    packed: Tensor  # (⌈m n / 2⌉,) uint8
    scales: Tensor | QuantisedScales  # of (⌈m n / block⌉,) blocks
    levels: Tensor  # (16,)
    shape: tuple[int, int]
    block: int

    @classmethod
    def of(
        cls, weight_mn: Tensor, levels: Tensor | None = None, block: int = BLOCK, double: bool = True
    ) -> "QuantisedMatrix":
        """`weight_mn` at the nearest of `levels` (NF4's by default) times its block's largest number."""
        levels = normal_float_levels() if levels is None else levels
        rows = _blocks(weight_mn.detach().flatten(), block)
        largest = rows.abs().amax(1)
        scales = QuantisedScales.of(largest.float()) if double else largest.float()
        indices = nearest_level(rows / _not_zero(largest)[:, None], levels).flatten()[: weight_mn.numel()]
        return cls(pack(indices), scales, levels, tuple(weight_mn.shape), block)

    def back(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The matrix (m, n) that is meant."""
        m, n = self.shape
        scales = self.scales.back() if isinstance(self.scales, QuantisedScales) else self.scales
        values = self.levels.to(dtype)[unpack(self.packed, m * n).long()]
        return (values * scales.to(dtype).repeat_interleave(self.block)[: m * n]).view(m, n)

    @property
    def bytes(self) -> int:
        """What is stored for it, the table of levels aside."""
        scales = self.scales
        parts = [scales.integers, scales.distances, scales.mean] if isinstance(scales, QuantisedScales) else [scales]
        return sum(part.numel() * part.element_size() for part in (self.packed, *parts))


def bits_per_parameter(block: int = BLOCK, double: bool = True) -> float:
    """4 bits, and the share of a scale: README (5.6), (5.7)."""
    return 4 + (8 / block + 32 / (block * SCALE_BLOCK) if double else 32 / block)


def _blocks(values_N: Tensor, block: int) -> Tensor:
    """(⌈N / block⌉, block), zeros at the end."""
    return F.pad(values_N, (0, -len(values_N) % block)).view(-1, block)


def _not_zero(scales: Tensor) -> Tensor:
    return torch.where(scales == 0, torch.ones_like(scales), scales)
