"""One block of keys and values for rows that come and go: each ends at the column that is written next.

The step of `decode.py` writes one column for all rows. So a row that joins has its prompt read by itself, and its keys
and values are copied to the columns before the next one; what stands left of them is masked, as the padding of a
shorter prompt is. Keys are turned by their place in their own text before they are kept, so a row may be moved along
the block without touching what it says. Where the block is full, everything moves left by what no row uses.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from llmm.errors import UserError
from llmm.transformers.gpt.decode import LeanStep, lean
from llmm.transformers.gpt.model import GPT


class SharedStep(LeanStep):
    """The newest tokens (B,) → logits (B, V) for B rows of any age, free rows among them, whose logits mean nothing."""

    def __init__(self, model: GPT, rows: int) -> None:
        """Raises UserError where the model has another build than `LeanStep` computes."""
        if not lean(model):
            raise UserError(
                "the engine decodes models of Llama's and Qwen3's build, in full precision, without adapter"
            )
        self.model, self.capacity = model, model.config.context_len
        cache = model.new_cache(rows, self.capacity)
        self.device = cache.layers[0].keys.device
        super().__init__(model, cache, torch.ones(rows, self.capacity, dtype=torch.long, device=self.device))
        self.block.zero_()  # a free row is computed as well, and nothing of what it reads may be NaN
        self.lengths = [0] * rows  # tokens of each row, 0 where it is free

    @property
    def now(self) -> int:
        """The column that is written next."""
        return self.cache.length

    def full(self, row: int) -> bool:
        """Whether a row has as many tokens as the model takes, with its newest one, which is not read yet."""
        return self.lengths[row] + 1 >= self.capacity

    def join(self, row: int, prompt: Sequence[int]) -> Tensor:
        """Read `prompt` into a free row; the logits (V,) of what follows it."""
        length = len(prompt)
        own = self.model.new_cache(1, length)
        logits_V = self.model.lm_head(self.model.model(torch.tensor([prompt], device=self.device), None, own)[0, -1])
        if not any(self.lengths) or self.now < length:
            self._move_to(length)
        for layer, filled in enumerate(own.layers):
            self.block[0, layer, row, :, self.now - length : self.now] = filled.keys[0]
            self.block[1, layer, row, :, self.now - length : self.now] = filled.values[0]
        self.lengths[row] = length
        self._mask(row)
        return logits_V

    def leave(self, row: int) -> None:
        """The row is free."""
        self.lengths[row] = 0
        self._mask(row)

    def __call__(self, ids_B: Tensor) -> Tensor:
        """See the class; each row that is not free grows by its newest token."""
        if self.now == self.capacity:
            self._move_to(max(self.lengths))
        logits_BV = super().__call__(ids_B)
        self.lengths = [length and length + 1 for length in self.lengths]
        return logits_BV

    def _move_to(self, now: int) -> None:
        """Move all rows along the block, so that they end before column `now`."""
        kept = max(self.lengths)
        self.block[..., now - kept : now, :] = self.block[..., self.now - kept : self.now, :].clone()
        for filled in self.cache.layers:
            filled.length = now
        for row in range(len(self.lengths)):
            self._mask(row)

    def _mask(self, row: int) -> None:
        """Hide what stands left of a row. A free row sees all columns: it must see something to be computed."""
        assert self.pads_B is not None and self.mask_N1S is not None
        pads = self.now - self.lengths[row] if self.lengths[row] else 0
        self.pads_B[row] = pads
        mask_BHS = self.mask_N1S.view(len(self.lengths), -1, self.capacity)
        mask_BHS[row] = 0
        mask_BHS[row, :, :pads] = -torch.inf
