"""The feed-forward layer: each position by itself, through a wider hidden layer and back.

Sources: Vaswani et al. 2017 (1706.03762), equation 2; GELU: Hendrycks and Gimpel 2016 (1606.08415); SwiGLU: Shazeer
2020 (2002.05202), equation 6; squared ReLU: So et al. 2021 (2109.08668). Module names are those of `transformers`'
Qwen3.
"""

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn


def squared_relu(x: Tensor) -> Tensor:
    """max(0, x)², element by element."""
    return F.relu(x).square()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),  # GPT-2's, 1606.08415, section 2
    "relu2": squared_relu,
}


class SwiGLU(nn.Module):
    """x (B, T, D) → down(silu(gate(x)) * up(x)), with a hidden width of `d_ff`: the gates open some hidden units."""

    def __init__(self, d_model: int, d_ff: int, bias: bool = False) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(d_model, d_ff, bias=bias)
        self.up_proj = nn.Linear(d_model, d_ff, bias=bias)
        self.down_proj = nn.Linear(d_ff, d_model, bias=bias)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Apply the layer to each position alone."""
        return self.down_proj(F.silu(self.gate_proj(x_BTD)) * self.up_proj(x_BTD))


class MLP(nn.Module):
    """x (B, T, D) → down(activation(up(x))), with a hidden width of `d_ff`; `activation` is a key of ACTIVATIONS."""

    def __init__(self, d_model: int, d_ff: int, activation: str, bias: bool = False) -> None:
        super().__init__()
        self.up_proj = nn.Linear(d_model, d_ff, bias=bias)
        self.down_proj = nn.Linear(d_ff, d_model, bias=bias)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Apply the layer to each position alone."""
        return self.down_proj(self.activation(self.up_proj(x_BTD)))
