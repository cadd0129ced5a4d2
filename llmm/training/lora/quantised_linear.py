"""QLoRA's base layer: its matrix lies in four bits and is unpacked for each product, forward and backward.

Source: Dettmers et al. 2023 (2305.14314), equation 5. Gradients go through the matrix and not into it.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmm.errors import UserError
from llmm.training.lora.block_quantisation import BLOCK, QuantisedMatrix


class QuantisedLinear(nn.Module):
    """x (..., n) → x Wᵀ + bias (..., m), with W the quantised matrix of a layer, in the precision of x."""

    def __init__(self, layer: nn.Linear, block: int = BLOCK, double: bool = True) -> None:
        super().__init__()
        self.matrix = QuantisedMatrix(layer.weight, block=block, double=double)
        self.bias = layer.bias

    @property
    def weight(self) -> Tensor:
        """W (m, n), unpacked anew each time."""
        return self.matrix.back(self.matrix.levels.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """The product with the unpacked matrix, which is not kept for the backward pass."""
        product: Tensor = _UnpackedProduct.apply(x, self.matrix)
        return product if self.bias is None else product + self.bias


class _UnpackedProduct(torch.autograd.Function):
    """x Wᵀ. Autograd would keep W in full precision until the backward pass; this unpacks it once more."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: QuantisedMatrix) -> Tensor:
        ctx.matrix = matrix
        return F.linear(x, matrix.back(x.dtype))

    @staticmethod
    def backward(ctx: Any, *output_grads: Tensor) -> tuple[Tensor, None]:
        [output_grad] = output_grads
        return output_grad @ ctx.matrix.back(output_grad.dtype), None


def quantise(model: nn.Module, targets: set[str], block: int = BLOCK, double: bool = True) -> int:
    """Quantise every linear layer whose last name is in `targets`, in place; how many bytes their matrices now take.

    Raises UserError where a target names none.
    """
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    chosen = {name: layer for name, layer in layers.items() if name.rpartition(".")[2] in targets}
    if missing := sorted(targets - {name.rpartition(".")[2] for name in chosen}):
        raise UserError(f"no linear layer of the model is called {missing[0]}")
    total = 0
    for name, layer in chosen.items():
        quantised = QuantisedLinear(layer, block, double)
        model.set_submodule(name, quantised)
        total += quantised.matrix.bytes
    return total
