"""The computation graph: its topological order, and the two sweeps over it that are all of automatic differentiation.

Each tensor that was computed knows its origin: the primitive, its inputs and options. Following origins from a result
gives a directed graph without cycles. One sweep runs through it against the arrows and multiplies by transposed
Jacobians (reverse mode), one along the arrows and multiplies by Jacobians (forward mode). Both meet a tensor only when
all that contributes to it has been added up; that is what the topological order is for.
README, sections 1 and 2; Baydin et al. (1502.05767), section 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from llmm.foundations.neural_network.primitives import Primitive

if TYPE_CHECKING:
    from llmm.foundations.neural_network.tensor import Tensor


class Origin(NamedTuple):
    """How a tensor was made: primitive.forward(*inputs, **options)."""

    primitive: Primitive
    inputs: tuple[Any, ...]  # Tensors and Python numbers
    options: dict[str, Any]


def edges(tensor: Tensor) -> Iterator[tuple[int, Tensor]]:
    """The inputs that `tensor` was made from and that need a gradient, each with its place among the arguments."""
    if tensor.origin is not None:
        for i, x in enumerate(tensor.origin.inputs):
            if getattr(x, "requires_grad", False):
                yield i, x


def topological_order(root: Tensor) -> list[Tensor]:
    """All tensors that `root` depends on and that need a gradient, each one after everything it was made from.

    Depth first with a stack of its own: recursion would end at a chain of a thousand operations.
    """
    order: list[Tensor] = []
    seen: set[int] = set()
    stack = [(root, False)]
    while stack:
        tensor, inputs_are_done = stack.pop()
        if inputs_are_done:
            order.append(tensor)
        elif id(tensor) not in seen:
            seen.add(id(tensor))
            stack.append((tensor, True))
            stack.extend((x, False) for _, x in edges(tensor))
    return order


def checked_seed(root: Tensor, seed: Tensor | ArrayLike | None) -> Tensor:
    """What a reverse sweep from `root` starts with: `seed`, or 1 for a root of size 1. Raises ValueError if unfit."""
    if not root.requires_grad:
        raise ValueError("nothing below this tensor requires a gradient")
    if seed is None and root.size != 1:
        raise ValueError(f"a tensor of shape {root.shape} needs a seed of that shape")
    make = type(root)  # `tensor` imports this module, so this module cannot import Tensor
    array = np.ones_like(root.data) if seed is None else seed
    found = array if isinstance(array, make) else make(np.asarray(array, root.dtype))
    if found.shape != root.shape:
        raise ValueError(f"the seed has shape {found.shape}, the tensor {root.shape}")
    return found


def pull_back(root: Tensor, seed: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Reverse mode: yield each tensor x below `root` with (∂root/∂x)ᵀ seed, `root` itself first.

    A tensor that is used twice gets the sum over its uses, and is yielded when the sum is complete.
    """
    gradients = {id(root): seed}
    for y in reversed(topological_order(root)):
        g = gradients.pop(id(y))
        yield y, g
        for i, x in edges(y):
            primitive, inputs, options = y.origin  # type: ignore[misc]  # a tensor with edges has an origin
            contribution = primitive.vjp(i, g, y, *inputs, **options)
            gradients[id(x)] = gradients[id(x)] + contribution if id(x) in gradients else contribution


def push_forward(root: Tensor, tangents: dict[int, Tensor]) -> Tensor | None:
    """Forward mode: Σ (∂root/∂x) tangents[id(x)] over the tensors named in `tangents`; None where root has none below.

    A tensor with a tangent of its own is treated as an independent variable, whatever it was made from.
    """
    tangents = dict(tangents)
    for y in topological_order(root):
        if id(y) in tangents:
            continue
        for i, x in edges(y):
            if id(x) in tangents:
                primitive, inputs, options = y.origin  # type: ignore[misc]
                contribution = primitive.jvp(i, tangents[id(x)], y, *inputs, **options)
                tangents[id(y)] = tangents[id(y)] + contribution if id(y) in tangents else contribution
    return tangents.get(id(root))
