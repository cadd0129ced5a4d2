"""LoRA: a frozen matrix W and, beside it, a change s B A of low rank, which alone is trained.

Source: Hu et al. 2021 (2106.09685), section 4.1; the scale α / √r: Kalajdzievski 2023 (2312.03732), section 3. The
pipeline's fine-tuning takes peft's layers; these are what they are checked against. Names are peft's.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmm.errors import UserError
from llmm.training.lora.quantised_linear import QuantisedLinear

Scaling = Literal["lora", "rslora"]


def lora_scale(alpha: float, rank: int, scaling: Scaling) -> float:
    """What B A is multiplied by: α / r in LoRA, α / √r in rsLoRA. README (2.5)."""
    return alpha / rank if scaling == "lora" else alpha / math.sqrt(rank)


class LoRALinear(nn.Module):
    """x (..., n) → x Wᵀ + s (x Aᵀ) Bᵀ (..., m), with W (m, n) frozen, A (r, n), B (m, r)."""

    def __init__(
        self,
        base_layer: nn.Linear | QuantisedLinear,
        rank: int,
        alpha: float,
        scaling: Scaling = "rslora",
        generator: torch.Generator | None = None,
    ) -> None:
        """Around `base_layer`, which is frozen; B is zero, so nothing changes yet: README (1.1).

        Raises UserError for a rank below 1 or above the shorter side, where a matrix of full rank is smaller.
        """
        super().__init__()
        weight_mn = base_layer.weight
        m, n = weight_mn.shape
        if not 1 <= rank <= min(m, n):
            raise UserError(f"a rank of {rank} for a matrix of {m} × {n}: expected 1 to {min(m, n)}")
        self.base_layer = base_layer.requires_grad_(False)
        bound = 1 / math.sqrt(n)  # as torch's own linear layers begin
        A_rn = torch.empty(rank, n).uniform_(-bound, bound, generator=generator)
        self.lora_A = nn.Parameter(A_rn.to(weight_mn))
        self.lora_B = nn.Parameter(weight_mn.new_zeros(m, rank))
        self.alpha, self.scaling, self.scale = alpha, scaling, lora_scale(alpha, rank, scaling)
        self.merged = False

    def forward(self, x: Tensor) -> Tensor:
        """The base layer's output and the branch's."""
        if self.merged:
            return self.base_layer(x)
        return self.base_layer(x) + F.linear(F.linear(x, self.lora_A), self.lora_B) * self.scale

    def change(self) -> Tensor:
        """s B A, (m, n): README (1.1)."""
        return self.scale * (self.lora_B @ self.lora_A)

    def tuned_weight(self) -> Tensor:
        """The one matrix (m, n) that does the same as the layer."""
        return self.base_layer.weight if self.merged else self._with_change(self.base_layer.weight)

    @torch.no_grad()
    def merge(self) -> None:
        """Put the change into the base layer's weight: nothing is left to pay for at inference."""
        if not self.merged:
            _writable(self.base_layer).copy_(self._with_change(self.base_layer.weight))
            self.merged = True

    @torch.no_grad()
    def unmerge(self) -> None:
        """Take it out again, to rounding: in less than float32 it is better to keep a copy of the base."""
        if self.merged:
            _writable(self.base_layer).copy_(self._without_change(self.base_layer.weight))
            self.merged = False

    def get_extra_state(self) -> Any:
        """Whether the weight in a state dict has the change in it."""
        return {"merged": self.merged}

    def set_extra_state(self, state: Any) -> None:
        """Counterpart of `get_extra_state`."""
        self.merged = state["merged"]

    def _with_change(self, weight_mn: Tensor) -> Tensor:
        return weight_mn + self.change()

    def _without_change(self, weight_mn: Tensor) -> Tensor:
        return weight_mn - self.change()


def factor_gradients(
    x_Nn: Tensor, output_grad_Nm: Tensor, A_rn: Tensor, B_mr: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """∂L/∂A (r, n) and ∂L/∂B (m, r) by hand: README (1.4). Both go through the other factor, and cost no ∂L/∂W."""
    return scale * (output_grad_Nm @ B_mr).mT @ x_Nn, scale * output_grad_Nm.mT @ (x_Nn @ A_rn.mT)


def attach(
    model: nn.Module,
    targets: Iterable[str],
    rank: int,
    alpha: float,
    scaling: Scaling = "rslora",
    kind: type[LoRALinear] = LoRALinear,
    seed: int = 0,
) -> dict[str, LoRALinear]:
    """Put a `kind` around every layer whose last name is in `targets`, freeze all else; full name → new layer.

    Raises UserError, before anything is changed, where a target names no linear layer or the model has adapters.
    """
    if adapted := [name for name, _ in adapted_layers(model)]:
        raise UserError(f"{adapted[0]} has an adapter already")
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, LoRALinear] = {}
    for target in dict.fromkeys(targets):
        layers = {name: layer for name, layer in model.named_modules() if name.rpartition(".")[2] == target}
        if not layers:
            raise UserError(f"no layer of the model is called {target}")
        for name, layer in layers.items():
            if not isinstance(layer, nn.Linear | QuantisedLinear):
                raise UserError(f"{name} is no linear layer but a {type(layer).__name__}")
            found[name] = kind(layer, rank, alpha, scaling, generator)
    model.requires_grad_(False)
    for name, adapter in found.items():
        model.set_submodule(name, adapter)
    return found


def adapted_layers(model: nn.Module) -> Iterator[tuple[str, LoRALinear]]:
    """(name, layer) of every LoRA in `model`."""
    for name, module in model.named_modules():
        if isinstance(module, LoRALinear):
            yield name, module


def _writable(layer: nn.Linear | QuantisedLinear) -> Tensor:
    if isinstance(layer, QuantisedLinear):
        raise UserError("a matrix in four bits takes no adapter in: it would have to be rounded to its levels again")
    return layer.weight.data
