"""Softmax in a single pass: a running maximum, a running sum, and what is mixed so far. README, section 4.

Textbook softmax reads its scores three times: for the maximum, for the sum, to divide. But the maximum is only a unit
of measurement. When a larger one turns up, what has been summed is converted into the new unit by one factor, and
nothing has to be read again. So attention can look at its keys in pieces, in any order, and forget each piece.
Sources: Milakov and Gimelshein 2018 (1805.02867), algorithm 3; Dao et al. 2022 (2205.14135), section 3.1.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


def online_log_sum_exp(scores: Tensor) -> Tensor:
    """log Σ exp along the last axis, (…, S) -> (…), read one element at a time, each of them once: (4.1).

    -inf where all scores are -inf. The explanation in its smallest form; `Running` below does it a tile at a time.
    """
    top = torch.full(scores.shape[:-1], -torch.inf, dtype=scores.dtype)
    total = torch.zeros_like(top)
    for score in scores.unbind(-1):
        higher = torch.maximum(top, score)
        unit = _finite(higher)
        total = total * (top - unit).exp() + (score - unit).exp()
        top = higher
    return _finite(top) + total.log()


@dataclass
class Running:
    """Attention over the keys seen so far: their largest score, Σ exp(s - top) and Σ exp(s - top) v.

    `top` and `total` are (…, T, 1), `mixed` is (…, T, e).
    """

    top: Tensor
    total: Tensor
    mixed: Tensor

    @classmethod
    def nothing(cls, shape: tuple[int, ...], like: Tensor) -> "Running":
        """No key seen yet, for `shape` = (…, T, e) queries and channels, in the dtype and on the device of `like`."""
        mixed = like.new_zeros(shape)
        return cls(mixed.new_full((*shape[:-1], 1), -torch.inf), mixed.new_zeros((*shape[:-1], 1)), mixed)

    @classmethod
    def over(cls, scores: Tensor, values: Tensor) -> "Running":
        """A tile alone: scores (…, T, S), values (…, S, e)."""
        top = scores.amax(-1, keepdim=True)
        exponentials = (scores - _finite(top)).exp()
        return cls(top, exponentials.sum(-1, keepdim=True), exponentials @ values)

    def merge(self, other: "Running") -> "Running":
        """Both sets of keys together, (4.2): associative and commutative, with `nothing` as its zero."""
        top = torch.maximum(self.top, other.top)
        mine, theirs = (self.top - _finite(top)).exp(), (other.top - _finite(top)).exp()
        return Running(
            top,
            self.total * mine + other.total * theirs,
            self.mixed * mine + other.mixed * theirs,
        )

    def output(self) -> Tensor:
        """softmax(scores) values, (…, T, e); zeros for a query that has seen no key."""
        return self.mixed / self.total.masked_fill(self.total == 0, 1.0)

    def log_sum_exp(self) -> Tensor:
        """log Σ exp(score) of each query, (…, T); -inf for a query that has seen no key."""
        return (_finite(self.top) + self.total.log()).squeeze(-1)


def _finite(top: Tensor) -> Tensor:
    """`top`, with 0 for -inf: no key has been seen, any unit will do, and -inf - -inf would be NaN."""
    return top.masked_fill(top == -torch.inf, 0.0)
