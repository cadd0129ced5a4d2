"""Derivatives as functions: gradients of gradients, forward mode, and both together.

`Tensor.backward` is what training needs. What is here returns derivatives as tensors that can be computed with further.
README, sections 1 and 3.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from llmm.foundations.neural_network.graph import checked_seed, pull_back, push_forward
from llmm.foundations.neural_network.tensor import Tensor, enable_grad, no_grad


def grad(
    output: Tensor,
    inputs: Sequence[Tensor],
    seed: Tensor | ArrayLike | None = None,
    create_graph: bool = False,
) -> list[Tensor]:
    """(∂output/∂x)ᵀ seed for each x of `inputs`, leaves or computed; zeros where `output` does not depend on x.

    With `create_graph` the gradients are recorded, in `seed` too, and can be differentiated again. No `grad` attribute
    is touched. Raises ValueError as `Tensor.backward` does.
    """
    seed = checked_seed(output, seed)
    wanted = {id(x) for x in inputs}
    with contextlib.nullcontext() if create_graph else no_grad():
        found = {id(x): g for x, g in pull_back(output, seed) if id(x) in wanted}
    return [found.get(id(x), Tensor(np.zeros_like(x.data))) for x in inputs]


def jvp(
    function: Callable[..., Tensor], primals: Sequence[Tensor], tangents: Sequence[Tensor | ArrayLike]
) -> tuple[Tensor, Tensor]:
    """The value of function(*primals) and its directional derivative Σ (∂function/∂xᵢ) tangents[i], by forward mode.

    The tangents have the shapes of the primals (else ValueError). Calls may be nested, in `grad` and in each other.
    The sweep follows the recorded graph, so it needs the memory of reverse mode; an engine for long programs would
    carry each tangent along with its value and keep neither.
    """
    directions = [_tangent(t, x) for t, x in zip(tangents, primals, strict=True)]
    with enable_grad():
        # fresh variables: a primal that `function` also reaches in another way stays a constant there
        variables = [_variable(x) for x in primals]
        value = function(*variables)
    tangent = push_forward(value, {id(x): t for x, t in zip(variables, directions, strict=True)})
    return value, Tensor(np.zeros_like(value.data)) if tangent is None else tangent


def hessian_vector_product(function: Callable[[Tensor], Tensor], x: Tensor, v: Tensor | ArrayLike) -> Tensor:
    """∇²f(x) v of a function to size 1, forward over reverse: two sweeps, and no matrix of x.size² entries."""
    _, product = jvp(lambda z: grad(function(z), [z], create_graph=True)[0], [x], [v])
    return product


def _variable(x: Tensor) -> Tensor:
    """A new tensor equal to `x` that requires a gradient, and passes one on to `x` where that does."""
    return x + 0.0 if x.requires_grad else Tensor(x.data, requires_grad=True)


def _tangent(t: Tensor | ArrayLike, x: Tensor) -> Tensor:
    tangent = t if isinstance(t, Tensor) else Tensor(np.asarray(t, x.dtype))
    if tangent.shape != x.shape:
        raise ValueError(f"the tangent has shape {tangent.shape}, the primal {x.shape}")
    return tangent
