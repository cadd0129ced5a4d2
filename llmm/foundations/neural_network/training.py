"""Training: minibatches, SGD with momentum, and a loop around them.

The optimizers proper are milestone M3's. This one is here so that the engine can be seen to learn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmm.foundations.neural_network.functional import cross_entropy
from llmm.foundations.neural_network.layers import Module
from llmm.foundations.neural_network.tensor import Tensor, no_grad

Array = NDArray[np.generic]


class SGD:
    """v ← momentum · v + g,  θ ← θ - lr · v, with v = 0 at first (torch's form: lr outside the average).

    `lr` may be changed between steps. Parameters without a gradient stay, and so does their v.
    """

    def __init__(self, parameters: Sequence[Tensor], lr: float, momentum: float = 0.0) -> None:
        self.parameters = list(parameters)
        self.velocities = [np.zeros_like(p.data) for p in self.parameters]
        self.lr, self.momentum = lr, momentum

    def zero_grad(self) -> None:
        """Forget the gradients: `backward` adds to what is there."""
        for p in self.parameters:
            p.grad = None

    def step(self) -> None:
        """Move every parameter that has a gradient, in place."""
        for p, v in zip(self.parameters, self.velocities, strict=True):
            if p.grad is not None:
                v *= self.momentum
                v += p.grad.data
                p.data -= self.lr * v


@dataclass(frozen=True)
class TrainingConfig:
    """How `fit` trains; lr falls linearly to zero over the run where `decay` says so."""

    epochs: int = 30
    batch_size: int = 32
    lr: float = 0.1
    momentum: float = 0.9
    decay: bool = True
    seed: int = 0


def minibatches(rng: np.random.Generator, n: int, batch_size: int) -> Iterator[NDArray[np.intp]]:
    """The indices 0 … n - 1 in random order, `batch_size` at a time; the last batch may be smaller."""
    order = rng.permutation(n)
    for start in range(0, n, batch_size):
        yield order[start : start + batch_size]


def fit(
    model: Module,
    x: Array,
    labels: Array,
    config: TrainingConfig,
    after_epoch: Callable[[int, float], bool | None] | None = None,
) -> list[float]:
    """Train a classifier by cross-entropy on x (N, ...) and integer labels (N,); the mean loss of each epoch.

    `after_epoch(epoch, loss)` is called at the end of each epoch; if it returns True, training stops there.
    """
    rng = np.random.default_rng(config.seed)
    optimizer = SGD(model.parameters(), config.lr, config.momentum)
    steps = config.epochs * -(-len(x) // config.batch_size)
    step, losses = 0, []
    for epoch in range(config.epochs):
        total = 0.0
        for rows in minibatches(rng, len(x), config.batch_size):
            if config.decay:
                optimizer.lr = config.lr * (1 - step / steps)
            loss = cross_entropy(model(Tensor(x[rows])), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
            step += 1
        losses.append(total / len(x))
        if after_epoch and after_epoch(epoch, losses[-1]):
            break
    return losses


def accuracy(model: Module, x: Array, labels: Array) -> float:
    """Share of x (N, ...) whose largest logit is at the label (N,), in evaluation mode and without recording."""
    was_training = model.training
    model.eval()
    with no_grad():
        logits = model(Tensor(x)).data
    model.train(was_training)
    return float(np.mean(logits.argmax(axis=-1) == labels))
