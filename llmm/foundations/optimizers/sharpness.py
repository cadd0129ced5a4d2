"""The largest curvature of a loss, from Hessian-vector products: no Hessian is ever formed."""

from collections.abc import Callable

import torch
from torch import Tensor


def sharpness(
    loss: Callable[[], Tensor], params: list[Tensor], directions: list[Tensor], most: int = 200, tolerance: float = 1e-4
) -> float:
    """The eigenvalue of largest size of the Hessian of `loss()` in `params`, by power iteration from `directions`.

    v ← Hv / ‖Hv‖ with Hv = ∇(∇loss · v), one more backward pass; the value is vᵀHv, which is off by the square of the
    angle that v is off. Ends after `most` products or once the value changes by less than `tolerance`, relative.
    `directions` (shapes of `params`) are replaced in place by the eigenvector, so that the next call, a few steps of
    training on, begins beside it.
    """
    grads = torch.autograd.grad(loss(), params, create_graph=True)
    value = 0.0
    for _ in range(most):
        length = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(directions)))
        torch._foreach_div_(directions, length)
        products = torch.autograd.grad(grads, params, grad_outputs=directions, retain_graph=True)
        previous, value = value, sum(float((v * Hv).sum()) for v, Hv in zip(directions, products, strict=True))
        torch._foreach_copy_(directions, products)
        if abs(value - previous) <= tolerance * abs(value):
            break
    return value
