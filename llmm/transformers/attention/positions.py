"""Absolute positions: sinusoids and a learned table, both added to the embeddings. README, section 7.

Without positions attention is blind to order: permute the keys with their values and no output changes. The oldest cure
adds a vector to each token that says where it stands.
Source: Vaswani et al. 2017 (1706.03762), section 3.5.
"""

import torch
from torch import Tensor, nn


def sinusoidal(positions_T: Tensor, d_model: int, theta: float = 10_000.0) -> Tensor:
    """(T, D) float64: channels 2i and 2i + 1 are sine and cosine of position · theta^(-2i/D). Raises for an odd D."""
    angle_Ti = positions_T.double()[:, None] * _frequencies(d_model, theta)
    return torch.stack([angle_Ti.sin(), angle_Ti.cos()], dim=-1).flatten(1)


def shift_matrix(shift: float, d_model: int, theta: float = 10_000.0) -> Tensor:
    """The (D, D) float64 rotation R with R sinusoidal(p) = sinusoidal(p + shift) for every p, equation (7.2).

    One fixed linear map moves all positions alike: that is how a layer can ask for "the token `shift` before".
    """
    angle_i = shift * _frequencies(d_model, theta)
    cos, sin = angle_i.cos(), angle_i.sin()
    blocks = torch.stack([torch.stack([cos, sin], -1), torch.stack([-sin, cos], -1)], -2)
    return torch.block_diag(*blocks)


class LearnedPositions(nn.Module):
    """x (B, T, D) plus a trained vector for each of `context_len` places, as in GPT-2: none beyond."""

    def __init__(self, context_len: int, d_model: int) -> None:
        super().__init__()
        self.table = nn.Embedding(context_len, d_model)

    def forward(self, x_BTD: Tensor, start: int = 0) -> Tensor:
        """Positions `start` to `start` + T. Raises ValueError where the table ends before."""
        end, size = start + x_BTD.shape[1], self.table.num_embeddings
        if end > size:
            raise ValueError(f"position {end - 1} has no vector: the table was trained for {size} positions")
        return x_BTD + self.table.weight[start:end]


def _frequencies(d_model: int, theta: float) -> Tensor:
    if d_model % 2:
        raise ValueError(f"sines and cosines come in pairs: {d_model} channels are an odd number")
    return theta ** (-torch.arange(0, d_model, 2, dtype=torch.float64) / d_model)
