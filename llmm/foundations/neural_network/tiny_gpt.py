"""A GPT of one block, written so that it runs on two engines: what the ladder will ask of this one.

The operations have the same names in `Tensor` and in torch, so a single function is both implementations; only what
makes constants and what joins tensors is handed in. M7 builds the real model; here is each operation that it needs:
embedding, RMSNorm, rotary positions, causal attention, SwiGLU, tied LM head, cross-entropy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from llmm.foundations.neural_network.tensor import Tensor, concatenate
from llmm.foundations.neural_network.training import SGD

Array = NDArray[Any]
V, D, H, HIDDEN = 17, 16, 2, 24  # vocabulary, model, heads, feed-forward


def initial_parameters(rng: np.random.Generator) -> dict[str, Array]:
    """Weights (in, out) of variance 1 / in, gains near 1."""
    shapes = {"q": (D, D), "k": (D, D), "v": (D, D), "o": (D, D), "gate": (D, HIDDEN), "up": (D, HIDDEN)}
    shapes |= {"down": (HIDDEN, D), "embedding": (V, D)}
    weights = {name: rng.standard_normal(shape) / np.sqrt(shape[0]) for name, shape in shapes.items()}
    return weights | {f"gain{i}": 1 + 0.1 * rng.standard_normal(D) for i in range(3)}


def loss(p: dict[str, Any], ids: Array, constant: Callable[[Array], Any], join: Callable[..., Any]) -> Any:
    """Mean nats of each next token of `ids` (B, T), from parameters of either engine."""
    inputs, targets = ids[:, :-1], ids[:, 1:]
    B, T = inputs.shape

    def rms_norm(x: Any, gain: Any) -> Any:
        return x * ((x * x).mean(-1, keepdims=True) + 1e-6) ** -0.5 * gain

    def heads(x: Any) -> Any:
        return x.reshape(B, T, H, D // H).swapaxes(1, 2)  # (B, H, T, D/H)

    angle = np.arange(T)[:, None] / 10.0 ** (np.arange(D // H // 2) / 2)
    cos, sin = constant(np.cos(angle)), constant(np.sin(angle))

    def rotate(x: Any) -> Any:
        a, b = x[..., : D // H // 2], x[..., D // H // 2 :]
        return join([a * cos - b * sin, b * cos + a * sin], -1)

    x = p["embedding"][inputs]  # (B, T, D)
    y = rms_norm(x, p["gain0"])
    q, k, v = rotate(heads(y @ p["q"])), rotate(heads(y @ p["k"])), heads(y @ p["v"])
    scores = (q @ k.mT) * (D // H) ** -0.5  # (B, H, T, T)
    scores = scores.masked_fill(constant(np.triu(np.ones((T, T), dtype=bool), 1)), -np.inf)
    weights = scores.exp() / scores.exp().sum(-1, keepdims=True)
    x = x + (weights @ v).swapaxes(1, 2).reshape(B, T, D) @ p["o"]
    y = rms_norm(x, p["gain1"])
    gate = y @ p["gate"]
    x = x + (gate * gate.sigmoid() * (y @ p["up"])) @ p["down"]
    logits = rms_norm(x, p["gain2"]) @ p["embedding"].T
    log_p = logits - logits.exp().sum(-1, keepdims=True).log()
    return -log_p.reshape(B * T, V)[np.arange(B * T), targets.reshape(-1)].mean()


def losses_of_both(seed: int, steps: int, lr: float = 0.1) -> tuple[list[float], list[float]]:
    """Train it on random tokens for `steps` by SGD with momentum, here and in torch: the loss before each step."""
    rng = np.random.default_rng(seed)
    start = initial_parameters(rng)
    batches = rng.integers(V, size=(steps, 4, 9))

    ours = {name: Tensor(a.copy(), requires_grad=True) for name, a in start.items()}
    optimizer = SGD(list(ours.values()), lr, momentum=0.9)
    theirs = {name: torch.tensor(a, requires_grad=True) for name, a in start.items()}
    torch_optimizer = torch.optim.SGD(theirs.values(), lr, momentum=0.9)

    curves: tuple[list[float], list[float]] = ([], [])
    for ids in batches:
        for curve, of, p, constant, join in (
            (curves[0], optimizer, ours, np.asarray, concatenate),
            (curves[1], torch_optimizer, theirs, torch.tensor, torch.cat),
        ):
            value = loss(p, ids, constant, join)
            of.zero_grad()
            value.backward()
            of.step()
            curve.append(value.item())
    return curves
