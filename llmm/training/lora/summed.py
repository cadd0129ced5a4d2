"""A LoRA as a sum of matrices: x (W + s B A)ᵀ instead of peft's branch, x Wᵀ + s (x Aᵀ) Bᵀ. Equal, to rounding.

For N tokens, W (m, n) and rank r the branch takes 6 N r (m + n) operations, forward and backward. The sum takes 2 N m n
more than a frozen W does, for the gradient of W + s B A, which those of A and B are made of; what else it takes, it
takes once a step, however many tokens there are. So the sum is less work above r = m n / (3 (m + n)): 32 for a square
matrix of 192, 128 for one of 768.
"""

from typing import Any

import torch.nn.functional as F
from peft.tuners.lora import Linear
from torch import Tensor


class SummedLora(Linear):
    """peft's LoRA of a linear layer, without dropout, multiplied as one matrix."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """x (..., n) → (..., m). An adapter that is switched off or merged already is left to peft."""
        if self.disable_adapters or self.merged:
            return super().forward(x, *args, **kwargs)
        [name] = self.active_adapters
        change = self.lora_B[name].weight @ self.lora_A[name].weight
        return F.linear(x, self.base_layer.weight + self.scaling[name] * change, self.base_layer.bias)


def sum_where_cheaper(model: Any) -> None:
    """Let every LoRA in `model` that is wide enough be multiplied as a sum; parameters and their names stay."""
    for layer in model.modules():
        if type(layer) is Linear:
            (m, n), [rank] = layer.base_layer.weight.shape, layer.r.values()
            if 3 * rank * (m + n) > m * n:
                layer.__class__ = SummedLora
