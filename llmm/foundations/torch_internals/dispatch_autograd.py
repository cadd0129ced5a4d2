"""Automatic differentiation as one more kernel: compute below the autograd key, write down how to go back, return.

Nothing in the dispatcher knows of derivatives. An operator becomes differentiable by the kernel that `differentiable`
makes for its AUTOGRAD key; the recorded step calls operators, so backward dispatches too: through modes, and to any
backend.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from llmm.foundations.torch_internals.dispatch_keys import Array, Kernel, Key, Keys, arrays_in
from llmm.foundations.torch_internals.dispatcher import Operator, below, excluded


class Node:
    """A step of the recorded graph: where the inputs came from, and the map from the output's gradient to theirs."""

    def __init__(self, inputs: list[Array], vjp: Callable[[Array], list[Array]]) -> None:
        self.inputs, self.vjp = inputs, vjp


def differentiable(operator: Operator, vjp: Callable[..., list[Array]]) -> Kernel:
    """The AUTOGRAD kernel of an operator: compute below autograd, then record `vjp(grad, *args)` if anybody asked.

    The vjp is made of operators and runs in backward, outside of the guard: it dispatches from the top like any code.
    """

    def kernel(keys: Keys, *args: Any) -> Any:
        with excluded(Key.AUTOGRAD):
            output = operator.redispatch(below(keys, Key.AUTOGRAD), *args)
        inputs = arrays_in(args)
        if any(array.requires_grad for array in inputs):
            output.requires_grad = True
            output.node = Node(inputs, lambda grad: vjp(grad, *args))
        return output

    return kernel


def gradients(output: Array, inputs: list[Array], add: Operator) -> list[Array | None]:
    """Gradients of the sum of `output` by each of `inputs`, by the recorded nodes; `add` sums where paths meet."""
    ones = Array(np.ones(output.shape)) if output.data is not None else Array(shape=output.shape)
    grads: dict[int, Array] = {id(output): ones}
    for array in reversed(_topological(output)):
        grad = grads.get(id(array))
        if array.node is None or grad is None:
            continue
        for source, part in zip(array.node.inputs, array.node.vjp(grad), strict=True):
            grads[id(source)] = add(grads[id(source)], part) if id(source) in grads else part
    return [grads.get(id(array)) for array in inputs]


def _topological(output: Array) -> list[Array]:
    order: list[Array] = []
    seen: set[int] = set()
    stack = [(output, False)]
    while stack:
        array, expanded = stack.pop()
        if expanded:
            order.append(array)
        elif id(array) not in seen:
            seen.add(id(array))
            stack.append((array, True))
            stack.extend((source, False) for source in (array.node.inputs if array.node else []))
    return order
