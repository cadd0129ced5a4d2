"""DoRA: the length of each row of a matrix and its direction are learnt apart; the direction's change has low rank.

Source: Liu et al. 2024 (2402.09353), equations 5 and 11. The paper's columns are rows here, where x is multiplied by
Wᵀ. README (4.1); what the constant leaves out: (4.5).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmm.training.lora.low_rank import LoRALinear, Scaling
from llmm.training.lora.quantised_linear import QuantisedLinear


class DoRALinear(LoRALinear):
    """x (..., n) → x V̂ᵀ (..., m): row i of V̂ is magnitude_i · V_i / |V_i|, with V = W + s B A."""

    merged_stretch: Tensor

    def __init__(
        self,
        base_layer: nn.Linear | QuantisedLinear,
        rank: int,
        alpha: float,
        scaling: Scaling = "rslora",
        generator: torch.Generator | None = None,
    ) -> None:
        """`magnitude` (m,) begins as the lengths of W's rows, so that again nothing changes yet."""
        super().__init__(base_layer, rank, alpha, scaling, generator)
        self.magnitude = nn.Parameter(_row_lengths(base_layer.weight.detach()))
        # of the matrix that was merged last: it cannot be read off V̂, whose rows are as long as magnitude
        self.register_buffer("merged_stretch", torch.ones_like(self.magnitude))

    def forward(self, x: Tensor) -> Tensor:
        """The lengths |V_i| count as constants in the backward pass: README (4.4)."""
        if self.merged:
            return self.base_layer(x)
        bias = self.base_layer.bias
        plain = F.linear(x, self.base_layer.weight) if bias is not None else self.base_layer(x)
        tuned = self.stretch() * (plain + F.linear(F.linear(x, self.lora_A), self.lora_B) * self.scale)
        return tuned if bias is None else tuned + bias

    def stretch(self) -> Tensor:
        """magnitude / |V|, (m,): what each row of V is multiplied by; 1 for a row of zeros, which has no direction."""
        lengths_m = _row_lengths(self.base_layer.weight + self.change()).detach()
        return torch.where(lengths_m == 0, 1.0, self.magnitude / torch.where(lengths_m == 0, 1.0, lengths_m))

    @torch.no_grad()
    def merge(self) -> None:
        """As in LoRA."""
        stretch = self.merged_stretch if self.merged else self.stretch()
        super().merge()
        self.merged_stretch.copy_(stretch)

    def _with_change(self, weight_mn: Tensor) -> Tensor:
        return self.stretch()[:, None] * (weight_mn + self.change())

    def _without_change(self, weight_mn: Tensor) -> Tensor:
        return weight_mn / self.merged_stretch[:, None] - self.change()


def weight_gradient(weight_grad_mn: Tensor, V_mn: Tensor, magnitude_m: Tensor, through_length: bool) -> Tensor:
    """∂L/∂V (m, n) from ∂L/∂V̂: README (4.3) where the gradient goes through the lengths too, else (4.4)."""
    lengths_m1 = V_mn.norm(dim=1, keepdim=True)
    if through_length:
        along_m1 = (weight_grad_mn * V_mn).sum(1, keepdim=True) / lengths_m1**2
        weight_grad_mn = weight_grad_mn - along_m1 * V_mn
    return magnitude_m[:, None] / lengths_m1 * weight_grad_mn


def _row_lengths(weight_mn: Tensor) -> Tensor:
    return weight_mn.norm(dim=1)
