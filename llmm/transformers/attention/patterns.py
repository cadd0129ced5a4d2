"""Who may look at whom: causal masks, sliding windows and ALiBi as one function of two positions. README, section 5.

A mask written as a T × S matrix costs more memory than the attention it is for. Written as a function of positions it
costs nothing, works for any tile of the matrix, and for keys that lie in a cache in any order.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pattern:
    """What is added to the score of a query at position i for a key at position j, by the distance i - j.

    `causal`: no key after the query. `window`: only keys less than so many positions away, the query's own included, so
    that a causal window of 1 sees itself alone. `slopes`, one a head: -slope · |i - j| (ALiBi). A window below 1 is
    refused by both methods with a ValueError.
    """

    causal: bool = True
    window: int | None = None
    slopes: tuple[float, ...] | None = None

    def bias(self, query_positions_T: Tensor, key_positions_S: Tensor, dtype: torch.dtype) -> Tensor:
        """(T, S), or (H, T, S) with slopes: 0 or the slope's share where the key may be seen, -inf where not."""
        distance_TS = query_positions_T[:, None] - key_positions_S[None, :]
        nearest, farthest = self._distances()
        hidden_TS = (distance_TS < nearest) | (distance_TS > farthest)
        if self.slopes is None:
            bias = torch.zeros(distance_TS.shape, dtype=dtype, device=distance_TS.device)
        else:
            slopes_H = torch.tensor(self.slopes, dtype=dtype, device=distance_TS.device)
            bias = -slopes_H[:, None, None] * distance_TS.abs()
        return bias.masked_fill(hidden_TS, -math.inf)

    def hides(self, queries: range, keys: range) -> bool:
        """Whether no query at `queries` may see any key at `keys`, so that their tile of scores can be skipped."""
        nearest, farthest = self._distances()
        return queries[-1] - keys[0] < nearest or queries[0] - keys[-1] > farthest

    def _distances(self) -> tuple[float, float]:
        """The smallest and the largest i - j at which a key is seen."""
        if self.window is not None and self.window < 1:
            raise ValueError(f"a window of {self.window} lets a query see nothing, not even itself")
        farthest = math.inf if self.window is None else self.window - 1
        return (0 if self.causal else -farthest), farthest


CAUSAL = Pattern()


def alibi_slopes(n_head: int) -> tuple[float, ...]:
    """The slopes of Press et al. 2021 (2108.12409): 2^(-8/H), 2^(-16/H), … for a power of two H, so 2^-8 the last.

    Other numbers of heads take the slopes of the next smaller power of two P and fill up with every second one of 2 P.
    """
    power = 1 << (n_head.bit_length() - 1)

    def geometric(n: int) -> list[float]:
        return [2.0 ** (-8 * (h + 1) / n) for h in range(n)]

    return tuple(geometric(power) + geometric(2 * power)[::2][: n_head - power])
