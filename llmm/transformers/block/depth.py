"""Stacks of blocks at initialisation, and the two meters put to them: how large is the stream, how large a gradient.

What theory expects stands in propagation.py.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from llmm.transformers.attention.attention import Attention
from llmm.transformers.block.block import Block, Placement
from llmm.transformers.block.feed_forward import MLP
from llmm.transformers.block.layer_norm import LayerNorm
from llmm.transformers.block.propagation import Norms


class Stack(nn.Module):
    """x (B, T, D) through `depth` blocks of attention and a GELU layer of 4 D, and a last norm where blocks lack one.

    Every matrix is N(0, 1/fan-in), so a branch answers a normalised input with a variance that does not depend on D.
    """

    def __init__(self, norms: Norms, depth: int, d_model: int, n_head: int, generator: torch.Generator) -> None:
        super().__init__()
        make_norm: Callable[[], nn.Module] = nn.Identity if norms == "none" else lambda: LayerNorm(d_model)
        placement: Placement = "pre" if norms == "none" else norms
        self.blocks = nn.ModuleList(
            Block(
                Attention(d_model, n_head, n_head, d_model // n_head),
                MLP(d_model, 4 * d_model, "gelu"),
                make_norm,
                placement,
            )
            for _ in range(depth)
        )
        self.norm = make_norm() if norms in ("pre", "sandwich") else nn.Identity()
        with torch.no_grad():
            for parameter in self.parameters():
                if parameter.ndim == 2:
                    parameter.normal_(0, parameter.shape[1] ** -0.5, generator=generator)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """What the layer after the last norm would get."""
        *_, last = self.stream(x_BTD)
        return self.norm(last)

    def stream(self, x_BTD: Tensor) -> Iterator[Tensor]:
        """The residual stream before the first block and after each."""
        yield x_BTD
        for block in self.blocks:
            x_BTD = block(x_BTD)
            yield x_BTD


def variances(stack: Stack, x_BTD: Tensor) -> list[float]:
    """Mean square of the residual stream before the first block and after each: depth + 1 numbers."""
    with torch.no_grad():
        return [float(x.square().mean()) for x in stack.stream(x_BTD)]


def last_layer_gradient(stack: Stack, x_BTD: Tensor, readout_VD: Tensor, target_BT: Tensor) -> float:
    """Frobenius norm of the loss's gradient in the last feed-forward's second matrix, W of Xiong et al.'s theorem 1."""
    logits_BTV = stack(x_BTD) @ readout_VD.mT
    loss = nn.functional.cross_entropy(logits_BTV.flatten(0, 1), target_BT.flatten())
    (gradient,) = torch.autograd.grad(loss, [stack.blocks[-1].mlp.down_proj.weight])
    return float(gradient.norm())
