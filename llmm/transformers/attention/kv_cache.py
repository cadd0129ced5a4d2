"""Keys and values of the tokens that were already read, so that generation reads each token once."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class LayerCache:
    """Keys and values of one layer, each (B, H_kv, capacity, d_head); the first `length` places are filled."""

    keys: Tensor
    values: Tensor
    length: int = 0

    def append(self, key_BHTd: Tensor, value_BHTd: Tensor) -> tuple[Tensor, Tensor]:
        """Store T more tokens and return all keys and values so far, each (B, H_kv, length, d_head)."""
        end = self.length + key_BHTd.shape[2]
        self.keys[:, :, self.length : end] = key_BHTd
        self.values[:, :, self.length : end] = value_BHTd
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]


class KVCache:
    """One LayerCache a layer. Its size is 2 * n_layer * B * n_kv_head * capacity * d_head numbers."""

    def __init__(
        self, n_layer: int, shape: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device
    ) -> None:
        """Allocate for `shape` = (B, H_kv, capacity, d_head)."""

        def empty() -> Tensor:
            return torch.empty(shape, dtype=dtype, device=device)

        self.layers = [LayerCache(empty(), empty()) for _ in range(n_layer)]

    @property
    def length(self) -> int:
        """Tokens stored so far."""
        return self.layers[0].length
