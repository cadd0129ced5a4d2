"""Keys and values of many generations in one block, so that one step continues all of them, whenever each began.

A row is one generation. All rows write their newest token to the same column; a row that joins is read apart from the
others and copied in, right-aligned, so that it ends where they end:

    columns   0         start                 length
    row 0     . . . . . a a a a a a a a a a a |       `.` is free or left over, and masked
    row 1     . . . . . . . . . b b b b b b b |       the next token of every row goes here

That works because a key carries its position in its own numbers (RoPE turns it, or the embedding holds it, before it is
stored) and positions are counted from the row's first token: which column holds a key means nothing to attention. So a
row may be moved, to join, to close a gap or to make room, and a step reads no column left of the longest row.
"""

import torch
from torch import Tensor

from agents.capstone.prefix_cache import PrefixCache
from llmm.transformers.attention.kv_cache import KVCache, LayerCache
from llmm.transformers.gpt.decode import LeanStep, Step, decode_step, lean
from llmm.transformers.gpt.model import GPT


class SharedRows:
    """Up to `rows` generations of one model, numbered 0 to `count` - 1. One thread may use it, in inference mode.

    What rows that ended held, of `kept_tokens` tokens at most, is remembered for prompts that begin with it.
    """

    @torch.inference_mode()
    def __init__(self, model: GPT, rows: int, kept_tokens: int) -> None:
        c = self.config = model.config
        self.model, self.lean, self.count = model, lean(model), 0
        self.length = 0  # columns filled, by one row at least
        weight = model.model.embed_tokens.weight
        # zeros, not whatever was in memory: a masked infinity or NaN would spoil the sum that it is masked out of
        self.block = weight.new_zeros(2, c.n_layer, rows, c.n_kv_head, c.context_len, c.d_head)
        self.pads: list[int] = []  # of each row: the columns left of its first token
        self.known = PrefixCache(kept_tokens)
        self._step: Step | None = None  # made anew when a row has come, gone or moved

    @property
    def free(self) -> int:
        """How many rows may join."""
        return self.block.shape[2] - self.count

    def join(self, prompt: list[int]) -> tuple[Tensor, int]:
        """Read `prompt`, which must be one that `generate` takes, into the row numbered `count`: the logits (1, V) of
        its next token, and how many of its first tokens needed no reading."""
        T, row = len(prompt), self.count
        if not self.count:  # in the middle, where there is room for longer rows and for new tokens
            self.length = max(T, self.config.context_len // 2)
        elif self.length < T:
            self._move(T - self.length)
        mine = self.block[:, :, row : row + 1, :, self.length - T : self.length]
        known, n = self.known.longest(prompt[:-1]), 0  # the last one is read in any case: its logits are asked for
        if known is not None:
            n = known.shape[-2]
            mine[..., :n, :] = known[:, :, None]
        ids_1T = torch.tensor([prompt[n:]], device=mine.device)
        last_1D = self.model.model(ids_1T, None, self._cache(mine, n))[:, -1]
        self.pads.append(self.length - T)
        self.count, self._step = row + 1, None
        return self.model.lm_head(last_1D), n

    def leave(self, row: int, tokens: list[int]) -> None:
        """End `row`, whose tokens are or begin with those that it has read. The last row takes its number, so that the
        rows in use stay the first ones."""
        last, start = self.count - 1, self.pads[row]
        self.known.keep(tokens[: self.length - start], self.block[:, :, row, :, start : self.length])
        if row != last:
            used = slice(self.pads[last], self.length)
            self.block[:, :, row, :, used] = self.block[:, :, last, :, used]
            self.pads[row] = self.pads[last]
        self.pads.pop()
        self.count, self._step = last, None

    def step(self, ids_B: Tensor) -> Tensor:
        """Take in the newest token of every row (B,): the logits (B, V) of their next. No row's context may be full."""
        if self.length == self.config.context_len:
            self._move(-min(self.pads))
        if self._step is None:
            self._step = self._new_step()
        self.length += 1
        return self._step(ids_B)

    def _move(self, by: int) -> None:
        """Move all rows by so many columns, to the right or, where `by` is negative, to the left."""
        start, end = min(self.pads), self.length
        rows = self.block[:, :, : self.count]
        rows[..., start + by : end + by, :] = rows[..., start:end, :].clone()
        self.pads = [pads + by for pads in self.pads]
        self.length, self._step = end + by, None

    def _new_step(self) -> Step:
        """The step over the rows in use, from the first column that one of them uses."""
        start = min(self.pads)
        window = self.block[:, :, : self.count, :, start:]
        mask_BS = None
        if any(pads != start for pads in self.pads):
            pads_B1 = torch.tensor(self.pads, device=self.block.device)[:, None] - start
            mask_BS = (torch.arange(window.shape[-2], device=self.block.device) >= pads_B1).long()
        filled = self.length - start
        if self.lean:
            return _WindowStep(self.model, window, filled, mask_BS)
        return decode_step(self.model, self._cache(window, filled), mask_BS)

    def _cache(self, window: Tensor, filled: int) -> KVCache:
        """The cache whose memory is `window` (2, L, B, H_kv, S, d), of which so many columns are filled."""
        cache = self.model.new_cache(window.shape[2], 0)
        cache.layers = [LayerCache(keys, values, filled) for keys, values in zip(*window, strict=True)]
        return cache


class _WindowStep(LeanStep):
    """LeanStep over `filled` columns of keys and values that stay where they are: `window` (2, L, B, H_kv, S, d)."""

    def __init__(self, model: GPT, window: Tensor, filled: int, mask_BS: Tensor | None) -> None:
        nothing = model.new_cache(window.shape[2], 0)  # LeanStep moves the keys and values of its cache; here are none
        super().__init__(model, nothing, mask_BS)
        self.block = window
        self.keys, self.values = window.flatten(2, 3)  # rows lie next to each other's heads: no copy
        for layer in self.cache.layers:
            layer.length = filled
