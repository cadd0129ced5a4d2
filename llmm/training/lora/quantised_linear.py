"""QLoRA's base layer: its matrix lies in four bits and is unpacked for each product; gradients go through, not into it.

Source: Dettmers et al. 2023 (2305.14314), equation 5.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from llmm.training.lora.block_quantisation import BLOCK, QuantisedMatrix


class QuantisedLinear(nn.Module):
    """x (..., n) → x Wᵀ + bias (..., m), with W the quantised matrix of `layer`."""

    def __init__(self, layer: nn.Linear, block: int = BLOCK, double: bool = True) -> None:
        super().__init__()
        self.matrix = QuantisedMatrix.of(layer.weight, block=block, double=double)
        self.dtype = layer.weight.dtype
        self.bias = layer.bias

    @property
    def weight(self) -> Tensor:
        """W (m, n), made anew: nobody keeps it."""
        return self.matrix.back(self.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """The product with the unpacked matrix."""
        return F.linear(x, self.weight, self.bias)


def quantise(model: nn.Module, targets: set[str], block: int = BLOCK, double: bool = True) -> int:
    """Quantise every linear layer whose last name is in `targets`, in place; how many bytes their matrices now take."""
    total = 0
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in targets:
            quantised = QuantisedLinear(module, block, double)
            model.set_submodule(name, quantised)
            total += quantised.matrix.bytes
    return total
