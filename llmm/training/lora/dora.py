"""DoRA: the length of each row of a matrix and its direction are learnt apart; the direction's change has low rank.

Source: Liu et al. 2024 (2402.09353), equations 5 and 11. The paper's columns are rows here, where x is multiplied by Wᵀ.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmm.training.lora.low_rank import LoRALinear, Scaling


class DoRALinear(LoRALinear):
    """x (..., n) → x V̂ᵀ (..., m): row i of V̂ is magnitude_i · V_i / |V_i|, with V = W + s B A."""

    def __init__(
        self,
        base_layer: nn.Module,
        rank: int,
        alpha: float,
        scaling: Scaling = "rslora",
        generator: torch.Generator | None = None,
    ) -> None:
        """`magnitude` (m,) begins as the lengths of W's rows, so that again nothing changes yet."""
        super().__init__(base_layer, rank, alpha, scaling, generator)
        self.magnitude = nn.Parameter(_row_lengths(base_layer.weight.detach()))

    def forward(self, x: Tensor) -> Tensor:
        """The lengths |V_i| count as constants in the backward pass: README (4.5)."""
        if self.merged:
            return self.base_layer(x)
        stretch = self.stretch()
        biasless = F.linear(x, self.base_layer.weight) + F.linear(F.linear(x, self.lora_A), self.lora_B) * self.scale
        bias = self.base_layer.bias
        return stretch * biasless if bias is None else stretch * biasless + bias

    def stretch(self) -> Tensor:
        """magnitude / |V|, (m,): what each row of V is multiplied by."""
        return self.magnitude / _row_lengths(self.base_layer.weight + self.change()).detach()

    def tuned_weight(self) -> Tensor:
        """V̂, (m, n)."""
        return self.stretch()[:, None] * (self.base_layer.weight + self.change())

    def base_weight(self, tuned_mn: Tensor) -> Tensor:
        """W out of V̂, by the stretch that was kept: |V| cannot be read off V̂, whose rows are as long as magnitude."""
        return tuned_mn / self._merged_stretch[:, None] - self.change()

    @torch.no_grad()
    def merge(self) -> None:
        """As in LoRA."""
        if not self.merged:
            self._merged_stretch = self.stretch()
        super().merge()


def weight_gradient(weight_grad_mn: Tensor, V_mn: Tensor, magnitude_m: Tensor, through_length: bool) -> Tensor:
    """∂L/∂V (m, n) from ∂L/∂V̂: README (4.3) where the gradient goes through the lengths too, else (4.5)."""
    lengths_m1 = V_mn.norm(dim=1, keepdim=True)
    if through_length:
        along_m1 = (weight_grad_mn * V_mn).sum(1, keepdim=True) / lengths_m1**2
        weight_grad_mn = weight_grad_mn - along_m1 * V_mn
    return magnitude_m[:, None] / lengths_m1 * weight_grad_mn


def _row_lengths(weight_mn: Tensor) -> Tensor:
    return weight_mn.norm(dim=1)
