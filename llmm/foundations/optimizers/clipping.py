"""Clipping by global norm: one factor for all gradients, so that their direction stays."""

from collections.abc import Iterable

import torch
from torch import Tensor


@torch.no_grad()
def clip_by_global_norm(params: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale all gradients in place by min(1, max_norm / (norm + 1e-6)) and return the norm () from before.

    The norm is that of all gradients as one vector. Parameters without a gradient are left out; with none at all the
    norm is 0. Source: Pascanu et al. 2012 (1211.5063), algorithm 1. The factor is applied even where it is 1, since
    asking whether it is would make a GPU wait.
    """
    grads = [p.grad for p in params if p.grad is not None]
    if not grads:
        return torch.tensor(0.0)
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
    torch._foreach_mul_(grads, (max_norm / (norm + 1e-6)).clamp(max=1.0))
    return norm
