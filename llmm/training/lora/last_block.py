"""The last block, its feed-forward only where the loss looks: nothing reads what it makes of the other tokens.

The attention needs keys and values of all tokens. What comes after it sees one token at a time, and of the tokens of a
conversation the model writes less than half.
"""

import torch
from torch import Tensor

from llmm.device import compiled
from llmm.transformers.attention.kv_cache import LayerCache
from llmm.transformers.block.block import Block
from llmm.transformers.gpt import GPT


class LastBlock(Block):
    """A block with its norms before or around the branches; its output is asked for at flat positions (N,) of B·T."""

    wanted_N: Tensor | None = None

    def forward(
        self,
        x_BTD: Tensor,
        rope: tuple[Tensor, Tensor] | None = None,
        mask: Tensor | None = None,
        cache: LayerCache | None = None,
    ) -> Tensor:
        """Rows (N, D) of what a Block gives, or all of it (B, T, D) where no positions are wanted."""
        if self.wanted_N is None:
            return super().forward(x_BTD, rope, mask, cache)
        x_ND = self.attended(x_BTD, rope, mask).flatten(0, 1)[self.wanted_N]
        return x_ND + self.dropout(self.mlp_out_norm(self.mlp(self.post_attention_layernorm(x_ND))))

    def attended(self, x_BTD: Tensor, rope: tuple[Tensor, Tensor] | None, mask: Tensor | None) -> Tensor:
        """The residual stream (B, T, D) between the two branches."""
        attended_BTD = self.self_attn(self.input_layernorm(x_BTD), rope, mask, None)
        return x_BTD + self.dropout(self.attention_out_norm(attended_BTD))


def shorten_last_block(gpt: GPT) -> None:
    """Let the last block of `gpt` be a LastBlock, in place, unless its norms stand after the sums."""
    last = gpt.model.layers[-1]
    if last.placement != "post":
        last.__class__ = LastBlock


def compile_last_block(block: Block, device: torch.device) -> None:
    """Compile what of `block` sees all tokens; how many the rest sees is another number at every step."""
    if isinstance(block, LastBlock):
        block.attended = compiled(block.attended, device, dynamic=False)  # type: ignore[method-assign]
    else:
        block.compile(dynamic=False)


def hidden_at(gpt: GPT, ids_BT: Tensor, documents_BT: Tensor, positions_N: Tensor) -> Tensor:
    """Hidden states (N, D) after the last norm at the flat positions; arguments as in `GPT.hidden`."""
    last = gpt.model.layers[-1]
    if not isinstance(last, LastBlock):
        return gpt.hidden(ids_BT, documents_BT=documents_BT).flatten(0, 1)[positions_N]
    last.wanted_N = positions_N
    try:
        return gpt.hidden(ids_BT, documents_BT=documents_BT)
    finally:
        last.wanted_N = None
