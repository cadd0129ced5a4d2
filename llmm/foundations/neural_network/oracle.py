"""Every operation of the engine beside torch's: values, VJPs, JVPs and second derivatives must be the same numbers.

A case is made by choices alone: `choose(options)` picks sizes, axes and indices. A check passes it a random generator,
a property test passes it hypothesis, which then shrinks a failure to the smallest shapes that show it. Sizes start at
0, shapes at (), and every second argument broadcasts.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from llmm.foundations.neural_network import convolution, functional
from llmm.foundations.neural_network.autograd import grad, jvp
from llmm.foundations.neural_network.tensor import Tensor, concatenate, maximum, minimum, stack, where

Array = NDArray[Any]
Shape = tuple[int, ...]
Choose = Callable[[Sequence[Any]], Any]


@dataclass(frozen=True)
class Case:
    """The same function in both engines, and the shapes of its arguments."""

    ours: Callable[..., Tensor]
    theirs: Callable[..., torch.Tensor]
    shapes: list[Shape]
    domain: str = "real"  # or "positive", or "ties": few values, 0 among them, so that maxima tie and kinks are met


# --- how two engines disagree ------------------------------------------------------------------------------------


def value_error(case: Case, rng: np.random.Generator) -> float:
    """Error of the value at a random point."""
    arrays = _samples(case, rng)
    return error(case.ours(*map(Tensor, arrays)), case.theirs(*map(torch.tensor, arrays)))


def vjp_error(case: Case, rng: np.random.Generator) -> float:
    """Largest error of Jᵢᵀ u over the arguments i, for a random u."""
    return max(map(error, *_both_gradients(case, rng)[:2]))


def jvp_error(case: Case, rng: np.random.Generator) -> float:
    """Error of Σᵢ Jᵢ vᵢ, for random directions v."""
    arrays = _samples(case, rng)
    directions = [rng.standard_normal(shape) for shape in case.shapes]
    _, tangent = jvp(case.ours, [Tensor(a) for a in arrays], directions)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's own use of torch.jit
        points = tuple(map(torch.tensor, arrays)), tuple(map(torch.tensor, directions))
        _, torch_tangent = torch.func.jvp(case.theirs, *points)
    return error(tangent, torch_tangent)


def double_error(case: Case, rng: np.random.Generator) -> float:
    """Largest error of the gradient of Σᵢ wᵢ · Jᵢ(x)ᵀ u in all xᵢ and in u, with random weights w."""
    ours, theirs, (xs, u), (ts, torch_u) = _both_gradients(case, rng)
    weights = [rng.standard_normal(shape) for shape in case.shapes]
    total, torch_total = (ours[0] * weights[0]).sum(), (theirs[0] * torch.tensor(weights[0])).sum()
    for g, torch_g, w in zip(ours[1:], theirs[1:], weights[1:], strict=True):
        total, torch_total = total + (g * w).sum(), torch_total + (torch_g * torch.tensor(w)).sum()
    torch_total = torch_total + 0 * torch_u.sum()  # torch drops the graph of some empty gradients
    second = grad(total, [*xs, u])
    torch_second = torch.autograd.grad(torch_total, [*ts, torch_u], materialize_grads=True)
    return max(map(error, second, torch_second))


MEASURES = {"value": value_error, "vjp": vjp_error, "jvp": jvp_error, "double": double_error}


def _both_gradients(case: Case, rng: np.random.Generator) -> tuple[Any, Any, Any, Any]:
    """Gradients that can be differentiated again, by both engines, and what they depend on: the arguments and u."""
    arrays = _samples(case, rng)
    xs = [Tensor(a, requires_grad=True) for a in arrays]
    ts = [torch.tensor(a, requires_grad=True) for a in arrays]
    y, z = case.ours(*xs), case.theirs(*ts)
    seed = rng.standard_normal(tuple(z.shape))
    u, torch_u = Tensor(seed, requires_grad=True), torch.tensor(seed, requires_grad=True)
    ours = grad(y, xs, u, create_graph=True)
    theirs = torch.autograd.grad(z, ts, torch_u, create_graph=True, materialize_grads=True)
    return ours, theirs, (xs, u), (ts, torch_u)


def error(ours: Tensor, theirs: torch.Tensor | Array) -> float:
    """Largest |ours - theirs| / max(1, |theirs|), relative above 1 and absolute below.

    Infinite for another shape or dtype, or where only one is NaN.
    """
    a = ours.data
    b = theirs.numpy(force=True) if isinstance(theirs, torch.Tensor) else theirs
    if a.shape != b.shape or a.dtype != b.dtype:
        return np.inf
    with np.errstate(invalid="ignore"):  # inf - inf, where both are infinite alike
        difference = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0, np.abs(a - b) / np.maximum(1, np.abs(b)))
    largest = float(difference.max(initial=0.0))
    return largest if np.isfinite(largest) else np.inf


def _samples(case: Case, rng: np.random.Generator) -> list[Array]:
    return [_sample(rng, shape, case.domain) for shape in case.shapes]


def _sample(rng: np.random.Generator, shape: Shape, domain: str) -> Array:
    if domain == "ties":
        return rng.integers(-1, 2, shape).astype(np.float64)
    x = rng.standard_normal(shape)
    return np.abs(x) + 0.5 if domain == "positive" else np.asarray(x)


def chooser(rng: np.random.Generator) -> Choose:
    """Choices by a random generator."""
    return lambda options: options[int(rng.integers(len(options)))]


# --- shapes --------------------------------------------------------------------------------------------------------


def any_shape(choose: Choose, smallest: int = 0, least: int = 0) -> Shape:
    """A shape of at most three axes and at least `smallest`, each of size `least` to 3."""
    return tuple(choose(range(least, 4)) for _ in range(choose(range(smallest, 4))))


def stretchable(choose: Choose, shape: Shape) -> Shape:
    """A shape that broadcasts to `shape`: leading axes gone, others perhaps of size 1."""
    return tuple(choose((n, 1)) for n in shape[choose(range(len(shape) + 1)) :])


def two_shapes(choose: Choose) -> list[Shape]:
    """Two shapes that broadcast together."""
    shape = any_shape(choose)
    return [stretchable(choose, shape), stretchable(choose, shape)]


def any_axis(choose: Choose, shape: Shape) -> Any:
    """None, an axis counted from either end, or two of them: whatever `shape` has."""
    n = len(shape)
    pairs = [(i, j - n) for i in range(n) for j in range(i + 1, n)]
    return choose([None, *range(-n, n), *pairs])


# --- the cases -----------------------------------------------------------------------------------------------------

UNARY: dict[str, tuple[Any, Any, str]] = {
    "negative": (lambda x: -x, lambda x: -x, "real"),
    "exp": (Tensor.exp, torch.exp, "real"),
    "log": (Tensor.log, torch.log, "positive"),
    "sqrt": (Tensor.sqrt, torch.sqrt, "positive"),
    "sin": (Tensor.sin, torch.sin, "real"),
    "cos": (Tensor.cos, torch.cos, "real"),
    "tanh": (Tensor.tanh, torch.tanh, "real"),
    "sigmoid": (Tensor.sigmoid, torch.sigmoid, "real"),
    "softplus": (Tensor.softplus, F.softplus, "real"),
    "erf": (Tensor.erf, torch.erf, "real"),
    "relu": (Tensor.relu, torch.relu, "real"),
    "relu at 0": (Tensor.relu, torch.relu, "ties"),
    "abs": (Tensor.abs, torch.abs, "ties"),
    "square": (lambda x: x**2, lambda x: x**2, "ties"),
    "cube": (lambda x: x**3, lambda x: x**3, "real"),
    "power 0": (lambda x: x**0 + x, lambda x: x**0 + x, "ties"),
    "power 1": (lambda x: x**1, lambda x: x**1, "ties"),
    "power -1.5": (lambda x: x**-1.5, lambda x: x**-1.5, "positive"),
    "numbers": (lambda x: (2 - x) / 3 + 1 / x - 0.5, lambda x: (2 - x) / 3 + 1 / x - 0.5, "positive"),
    "gelu": (functional.gelu, F.gelu, "real"),
    "gelu by tanh": (lambda x: functional.gelu(x, True), lambda x: F.gelu(x, approximate="tanh"), "real"),
    "silu": (functional.silu, F.silu, "real"),
    "leaky relu": (functional.leaky_relu, F.leaky_relu, "real"),
}

BINARY: dict[str, tuple[Any, Any, str]] = {
    "add": (lambda a, b: a + b, torch.add, "real"),
    "subtract": (lambda a, b: a - b, torch.sub, "real"),
    "multiply": (lambda a, b: a * b, torch.mul, "real"),
    "divide": (lambda a, b: a / b, torch.div, "positive"),
    "maximum": (maximum, torch.maximum, "real"),
    "maximum of ties": (maximum, torch.maximum, "ties"),
    "minimum of ties": (minimum, torch.minimum, "ties"),
    "same twice": (lambda a, b: a * b + a * a, lambda a, b: a * b + a * a, "real"),
}


def _pointwise(how: tuple[Any, Any, str], shapes: Callable[[Choose], list[Shape]]) -> Callable[[Choose], Case]:
    ours, theirs, domain = how
    return lambda choose: Case(ours, theirs, shapes(choose), domain)


REDUCTIONS: dict[str, tuple[Any, Any, str]] = {
    "sum": (Tensor.sum, torch.sum, "real"),
    "mean": (Tensor.mean, torch.mean, "real"),
    "var": (Tensor.var, lambda x, **how: torch.var(x, correction=0, **how), "real"),
    "max": (Tensor.max, torch.amax, "real"),
    "max of ties": (Tensor.max, torch.amax, "ties"),
    "min of ties": (Tensor.min, torch.amin, "ties"),
}


def _reduction(name: str) -> Callable[[Choose], Case]:
    ours, theirs, domain = REDUCTIONS[name]

    def case(choose: Choose) -> Case:
        shape = any_shape(choose, least=0 if name == "sum" else 1)  # of nothing there is no mean and no maximum
        axis, keepdims = any_axis(choose, shape), choose((False, True))
        dim = tuple(range(len(shape))) if axis is None else axis
        return Case(
            lambda x: ours(x, axis, keepdims),
            lambda x: theirs(x, dim=dim if shape else 0, keepdim=keepdims),
            [shape],
            domain,
        )

    return case


def _softmax(name: str) -> Callable[[Choose], Case]:
    ours, theirs = {
        "softmax": (functional.softmax, torch.softmax),
        "log softmax": (functional.log_softmax, torch.log_softmax),
        "logsumexp": (functional.logsumexp, torch.logsumexp),
    }[name]

    def case(choose: Choose) -> Case:
        shape = list(any_shape(choose, smallest=1))
        axis = choose(range(-len(shape), len(shape)))
        shape[axis] = max(1, shape[axis])  # the logarithm of an empty sum is -inf
        return Case(lambda x: ours(x, axis), lambda x: theirs(x, dim=axis), [tuple(shape)])

    return case


def _cross_entropy(choose: Choose) -> Case:
    *leading, V = any_shape(choose, smallest=1, least=1)
    targets = np.array([choose(range(V)) for _ in range(int(np.prod(leading)))], dtype=np.int64).reshape(leading)
    return Case(
        lambda x: functional.cross_entropy(x, targets),
        lambda x: F.cross_entropy(x.reshape(-1, V), torch.tensor(targets.reshape(-1))),
        [(*leading, V)],
    )


def _layer_norm(choose: Choose) -> Case:
    shape = (*any_shape(choose), choose((2, 3)))
    D = shape[-1:]
    return Case(functional.layer_norm, lambda x, w, b: F.layer_norm(x, D, w, b), [shape, D, D])


def _mean_squared_error(choose: Choose) -> Case:
    shape = any_shape(choose, least=1)  # the mean of nothing is NaN, and so is what follows from it
    return Case(functional.mean_squared_error, F.mse_loss, [shape, shape])


def _reshape(choose: Choose) -> Case:
    shape = any_shape(choose)
    new = choose([(int(np.prod(shape)),), (1, *shape), (*shape, 1), shape[::-1]])
    return Case(lambda x: x.reshape(new), lambda x: x.reshape(new), [shape])


def _transpose(choose: Choose) -> Case:
    shape = any_shape(choose)
    left, axes = list(range(len(shape))), []
    while left:
        axes.append(left.pop(choose(range(len(left)))))
    return Case(lambda x: x.transpose(*axes), lambda x: x.permute(axes), [shape])


def _swapaxes(choose: Choose) -> Case:
    shape = any_shape(choose, smallest=1)
    i, j = choose(range(len(shape))), choose(range(-len(shape), 0))
    return Case(lambda x: x.swapaxes(i, j), lambda x: x.swapaxes(i, j), [shape])


def _broadcast(choose: Choose) -> Case:
    shape = any_shape(choose)
    return Case(lambda x: x.broadcast_to(shape), lambda x: x.broadcast_to(shape), [stretchable(choose, shape)])


def _pad(choose: Choose) -> Case:
    shape = any_shape(choose)
    widths = [(choose(range(3)), choose(range(3))) for _ in shape]
    flat = [n for pair in reversed(widths) for n in pair]  # torch wants the last axis first
    return Case(lambda x: x.pad(widths), lambda x: F.pad(x, flat), [shape])


def _join(name: str) -> Callable[[Choose], Case]:
    def case(choose: Choose) -> Case:
        shape = list(any_shape(choose, smallest=1))
        axis, n = choose(range(-len(shape), len(shape))), choose(range(1, 4))
        if name == "stack":
            return Case(lambda *x: stack(x, axis), lambda *x: torch.stack(x, axis), [tuple(shape)] * n)
        shapes = []
        for _ in range(n):
            shape[axis] = choose(range(4))
            shapes.append(tuple(shape))
        return Case(lambda *x: concatenate(x, axis), lambda *x: torch.cat(x, axis), shapes)

    return case


def _index(choose: Choose) -> Case:
    shape = tuple(choose(range(1, 4)) for _ in range(3))
    numbers = np.array([choose(range(-shape[0], shape[0])) for _ in range(choose(range(5)))], dtype=np.int64)
    others = np.array([choose(range(shape[1])) for _ in numbers], dtype=np.int64)
    mask = np.array([choose((False, True)) for _ in range(shape[0])], dtype=bool)
    index = choose([
        0, -1, slice(1, None), (slice(None), 0), (..., -1), (None, ..., slice(None, None, 2)), (0, 0, 0),
        numbers, numbers.reshape(1, -1), (numbers, others), (slice(None), others), (numbers, ..., 0), mask,
    ])  # fmt: skip
    return Case(lambda x: x[index], lambda x: x[_torch_index(index)], [shape])


def _scatter(choose: Choose) -> Case:
    n, D = choose(range(1, 4)), choose(range(3))
    index = np.array([choose(range(n)) for _ in range(choose(range(5)))], dtype=np.int64)
    return Case(
        lambda x: x.scatter(index, (n, D)),
        lambda x: torch.zeros(n, D, dtype=x.dtype).index_add(0, torch.tensor(index), x),
        [(len(index), D)],
    )


def _embedding(choose: Choose) -> Case:
    V, D = choose(range(1, 4)), choose(range(3))
    shape = any_shape(choose, least=1)
    ids = np.array([choose(range(V)) for _ in range(int(np.prod(shape)))], dtype=np.int64).reshape(shape)
    return Case(
        lambda table: functional.embedding(ids, table), lambda table: F.embedding(torch.tensor(ids), table), [(V, D)]
    )


def _where(choose: Choose) -> Case:
    shape = any_shape(choose)
    c = stretchable(choose, shape)
    condition = np.array([choose((False, True)) for _ in range(int(np.prod(c)))], dtype=bool).reshape(c)
    shapes = [stretchable(choose, shape), stretchable(choose, shape)]
    return Case(lambda a, b: where(condition, a, b), lambda a, b: torch.where(torch.tensor(condition), a, b), shapes)


def _masked_fill(choose: Choose) -> Case:
    T = choose(range(1, 4))
    future = np.triu(np.ones((T, T), dtype=bool), 1)
    return Case(
        lambda x: functional.softmax(x.masked_fill(future, -np.inf)),
        lambda x: torch.softmax(x.masked_fill(torch.tensor(future), -np.inf), -1),
        [(*any_shape(choose), T, T)],
    )


def _matmul(choose: Choose) -> Case:
    m, k, n = (choose(range(4)) for _ in range(3))
    stacked = any_shape(choose)
    a = choose([(k,), (m, k), (*stretchable(choose, stacked), m, k)])
    b = choose([(k,), (k, n), (*stretchable(choose, stacked), k, n)])
    return Case(lambda a, b: a @ b, torch.matmul, [a, b])


def _add_to_constant(choose: Choose) -> Case:
    shape = any_shape(choose)
    ones = np.ones(shape)
    return Case(lambda x: ones + x, lambda x: torch.tensor(ones) + x, [stretchable(choose, shape)])


def _stacked_matmul(choose: Choose) -> Case:
    m, k, n = (choose(range(1, 4)) for _ in range(3))
    a, b = choose([((2, 1), (3,)), ((3,), (1,)), ((2, 3), (2, 1)), ((1,), (2,)), ((2,), (3, 1))])
    return Case(lambda a, b: a @ b, torch.matmul, [(*a, m, k), (*b, k, n)])


def _attention(choose: Choose) -> Case:
    B, H, T, D = choose(range(3)), choose((1, 2)), choose((1, 3)), choose((1, 4))

    def ours(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return functional.softmax(q @ k.mT * D**-0.5) @ v

    return Case(ours, lambda q, k, v: torch.softmax(q @ k.mT * D**-0.5, -1) @ v, [(B, H, T, D)] * 3)


def _conv2d(choose: Choose) -> Case:
    B, C, K = choose(range(3)), choose((1, 2)), choose((1, 2))
    (h, w), stride, padding = (choose((1, 2, 3)), choose((1, 2))), choose((1, 2)), choose((0, 1, 2))
    size = (choose((3, 4, 5)), choose((3, 4)))
    return Case(
        lambda x, weight, bias: convolution.conv2d(x, weight, bias, stride, padding),
        lambda x, weight, bias: F.conv2d(x, weight, bias, stride, padding),
        [(B, C, *size), (K, C, h, w), (K,)],
    )


POOLS: dict[str, tuple[Any, Any]] = {
    "max pool": (convolution.max_pool2d, F.max_pool2d),
    "avg pool": (convolution.avg_pool2d, F.avg_pool2d),
}


def _pool(name: str) -> Callable[[Choose], Case]:
    ours, theirs = POOLS[name]

    def case(choose: Choose) -> Case:
        kernel, stride = choose((1, 2, 3)), choose((1, 2, 3))
        shape = (choose((1, 2)), choose((1, 2)), choose((3, 4, 5)), choose((3, 4)))
        return Case(lambda x: ours(x, kernel, stride), lambda x: theirs(x, kernel, stride), [shape])

    return case


def _windows(choose: Choose) -> Case:
    kernel, stride = (choose((1, 2)), choose((1, 2, 3))), choose((1, 2))
    shape = (*any_shape(choose), choose((3, 4)), choose((3, 5)))
    return Case(
        lambda x: x.windows(kernel, stride),
        lambda x: x.unfold(-2, kernel[0], stride).unfold(-2, kernel[1], stride),
        [shape],
    )


CASES: dict[str, Callable[[Choose], Case]] = {
    **{name: _pointwise(how, lambda choose: [any_shape(choose)]) for name, how in UNARY.items()},
    **{name: _pointwise(how, two_shapes) for name, how in BINARY.items()},
    **{name: _reduction(name) for name in REDUCTIONS},
    **{name: _softmax(name) for name in ("softmax", "log softmax", "logsumexp")},
    **{name: _join(name) for name in ("concatenate", "stack")},
    **{name: _pool(name) for name in POOLS},
    "cross entropy": _cross_entropy,
    "layer norm": _layer_norm,
    "mean squared error": _mean_squared_error,
    "reshape": _reshape,
    "transpose": _transpose,
    "swapaxes": _swapaxes,
    "broadcast": _broadcast,
    "pad": _pad,
    "index": _index,
    "scatter": _scatter,
    "embedding": _embedding,
    "where": _where,
    "masked softmax": _masked_fill,
    "add to a constant": _add_to_constant,
    "matmul": _matmul,
    "matmul of stacks": _stacked_matmul,
    "attention": _attention,
    "conv2d": _conv2d,
    "windows": _windows,
}


def random_cases(seed: int, rounds: int) -> Iterator[tuple[str, Case, np.random.Generator]]:
    """`rounds` random cases of every operation, each with a generator for its numbers."""
    for name, make in CASES.items():
        rng = np.random.default_rng([seed, *name.encode()])
        for _ in range(rounds):
            yield name, make(chooser(rng)), rng


def _torch_index(index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(map(_torch_index, index))
    return torch.tensor(index) if isinstance(index, np.ndarray) else index
