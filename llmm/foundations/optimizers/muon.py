"""Muon: momentum whose update matrix is made (nearly) orthogonal before it is applied.

Sources: Jordan et al. 2024 (the Newton-Schulz iteration with its coefficients); Bernstein and Newhouse 2024
(2409.20325), section 4: the orthogonal factor U Vᵀ is the steepest descent step under the spectral norm.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

# p(s) = a s + b s³ + c s⁵ lifts small singular values fast; applied five times it sends (0.02, 1] to about [0.7, 1.2]
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
Norm = Literal["frobenius", "schatten4"]
_WIDE = 1.5  # from this ratio of the sides on, iterating on the Gram matrix takes less time


def orthogonalise(matrices: Tensor, steps: int = 5, norm: Norm = "frobenius") -> Tensor:
    """Replace each matrix U S Vᵀ of a batch (N, m, n) by nearly U Vᵀ, by a Newton-Schulz iteration.

    One batched product stands for N small ones. Works on the shorter side: X Xᵀ is (min(m, n))².
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    X = matrices.mT if tall else matrices
    A = X @ X.mT
    # the iteration converges for singular values in (0, 1]; both norms bound the largest
    bound = X.norm(dim=(-2, -1), keepdim=True)
    if norm == "schatten4":
        bound = A.norm(dim=(-2, -1), keepdim=True).sqrt()
    X, A = X / (bound + 1e-7), A / (bound + 1e-7) ** 2
    iterate = _newton_schulz_on_gram if X.shape[-1] > _WIDE * X.shape[-2] else _newton_schulz
    X = iterate(X, A, steps)
    return X.mT if tall else X


def _newton_schulz(X: Tensor, A: Tensor, steps: int) -> Tensor:
    """X ← a X + (b A + c A²) X with A = X Xᵀ: 4m²n + 2m³ multiplications and additions a step and matrix."""
    a, b, c = NEWTON_SCHULZ
    for step in range(steps):
        if step:
            A = X @ X.mT
        B = torch.baddbmm(A, A, A, beta=b, alpha=c)
        X = torch.baddbmm(X, B, X, beta=a)
    return X


def _newton_schulz_on_gram(X: Tensor, A: Tensor, steps: int) -> Tensor:
    """The same iterates, kept as P X₀: with M = a + b A + c A² each step is P ← M P, A ← M A M, all of them (m, m).

    X Xᵀ = P A₀ P, and all factors are polynomials of A₀, so they commute. Two products see the long side, however
    many steps there are, which pays for wide matrices.
    """
    a, b, c = NEWTON_SCHULZ
    P = None
    for step in range(steps):
        M = torch.baddbmm(A, A, A, beta=b, alpha=c)
        M.diagonal(dim1=-2, dim2=-1).add_(a)
        P = M if P is None else M @ P
        if step + 1 < steps:
            A = M @ A @ M
    return X if P is None else P @ X


class Muon(Optimizer):
    """m ← μm + (1-μ)g,  O = orthogonalise(g + μ(m - g)),  W ← (1 - lr·wd)W - lr · √max(1, rows / columns) · O.

    For matrices only (embeddings and gains belong to AdamW). Matrices of one shape are orthogonalised as one batch.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        newton_schulz_steps: int = 5,
        norm: Norm = "frobenius",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """`dtype` is that of the iteration's products; it corrects its own rounding, so bfloat16 is exact enough."""
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "steps": newton_schulz_steps}
        super().__init__(params, {**defaults, "norm": norm, "dtype": dtype})
        for group in self.param_groups:
            if wrong := [tuple(p.shape) for p in group["params"] if p.ndim != 2]:
                raise ValueError(f"Muon moves matrices; found a parameter of shape {wrong[0]}")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        """Take one step with the gradients at hand; parameters without a gradient stay."""
        if closure is not None:
            raise ValueError("Muon takes no closure")
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            grads = [p.grad for p in params]
            momenta = [self.state[p].setdefault("momentum", torch.zeros_like(p)) for p in params]
            torch._foreach_lerp_(momenta, grads, 1 - group["momentum"])
            directions = torch._foreach_lerp(grads, momenta, group["momentum"])

            by_shape: dict[torch.Size, list[int]] = defaultdict(list)
            for i, p in enumerate(params):
                by_shape[p.shape].append(i)
            if group["weight_decay"]:
                torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            for (rows, columns), members in by_shape.items():
                stacked = torch.stack([directions[i] for i in members]).to(group["dtype"])
                orthogonal = orthogonalise(stacked, group["steps"], group["norm"]).to(params[members[0]].dtype)
                scale = group["lr"] * max(1, rows / columns) ** 0.5
                torch._foreach_add_([params[i] for i in members], list(orthogonal.unbind()), alpha=-scale)
