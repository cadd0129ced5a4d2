"""The ladder, closed: one GPT trained twice, once with nothing but what M2 and M3 built, once in torch.

Below: the engine of M2 takes the gradients, the plain rules of M3 take the steps, all on NumPy arrays. Above: the
pipeline's `GPT`, torch's autograd, M3's multi-tensor optimizers. Same weights at first, same batches, float64: the two
loss curves must be one.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from llmm.foundations.optimizers import AdamW, Muon
from llmm.foundations.optimizers.one_by_one import State
from llmm.foundations.optimizers.plain import adamw, muon
from llmm.transformers.gpt.config import GPTConfig
from llmm.transformers.gpt.model import GPT
from llmm.transformers.gpt.own_engine import OwnGPT

ADAMW: dict[str, float] = {"lr": 3e-3, "weight_decay": 0.1}  # embeddings, LM head and gains
MUON: dict[str, float] = {"lr": 2e-2, "weight_decay": 0.1}  # the matrices of the blocks
BETAS = (0.9, 0.95)


class Plain(np.ndarray):
    """An array that also has the two methods that the plain rules ask of a tensor."""

    def sqrt(self) -> Any:
        """Square root of every entry."""
        return np.sqrt(self)

    def norm(self) -> Any:
        """Frobenius norm."""
        return np.linalg.norm(self)


class PlainOptimizers:
    """Muon for the matrices of the blocks and AdamW for the rest, by the rules of M3 as they stand there."""

    def __init__(self, model: OwnGPT) -> None:
        self.parameters = model.named_parameters()
        self.states: dict[str, State] = {name: {"t": 1} for name in self.parameters}

    def step(self) -> None:
        """Move every parameter by its gradient, and forget the gradient."""
        for name, parameter in self.parameters.items():
            assert parameter.grad is not None, name
            w, g, state = parameter.data.view(Plain), parameter.grad.data.view(Plain), self.states[name]
            if moved_by_muon(name, w.ndim):
                new = muon(w, g, state, **MUON)  # type: ignore[arg-type]
            else:
                new = adamw(w, g, state, beta1=BETAS[0], beta2=BETAS[1], **ADAMW)
            state["t"] += 1
            parameter.data, parameter.grad = np.asarray(new), None


def moved_by_muon(name: str, ndim: int) -> bool:
    """Whether the parameter is a matrix of a block."""
    return ".layers." in name and ndim == 2


def torch_optimizers(model: GPT) -> list[torch.optim.Optimizer]:
    """The same division of the parameters of torch's model, with M3's fast optimizers."""
    named = dict(model.named_parameters())
    matrices = [p for name, p in named.items() if moved_by_muon(name, p.ndim)]
    others = [p for name, p in named.items() if not moved_by_muon(name, p.ndim)]
    return [Muon(matrices, dtype=matrices[0].dtype, **MUON), AdamW(others, betas=BETAS, **ADAMW)]  # type: ignore[arg-type]


@dataclass
class Curves:
    """The loss before each step, and the largest difference of any weight after the last, of the two trainings."""

    own: list[float] = field(default_factory=list)
    torch: list[float] = field(default_factory=list)
    weights: float = 0.0

    @property
    def difference(self) -> float:
        """The largest distance of the two curves."""
        return max(abs(a - b) for a, b in zip(self.own, self.torch, strict=True))


def pair(config: GPTConfig, seed: int) -> tuple[OwnGPT, GPT]:
    """The same float64 model on both engines."""
    above = GPT(config).double()
    above.init_weights(torch.Generator().manual_seed(seed))
    below = OwnGPT(config)
    below.load({name: p.detach().numpy() for name, p in above.named_parameters()})
    return below, above


def train_both(below: OwnGPT, above: GPT, batches: NDArray[np.int64]) -> Curves:
    """Train both on `batches` (steps, B, T + 1)."""
    plain, fast = PlainOptimizers(below), torch_optimizers(above)
    curves = Curves()
    for ids in batches:
        own = below.loss(ids)
        own.backward()
        plain.step()
        curves.own.append(own.item())

        ids_BT = torch.from_numpy(ids)
        loss = above.loss(above.hidden(ids_BT[:, :-1]).flatten(0, 1), ids_BT[:, 1:].flatten())
        loss.backward()
        for optimizer in fast:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        curves.torch.append(loss.item())
    theirs = dict(above.named_parameters())
    curves.weights = max(
        float(np.abs(p.data - theirs[name].detach().numpy()).max()) for name, p in below.named_parameters().items()
    )
    return curves
