"""A cache for sliding-window attention: a ring that keeps the last `window` tokens, however long the text gets."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class WindowCache:
    """Keys and values of one layer, each (B, H_kv, window, d_head); position p lies in slot p mod window.

    The same `append` as `kv_cache.LayerCache`; `length` counts all tokens so far, those that were overwritten included.
    """

    keys: Tensor
    values: Tensor
    length: int = 0

    def append(self, key_BKTd: Tensor, value_BKTd: Tensor) -> tuple[Tensor, Tensor]:
        """Store T more tokens; returns what their queries may look at, in order of position and ending with them.

        The first new query sees window - 1 tokens before it, so min(length, window - 1) + T keys come back.
        """
        window, T = self.keys.shape[2], key_BKTd.shape[2]
        before = _slots(self.length - min(self.length, window - 1), self.length, window)
        seen = [
            torch.cat([ring[:, :, before], new], dim=2)
            for ring, new in ((self.keys, key_BKTd), (self.values, value_BKTd))
        ]
        kept = min(T, window)
        self.length += T
        slots = _slots(self.length - kept, self.length, window)
        self.keys[:, :, slots] = key_BKTd[:, :, T - kept :]
        self.values[:, :, slots] = value_BKTd[:, :, T - kept :]
        return seen[0], seen[1]


def _slots(start: int, end: int, window: int) -> Tensor:
    return torch.arange(start, end) % window
