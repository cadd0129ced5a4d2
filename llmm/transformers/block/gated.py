"""Gated linear units: a feed-forward layer whose hidden units are each multiplied by a gate that the token opens.

The gate is one more matrix, so at equal parameters the hidden layer is two thirds as wide (README, equation 5.1).

Source: Shazeer 2020 (2002.05202), equations 5 and 6; the sigmoid gate is Dauphin et al. 2016 (1612.08083), equation 1.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GATES: dict[str, Callable[[Tensor], Tensor]] = {
    "bilinear": nn.Identity(),
    "glu": torch.sigmoid,
    "reglu": F.relu,
    "geglu": F.gelu,
    "swiglu": F.silu,
}


class GatedFeedForward(nn.Module):
    """x (..., D) → down(g(gate(x)) * up(x)) with a hidden width of `d_ff`; `gate`, a key of GATES, chooses g.

    The linear layers are called `gate_proj`, `up_proj` and `down_proj`, as in `transformers`.
    """

    def __init__(self, d_model: int, d_ff: int, gate: str, bias: bool = False) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(d_model, d_ff, bias=bias)
        self.up_proj = nn.Linear(d_model, d_ff, bias=bias)
        self.down_proj = nn.Linear(d_ff, d_model, bias=bias)
        self.gate = GATES[gate]

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to each position alone."""
        return self.down_proj(self.gate(self.gate_proj(x)) * self.up_proj(x))
