"""The adjoint of broadcasting: what was copied on the way forward is summed on the way back.

Broadcasting x to a larger shape is a linear map B whose matrix holds a single 1 in each row: entry i of y = B x is a
copy of one entry of x. Its transpose Bᵀ therefore adds up, for each entry of x, the gradients of all its copies.
README, equations (5) and (6).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmm.foundations.neural_network.tensor import Tensor


def unbroadcast(g: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Bᵀ g: sum `g` over the axes along which `shape` was broadcast, so that the result has shape `shape`.

    NumPy broadcasts in two ways, and both are undone here: it puts new axes in front, and it stretches axes of size 1.
    """
    if g.shape == shape:
        return g
    added = g.ndim - len(shape)
    stretched = [added + i for i, n in enumerate(shape) if n == 1 and g.shape[added + i] != 1]
    return g.sum(axis=(*range(added), *stretched), keepdims=True).reshape(shape)
