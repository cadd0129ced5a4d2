"""SwiGLU: a feed-forward layer whose hidden units are gated.

Source: Shazeer 2020 (2002.05202), equation 6. Module names are those of `transformers`' Qwen3.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class SwiGLU(nn.Module):
    """x (B, T, D) → down(silu(gate(x)) * up(x)), with a hidden width of `d_ff`."""

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(d_model, d_ff, bias=False)
        self.up_proj = nn.Linear(d_model, d_ff, bias=False)
        self.down_proj = nn.Linear(d_ff, d_model, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Apply the layer to each position alone."""
        return self.down_proj(F.silu(self.gate_proj(x_BTD)) * self.up_proj(x_BTD))
