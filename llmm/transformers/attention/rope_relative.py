"""Why rotating queries and keys by their positions leaves only the distance, and what number formats do to that.

README, section 8. `rope.py` turns channels in pairs; here a pair is one complex number, and the proof is one line. What
it promises is exact in real numbers. In floating point an angle of 2000 radians has lost the digits that 2000 took.
Source: Su et al. 2021 (2104.09864), sections 3.2 to 3.4.
"""

import torch
from torch import Tensor

from llmm.transformers.attention.rope import rotate


def frequencies(d_head: int, theta: float, dtype: torch.dtype = torch.float64) -> Tensor:
    """theta^(-2i/d) for i = 0 … d/2 - 1, equation (8.3): from one radian a token down to almost none."""
    return theta ** (-torch.arange(0, d_head, 2, dtype=dtype) / d_head)


def rope_at(
    positions_T: Tensor, d_head: int, theta: float, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """Cosines and sines (T, d) for `rope.rotate` at any positions; positions, angles and results are all in `dtype`."""
    angle_Ti = positions_T.to(dtype)[:, None] * frequencies(d_head, theta, dtype).to(positions_T.device)
    angle_Td = torch.cat([angle_Ti, angle_Ti], dim=-1)
    return angle_Td.cos(), angle_Td.sin()


def rotate_complex(x_Td: Tensor, positions_T: Tensor, theta: float) -> Tensor:
    """What `rope.rotate` does, by complex multiplication: x_i + i x_(i + d/2) times e^(i · position · frequency)."""
    first, second = x_Td.double().chunk(2, dim=-1)
    angle_Ti = positions_T.double()[:, None] * frequencies(x_Td.shape[-1], theta)
    turned = torch.complex(first, second) * torch.polar(torch.ones_like(angle_Ti), angle_Ti)
    return torch.cat([turned.real, turned.imag], dim=-1)


def score_from_distance(query_d: Tensor, key_d: Tensor, distance: int, theta: float) -> float:
    """q · k after rotation, from the distance of their positions alone, equation (8.2)."""
    pairs = [torch.complex(*x.double().chunk(2, dim=-1)) for x in (query_d, key_d)]
    turn = torch.polar(torch.ones(len(pairs[0]), dtype=torch.float64), distance * frequencies(len(query_d), theta))
    return float((pairs[0] * pairs[1].conj() * turn).sum().real)


def kernel(distances_N: Tensor, d_head: int, theta: float) -> Tensor:
    """(N,): mean cosine over the frequencies, equation (8.4).

    It is the share of its score that a key equal to the query, or with white noise for channels, keeps at a distance.
    """
    return (distances_N.double()[:, None] * frequencies(d_head, theta)).cos().mean(-1)


def decay_bound(distances_N: Tensor, d_head: int, theta: float) -> Tensor:
    """(N,): mean of |Σ_(i<j) e^(i · distance · frequency_i)| over j = 1 … d/2: the bound of the paper's 3.4.3."""
    angle_Ni = distances_N.double()[:, None] * frequencies(d_head, theta)
    partial_sums_Ni = torch.polar(torch.ones_like(angle_Ni), angle_Ni).cumsum(-1)
    return partial_sums_Ni.abs().mean(-1)


def shift_errors(
    query_Nd: Tensor, key_Nd: Tensor, shifts_P: Tensor, distance: int, theta: float, dtype: torch.dtype,
    tables: torch.dtype | None = None,
) -> Tensor:  # fmt: skip
    """(N, P): how far each score q_N · k_N is off its value at the first shift when both positions move by `shifts_P`.

    Queries stand at shift + `distance`, keys at shift, so it should be 0. Rotation and products are in `dtype`;
    positions and angles in `tables` (also `dtype` unless given), their sines and cosines rounded to `dtype`.
    """

    def turned(x_Nd: Tensor, positions_P: Tensor) -> Tensor:
        cos, sin = (table.to(dtype) for table in rope_at(positions_P, x_Nd.shape[-1], theta, tables or dtype))
        return rotate(x_Nd.to(dtype)[:, None], cos, sin)

    scores_NP = (turned(query_Nd, shifts_P + distance) * turned(key_Nd, shifts_P)).sum(-1).double()
    return (scores_NP - scores_NP[:, :1]).abs()
