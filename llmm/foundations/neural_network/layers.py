"""Layers: functions that own their parameters.

A Module finds its parameters among its attributes, whatever holds them, so a layer is declared by its `__init__` and
its `forward` and by nothing else. Parameters have torch's names and shapes, so weights pass between the two unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmm.foundations.neural_network import functional
from llmm.foundations.neural_network.convolution import conv2d
from llmm.foundations.neural_network.initialisation import he_normal
from llmm.foundations.neural_network.tensor import Tensor

Initialise = Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.float64]]


class Module:
    """Something with parameters and a `forward`; calling it calls that. `training` says which mode it is in."""

    training: bool = True

    def __call__(self, *inputs: Any) -> Tensor:
        return self.forward(*inputs)

    def forward(self, *inputs: Any) -> Tensor:
        """The output for the inputs; each layer says of which shapes."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def named_parameters(self) -> dict[str, Tensor]:
        """The parameters by their path ("layers.0.weight"), in the order of declaration, each tensor once."""
        found: dict[str, Tensor] = {}
        seen: set[int] = set()
        for name, value in _walk(self):
            if isinstance(value, Tensor) and value.requires_grad and id(value) not in seen:
                seen.add(id(value))
                found[name] = value
        return found

    def parameters(self) -> list[Tensor]:
        """All tensors that require a gradient, in this module and those within; a shared one once."""
        return list(self.named_parameters().values())

    def train(self, mode: bool = True) -> Module:
        """Put this module and those within into training mode, or with False into evaluation mode."""
        for _, value in [("", self), *_walk(self)]:
            if isinstance(value, Module):
                value.training = mode
        return self

    def eval(self) -> Module:
        """Put this module and those within into evaluation mode: no dropout, batch norm by its running statistics."""
        return self.train(False)


def _walk(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Everything inside a module or a list, depth first, with its path."""
    if isinstance(value, Module):
        items: Any = vars(value).items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    else:
        return
    for name, inner in items:
        here = f"{path}.{name}" if path else str(name)
        yield here, inner
        yield from _walk(inner, here)


class Linear(Module):
    """y = x Wᵀ + b: (..., in) → (..., out). `weight` (out, in) drawn by `initialise`, `bias` (out,) zero or None."""

    def __init__(
        self, n_in: int, n_out: int, rng: np.random.Generator, bias: bool = True, initialise: Initialise = he_normal
    ) -> None:
        self.weight = Tensor(initialise(rng, (n_out, n_in)), requires_grad=True)
        self.bias = Tensor(np.zeros(n_out), requires_grad=True) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) → (..., out)."""
        y = x @ self.weight.T
        return y if self.bias is None else y + self.bias


class Conv2d(Module):
    """`convolution.conv2d` with `weight` (out, in, kernel, kernel) drawn by he_normal and `bias` (out,) zero."""

    def __init__(
        self, n_in: int, n_out: int, kernel: int, rng: np.random.Generator, stride: int = 1, padding: int = 0
    ) -> None:
        self.weight = Tensor(he_normal(rng, (n_out, n_in, kernel, kernel)), requires_grad=True)
        self.bias = Tensor(np.zeros(n_out), requires_grad=True)
        self.stride, self.padding = stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) → (B, out, rows, columns)."""
        return conv2d(x, self.weight, self.bias, self.stride, self.padding)


class Embedding(Module):
    """A table of vectors, `weight` (V, D) drawn from a standard normal: integer ids (...) → (..., D)."""

    def __init__(self, n_ids: int, d: int, rng: np.random.Generator) -> None:
        self.weight = Tensor(rng.standard_normal((n_ids, d)), requires_grad=True)

    def forward(self, ids: NDArray[np.integer]) -> Tensor:
        """(...) → (..., D). Raises ValueError for ids outside the table."""
        return functional.embedding(ids, self.weight)


class LayerNorm(Module):
    """Each vector (..., D) at mean 0 and variance 1, then · `weight` (D,) (first ones) + `bias` (D,) (first zeros)."""

    def __init__(self, d: int, eps: float = 1e-5) -> None:
        self.weight = Tensor(np.ones(d), requires_grad=True)
        self.bias = Tensor(np.zeros(d), requires_grad=True)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) → (..., D)."""
        return functional.layer_norm(x, self.weight, self.bias, self.eps)


class BatchNorm(Module):
    """Each channel normalised over the batch: x (B, C) or (B, C, H, W), then · `weight` (C,) + `bias` (C,).

    In training by the batch's own mean and variance (dividing by n), of which running averages are kept in the arrays
    `running_mean` and `running_var` (C,), zeros and ones at first: new = (1 - momentum) · old + momentum · batch, where
    the batch's variance divides by n - 1. In evaluation by those averages.
    """

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        self.weight = Tensor(np.ones(channels), requires_grad=True)
        self.bias = Tensor(np.zeros(channels), requires_grad=True)
        self.running_mean, self.running_var = np.zeros(channels), np.ones(channels)
        self.eps, self.momentum = eps, momentum

    def forward(self, x: Tensor) -> Tensor:
        """(B, C) or (B, C, H, W), the same shape back."""
        over = (0, *range(2, x.ndim))
        per_channel = (1, -1, *(1,) * (x.ndim - 2))
        mean: Any = self.running_mean.reshape(per_channel)
        var: Any = self.running_var.reshape(per_channel)
        if self.training:
            mean, var = x.mean(over, keepdims=True), x.var(over, keepdims=True)
            n = x.size // x.shape[1]
            self._remember(mean.data.reshape(-1), var.data.reshape(-1) * n / max(1, n - 1))
        normalised = (x - mean) / (var + self.eps) ** 0.5
        return normalised * self.weight.reshape(per_channel) + self.bias.reshape(per_channel)

    def _remember(self, mean: NDArray[Any], var: NDArray[Any]) -> None:
        self.running_mean = (1 - self.momentum) * self.running_mean + self.momentum * mean
        self.running_var = (1 - self.momentum) * self.running_var + self.momentum * var


class Dropout(Module):
    """In training zero each entry with probability `p` and divide the rest by 1 - p; in evaluation change nothing."""

    def __init__(self, p: float, rng: np.random.Generator) -> None:
        self.p, self.rng = p, rng

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, the same shape back."""
        return functional.dropout(x, self.p, self.rng) if self.training and self.p else x


class MLP(Module):
    """Linear layers of `sizes` (in, hidden, …, out) with an activation after each but the last: (..., in) → (..., out).

    With two sizes it is the softmax regression of M1. `layers` is the list of Linear layers.
    """

    def __init__(
        self,
        sizes: list[int],
        rng: np.random.Generator,
        activation: Callable[[Tensor], Tensor] = Tensor.relu,
        initialise: Initialise = he_normal,
    ) -> None:
        self.layers = [Linear(n_in, n_out, rng, initialise=initialise) for n_in, n_out in pairwise(sizes)]
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) → (..., out)."""
        *hidden, last = self.layers
        for layer in hidden:
            x = self.activation(layer(x))
        return last(x)

    def activations(self, x: Tensor) -> list[Tensor]:
        """What leaves each hidden layer, after its activation, and last the output."""
        found = []
        *hidden, last = self.layers
        for layer in hidden:
            x = self.activation(layer(x))
            found.append(x)
        return [*found, last(x)]
