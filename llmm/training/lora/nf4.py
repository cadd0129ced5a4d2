"""NormalFloat: sixteen levels for numbers from a normal distribution, dense where such numbers are.

Source: Dettmers et al. 2023 (2305.14314), section 3; the end point of the quantiles is the one behind the numbers of
its appendix E.
"""

import torch
from torch import Tensor

# one sign, two exponent and one mantissa bit (E2M1): zero has two codes, so there are fifteen numbers
FP4_LEVELS = (-6.0, -4.0, -3.0, -2.0, -1.5, -1.0, -0.5, 0.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def normal_float_levels(bits: int = 4) -> Tensor:
    """The 2^bits levels of [-1, 1] in rising order, float64: normal quantiles over the largest. README (5.3), (5.4).

    Half of them are above zero and one is zero, so that a weight of zero stays zero.
    """
    count = 2**bits
    end = 1 - (1 / count + 1 / (count - 1)) / 4  # of the probabilities: what a side of half or of one less would choose
    above = torch.special.ndtri(torch.linspace(0.5, end, count // 2 + 1, dtype=torch.float64))[1:]
    below = -torch.special.ndtri(torch.linspace(0.5, end, count // 2, dtype=torch.float64))[1:]
    return torch.cat([below.flip(0), above.new_zeros(1), above]) / above[-1]


def uniform_levels(bits: int = 4) -> Tensor:
    """2^bits levels of [-1, 1] at equal distances, float64; zero lies between two of them."""
    return torch.linspace(-1, 1, 2**bits, dtype=torch.float64)


def fp4_levels() -> Tensor:
    """The numbers of a float of four bits over the largest, float64."""
    return torch.tensor(FP4_LEVELS, dtype=torch.float64) / max(FP4_LEVELS)


def nearest_level(values: Tensor, levels: Tensor) -> Tensor:
    """Index (uint8) of the level nearest to each of `values`: README (5.1)."""
    borders = (levels[1:] + levels[:-1]) / 2
    return torch.bucketize(values.to(borders), borders).to(torch.uint8)


def pack(indices_N: Tensor) -> Tensor:
    """Two indices below 16 a byte, the first one in the high half: (N,) → (⌈N / 2⌉,)."""
    even = torch.cat([indices_N, indices_N.new_zeros(len(indices_N) % 2)])
    return (even[::2] << 4) | even[1::2]


def unpack(packed: Tensor, count: int) -> Tensor:
    """The first `count` indices in `packed`, (count,)."""
    return torch.stack([packed >> 4, packed & 15], dim=1).flatten()[:count]
