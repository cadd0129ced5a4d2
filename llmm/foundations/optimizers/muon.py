"""Muon: momentum whose update matrix is made (nearly) orthogonal before it is applied; NorMuon evens out its rows.

Sources: Jordan et al. 2024 (the Newton-Schulz iteration with its coefficients); Bernstein and Newhouse 2024
(2409.20325), section 4: the orthogonal factor U Vᵀ is the steepest descent step under the spectral norm; Li et al. 2025
(2510.05491), algorithm 1: NorMuon.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

# p(s) = a s + b s³ + c s⁵ lifts small singular values fast; applied five times it sends (0.02, 1] to about [0.7, 1.2]
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
Norm = Literal["frobenius", "schatten4"]  # what a matrix is divided by before the iteration
_WIDE = 1.5  # from this ratio of the sides on, iterating on the Gram matrix takes less time
_NO_ROW = 1e-12  # added to lengths, so that a row or matrix of zeros can be divided by its own
_NOISE = 0.1  # the most that rounding may have grown to in the Gram matrix, whose largest eigenvalue is about 1


def orthogonalise(matrices: Tensor, steps: int = 5, norm: Norm = "frobenius") -> Tensor:
    """Replace each matrix U S Vᵀ of a batch (N, m, n) by nearly U Vᵀ, by a Newton-Schulz iteration.

    One batched product stands for N small ones. Works on the shorter side: A = X Xᵀ is (min(m, n))². The iteration
    needs singular values in (0, 1]. Two norms bound the largest: Frobenius, (Σ s²)^½, and Schatten-4, (Σ s⁴)^¼, which
    is never the larger one, needs A alone, and so leaves less to lift: README (27.1).
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    X = matrices.mT if tall else matrices
    norms = X.norm(dim=(-2, -1), keepdim=True) + 1e-7
    A = X @ X.mT / norms.square()
    if norm == "schatten4":
        ratios = A.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-14)  # squared, to Frobenius; 0 for a matrix of zeros
        norms, A = norms * ratios.sqrt(), A / ratios
    wide = X.shape[-1] > _WIDE * X.shape[-2]
    iterate = _newton_schulz_on_gram if wide and _gram_is_exact_enough(X.dtype, steps) else _newton_schulz
    X = iterate(X / norms, A, steps)
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
    many steps there are, which pays for wide matrices. For `_gram_is_exact_enough` only.
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


def _gram_is_exact_enough(dtype: torch.dtype, steps: int) -> bool:
    """Whether so many steps can be taken on the Gram matrix.

    Where X has no component, A should be zero and is off by a rounding ε. The step A ← M A M multiplies that by a² and,
    unlike A = X Xᵀ made anew, lets it be negative: once it is large, the iteration runs away. README (27.2).
    """
    a = NEWTON_SCHULZ[0]
    return torch.finfo(dtype).eps * a ** (2 * (steps - 1)) < _NOISE


class Muon(Optimizer):
    """m ← μm + (1-μ)g,  O = orthogonalise(g + μ(m - g)),  W ← (1 - lr·wd)W - lr · √max(1, rows / columns) · O.

    For matrices only (embeddings and gains belong to AdamW). Matrices of one shape are orthogonalised as one batch.
    With a `neuron_beta` it is NorMuon: every row of O is divided by the root of its mean square over time, and the
    matrix gets its length back. README (27.3).
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
        neuron_beta: float = 0.0,
    ) -> None:
        """`dtype` is that of the iteration's products; it corrects its own rounding, so bfloat16 is exact enough.

        `neuron_beta` is the share of the mean squares of rows that stays from step to step; 0 leaves rows as they are.
        """
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "steps": newton_schulz_steps}
        super().__init__(params, {**defaults, "norm": norm, "dtype": dtype, "neuron_beta": neuron_beta})
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
            for p in params:
                if not self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
            momenta = self.held([self.state[p]["momentum"] for p in params])
            grads, weights = self.held([p.grad for p in params]), self.held(params)
            torch._foreach_lerp_(momenta, grads, 1 - group["momentum"])
            directions = torch._foreach_lerp(grads, momenta, group["momentum"])

            if group["weight_decay"]:
                torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            steps = self.orthogonalised(directions, params, group)
            lengths = [-group["lr"] * max(1, p.shape[0] / p.shape[1]) ** 0.5 for p in params]
            if not group["neuron_beta"]:
                for weight, step, length in zip(weights, steps, lengths, strict=True):
                    weight.add_(step, alpha=length)
                continue
            factors = self._factors_of_rows(steps, params, group["neuron_beta"])
            for weight, step, factor, length in zip(weights, steps, factors, lengths, strict=True):
                weight.addcmul_(step, factor, value=length)

    def _factors_of_rows(self, steps: list[Tensor], params: list[Tensor], beta: float) -> list[Tensor]:
        """What each row of each step is multiplied by, (m, 1); the mean squares of rows in the state move on.

        Rows are read once, for their squares: the product with the factor is a part of the update.
        """
        squares = [step.square().sum(1, keepdim=True) for step in steps]
        for p in params:
            if "neurons" not in self.state[p]:
                self.state[p]["neurons"] = torch.zeros_like(p[:, :1])
        means = self.held([self.state[p]["neurons"] for p in params])
        torch._foreach_lerp_(means, [s / p.shape[1] for s, p in zip(squares, params, strict=True)], 1 - beta)
        factors = [1 / (mean.sqrt() + _NO_ROW) for mean in means]
        after = [(s * factor.square()).sum() for s, factor in zip(squares, factors, strict=True)]
        lengths = self.over_processes(torch.stack([*(s.sum() for s in squares), *after])).sqrt()
        before, after = lengths.view(2, -1) + _NO_ROW
        torch._foreach_mul_(factors, list((before / after).unbind()))
        return factors

    def held(self, tensors: list[Tensor]) -> list[Tensor]:
        """What this process has of each tensor: all of it, where there is one process."""
        return tensors

    def over_processes(self, sums: Tensor) -> Tensor:
        """Sums over what this process holds, made sums over whole matrices."""
        return sums

    def orthogonalised(self, directions: list[Tensor], params: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        """The `directions` made orthogonal, those of one shape as one batch."""
        return orthogonalise_by_shape(directions, group["steps"], group["norm"], group["dtype"])


def orthogonalise_by_shape(matrices: list[Tensor], steps: int, norm: Norm, dtype: torch.dtype) -> list[Tensor]:
    """`orthogonalise`, in `dtype`, for matrices (m, n) of several shapes, a batch for each shape."""
    by_shape: dict[torch.Size, list[int]] = defaultdict(list)
    for i, matrix in enumerate(matrices):
        by_shape[matrix.shape].append(i)
    done = list(matrices)
    for shape, members in by_shape.items():
        batch = matrices[0].new_empty((len(members), *shape), dtype=dtype)
        torch._foreach_copy_(batch.unbind(), [matrices[i] for i in members])
        orthogonal = orthogonalise(batch, steps, norm).to(matrices[0].dtype)
        for i, matrix in zip(members, orthogonal.unbind(), strict=True):
            done[i] = matrix
    return done
