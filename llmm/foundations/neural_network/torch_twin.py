"""The same MLP in torch, step for step: the peer beside which this engine's speed is measured."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from time import perf_counter

import numpy as np
import torch
import torch.nn.functional as F

from llmm.foundations.neural_network.data import digits
from llmm.foundations.neural_network.functional import cross_entropy
from llmm.foundations.neural_network.layers import MLP
from llmm.foundations.neural_network.tensor import Tensor
from llmm.foundations.neural_network.training import SGD, minibatches

Epoch = Callable[[], list[float]]


def epochs_of_both(hidden: int, batch_size: int = 32, lr: float = 0.01) -> tuple[Epoch, Epoch]:
    """An epoch on the digits with two hidden layers, here and in torch, from the same weights in the same order.

    Each call trains on for one epoch in float64 and returns the loss before each step.
    """
    split, sizes = digits(seed=0), [64, hidden, hidden, 10]
    model = MLP(sizes, np.random.default_rng(0))
    layers = [torch.nn.Linear(n_in, n_out).double() for n_in, n_out in pairwise(sizes)]
    twin = torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1], torch.nn.ReLU(), layers[2])
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        q.data = torch.tensor(p.data)
    optimizer, torch_optimizer = SGD(model.parameters(), lr, 0.9), torch.optim.SGD(twin.parameters(), lr, 0.9)
    x, labels = torch.tensor(split.x_train), torch.tensor(split.y_train)
    orders = np.random.default_rng(1), np.random.default_rng(1)

    def ours() -> list[float]:
        losses = []
        for rows in minibatches(orders[0], len(x), batch_size):
            loss = cross_entropy(model(Tensor(split.x_train[rows])), split.y_train[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    def theirs() -> list[float]:
        losses = []
        for rows in minibatches(orders[1], len(x), batch_size):
            loss = F.cross_entropy(twin(x[rows]), labels[rows])
            torch_optimizer.zero_grad()
            loss.backward()
            torch_optimizer.step()
            losses.append(loss.item())
        return losses

    return ours, theirs


def seconds_of_both(ours: Epoch, theirs: Epoch, pairs: int) -> list[tuple[float, float]]:
    """Seconds of an epoch of each, in turns, so that what disturbs one disturbs the other; on one thread."""
    torch.set_num_threads(1)
    found = []
    for _ in range(pairs + 1):
        started = perf_counter()
        ours()
        between = perf_counter()
        theirs()
        found.append((between - started, perf_counter() - between))
    return found[1:]  # the first pair warms up
