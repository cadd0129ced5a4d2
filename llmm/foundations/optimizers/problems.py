"""What the optimizers are tried on: from a valley with two coordinates to a network that reads digits."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from llmm.foundations.optimizers.shapes import Shapes

# --- quadratics -----------------------------------------------------------------------------------------------------


def curvatures(condition: float, size: int = 32) -> Tensor:
    """Eigenvalues (size,) of a Hessian, log-spaced from 1/condition to 1, in float64."""
    return torch.logspace(0, 1, size, base=condition, dtype=torch.float64) / condition


def steps_to_reach(
    tolerance: float, h: Tensor, rule: Callable[..., Tensor], most: int = 10**6, **hyperparameters: Any
) -> int:
    """Steps until ‖w‖ ≤ tolerance · ‖w₀‖ on ½ Σ hᵢwᵢ², from w₀ = (1, ..., 1); RuntimeError after `most`."""
    w, s = torch.ones_like(h), dict[str, Any]()
    target = tolerance * float(w.norm())
    for t in range(1, most + 1):
        s["t"] = t
        w = rule(w, h * w, s, **hyperparameters)
        if w.norm() <= target:
            return t
    raise RuntimeError(f"{rule.__name__} did not come to {tolerance} in {most} steps")


# --- Reddi's counterexample -----------------------------------------------------------------------------------------


def counterexample(
    rule: Callable[..., Tensor], C: float, cycles: int, lr: float = 0.5, **hyperparameters: Any
) -> list[float]:
    """The places w ∈ [-1, 1] after every cycle of three steps on the losses Cw, -w, -w, whose sum is least at w = -1.

    The rate is lr / √t and w is put back into [-1, 1] after each step, as in 1904.09237, section 3; w starts at 0.
    """
    w, s, places = torch.zeros(1, dtype=torch.float64), dict[str, Any](), []
    slopes = [torch.full_like(w, slope) for slope in (C, -1.0, -1.0)]
    for t in range(1, 3 * cycles + 1):
        s["t"] = t
        w = rule(w, slopes[(t - 1) % 3], s, lr=lr / t**0.5, **hyperparameters).clamp(-1, 1)
        if t % 3 == 0:
            places.append(float(w))
    return places


# --- a sum of bowls, cheap enough for 200 steps to take no time ------------------------------------------------------

MATRICES: Shapes = [(5, 7), (7, 7), (7, 4)]
MIXED: Shapes = [*MATRICES, (7,), (3,), (1,)]


@torch.no_grad()
def follow(
    make: Callable[[list[Tensor]], Any],
    steps: int = 200,
    shapes: Shapes = MIXED,
    loss_scale: float = 1.0,
    before_step: Callable[[int, list[Tensor]], Any] = lambda t, params: None,
    seed: int = 0,
) -> list[Tensor]:
    """The parameters, float64 and of these shapes, after `steps` steps down loss_scale · Σ log cosh(a (w - target)).

    The weights a take three values in turn, as minibatches do; the gradient a tanh(a (w - target)) is written out.
    `make` builds the optimizer from the parameters, `before_step` may look at them and change their gradients. The path
    depends on nothing but the arguments, so two optimizers that take the same steps end at the same place.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal() -> list[Tensor]:
        return [torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes]

    params = [w.requires_grad_() for w in normal()]
    targets, minibatches = normal(), [[(0.5 * x).exp() for x in normal()] for _ in range(3)]
    optimizer = make(params)
    for t in range(1, steps + 1):
        for p, a, target in zip(params, minibatches[t % 3], targets, strict=True):
            p.grad = loss_scale * a * torch.tanh(a * (p - target))
        before_step(t, params)
        optimizer.step()
    return [p.detach() for p in params]


def farthest(a: list[Tensor], b: list[Tensor]) -> float:
    """The largest absolute difference between two lists of tensors of the same shapes; NaN counts as infinite."""
    largest = max(float((x - y).abs().max()) for x, y in zip(a, b, strict=True))
    return largest if largest == largest else float("inf")


# --- digits -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Digits:
    """scikit-learn's digits: images (N, 64) with mean 0 and standard deviation 1 over all pixels, labels (N,)."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


@cache
def digits() -> Digits:
    """1,347 images to train on and 450 to judge by, split at random by a fixed seed."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.tensor(data.data, dtype=torch.float32)
    images = (images - images.mean()) / images.std()
    labels = torch.tensor(data.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    train, test = order[:1347], order[1347:]
    return Digits(images[train], labels[train], images[test], labels[test])


class Perceptron:
    """Layers of tanh (or other) units, no framework around them: `matrices` (n_out, n_in) and `biases` (n_out,)."""

    def __init__(self, widths: tuple[int, ...], seed: int, activation: Callable[[Tensor], Tensor] = torch.tanh) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.activation = activation
        pairs = list(pairwise(widths))
        self.matrices = [(torch.randn(n, m, generator=generator) / m**0.5).requires_grad_() for m, n in pairs]
        self.biases = [torch.zeros(n, requires_grad=True) for _, n in pairs]

    @property
    def params(self) -> list[Tensor]:
        """All parameters, matrices first."""
        return self.matrices + self.biases

    def __call__(self, x: Tensor) -> Tensor:
        """Images (N, 64) to logits (N, 10)."""
        for matrix, bias in zip(self.matrices[:-1], self.biases[:-1], strict=True):
            x = self.activation(F.linear(x, matrix, bias))
        return F.linear(x, self.matrices[-1], self.biases[-1])
