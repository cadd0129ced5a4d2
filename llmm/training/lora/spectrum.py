"""What a change looks like in singular values: the best approximation of low rank, and directions that are new.

Sources: Eckart and Young 1936; Shuttleworth et al. 2024 (2410.21228), algorithm 1.
"""

import torch
from torch import Tensor


def best_low_rank(matrix_mn: Tensor, rank: int) -> Tensor:
    """The matrix (m, n) of this rank nearest to `matrix_mn`, in Frobenius and in spectral norm: README (3.4)."""
    U, S, Vh = torch.linalg.svd(matrix_mn, full_matrices=False)
    return (U[:, :rank] * S[:rank]) @ Vh[:rank]


def least_error(matrix_mn: Tensor, rank: int) -> float:
    """Σ σ² after the `rank` largest: the least squared distance of any matrix of that rank. README (3.3)."""
    return float(torch.linalg.svdvals(matrix_mn)[rank:].square().sum())


def effective_rank(matrix_mn: Tensor) -> float:
    """(Σ σ²)² / Σ σ⁴: k for k equal singular values, at least 1 and at most the shorter side. README (3.5)."""
    squares = torch.linalg.svdvals(matrix_mn.detach()).square()
    return float(squares.sum() ** 2 / squares.square().sum())


def intruder_dimensions(base_mn: Tensor, tuned_mn: Tensor, most: int = 10, similar: float = 0.5) -> int:
    """How many of the `most` strongest left singular vectors of the tuned matrix resemble none of the base's.

    To resemble is to have a cosine of at least `similar` with one of them, up to sign.
    """
    base_mk = torch.linalg.svd(base_mn, full_matrices=False)[0]
    tuned_mk = torch.linalg.svd(tuned_mn, full_matrices=False)[0][:, :most]
    return int(((tuned_mk.mT @ base_mk).abs().amax(1) < similar).sum())
