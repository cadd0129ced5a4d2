"""Every operation of the engine, each with its two derivatives beside its name.

A primitive is a NumPy function y = f(x₁, x₂, …) and two rules for each argument i, with J = ∂y/∂xᵢ:

    vjp  g ↦ Jᵀ g    takes a gradient of y back to xᵢ           (reverse mode, `graph.pull_back`)
    jvp  t ↦ J t     takes a change of xᵢ forward to y          (forward mode, `graph.push_forward`)

Nothing here builds J. The rules are written in operations of `Tensor`, not of NumPy, so they can be differentiated in
turn: that alone gives second and higher derivatives. They see the output y too, since many derivatives are cheapest in
terms of it (exp' = y). Inputs are Tensors or Python numbers; rules are asked only for inputs that need a gradient.

The table has three parts. *Pointwise* functions have a diagonal J, so a single formula, the slope, gives both rules.
*Linear* maps are their own derivative: the JVP is the map, the VJP its adjoint, and they come in pairs (sum and
broadcast, index and scatter, windows and overlap-add). *The rest* is matrix product and maximum.
README, sections 1 to 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from llmm.foundations.neural_network import windows as sliding
from llmm.foundations.neural_network.broadcasting import unbroadcast

if TYPE_CHECKING:
    from llmm.foundations.neural_network.tensor import Tensor

Array = NDArray[Any]
Shape = tuple[int, ...]
Axis = int | tuple[int, ...] | None
Rule = Callable[..., Any]


@dataclass(frozen=True, slots=True, eq=False)
class Primitive:
    """A NumPy function and its derivatives: `forward(*arrays, **options)`, `vjp(i, g, y, *inputs, **options)` and
    `jvp(i, t, y, *inputs, **options)`, where i says which input is meant."""

    name: str
    forward: Callable[..., Any]
    vjp: Callable[..., Tensor]
    jvp: Callable[..., Tensor]


def primitive(name: str, forward: Callable[..., Any], vjp: list[Rule], jvp: list[Rule]) -> Primitive:
    """A primitive from one VJP rule and one JVP rule for each argument: rule(g or t, y, *inputs, **options)."""
    return Primitive(
        name,
        forward,
        vjp=lambda i, g, y, *inputs, **options: vjp[i](g, y, *inputs, **options),
        jvp=lambda i, t, y, *inputs, **options: jvp[i](t, y, *inputs, **options),
    )


def pointwise(name: str, forward: Callable[..., Any], *slopes: Rule) -> Primitive:
    """A primitive that works entry by entry, with broadcasting, from its partial derivatives slope(y, *inputs).

    J = diag(slope) B with B the broadcast of that input: Jᵀ g = Bᵀ (slope · g) and J t = slope · B t.
    """

    def vjp(i: int, g: Tensor, y: Tensor, *inputs: Any, **options: Any) -> Tensor:
        return unbroadcast(_scaled(g, slopes[i](y, *inputs, **options)), inputs[i].shape)

    def jvp(i: int, t: Tensor, y: Tensor, *inputs: Any, **options: Any) -> Tensor:
        return _scaled(t, slopes[i](y, *inputs, **options)).broadcast_to(y.shape)

    return Primitive(name, forward, vjp, jvp)


# --- pointwise: name, function, slope of each argument -----------------------------------------------------------

ADD = pointwise("add", np.add, lambda y, a, b: 1, lambda y, a, b: 1)
SUBTRACT = pointwise("subtract", np.subtract, lambda y, a, b: 1, lambda y, a, b: -1)
MULTIPLY = pointwise("multiply", np.multiply, lambda y, a, b: b, lambda y, a, b: a)
DIVIDE = pointwise("divide", np.divide, lambda y, a, b: 1 / b, lambda y, a, b: -y / b)
MAXIMUM = pointwise("maximum", np.maximum, lambda y, a, b: _wins(a, b), lambda y, a, b: _wins(b, a))
NEGATIVE = pointwise("negative", np.negative, lambda y, x: -1)
EXP = pointwise("exp", np.exp, lambda y, x: y)
LOG = pointwise("log", np.log, lambda y, x: 1 / x)
SQRT = pointwise("sqrt", np.sqrt, lambda y, x: 0.5 / y)
SIN = pointwise("sin", np.sin, lambda y, x: x.cos())
COS = pointwise("cos", np.cos, lambda y, x: -x.sin())
TANH = pointwise("tanh", np.tanh, lambda y, x: 1 - y * y)
SIGMOID = pointwise("sigmoid", special.expit, lambda y, x: y * (1 - y))
SOFTPLUS = pointwise("softplus", lambda x: np.logaddexp(x, x.dtype.type(0)), lambda y, x: x.sigmoid())
ERF = pointwise("erf", special.erf, lambda y, x: 2 / math.sqrt(math.pi) * (-x * x).exp())
RELU = pointwise("relu", lambda x: np.maximum(x, 0), lambda y, x: x.data > 0)
ABSOLUTE = pointwise("abs", np.abs, lambda y, x: np.sign(x.data))
POWER = pointwise(
    "power",
    lambda x, exponent: x**exponent,
    lambda y, x, exponent: exponent * x ** (exponent - 1) if exponent else 0,  # not 0 · x⁻¹, which is NaN at x = 0
)

# --- linear: name, map A, VJP Aᵀ g, JVP A t ----------------------------------------------------------------------

CAST = primitive(
    "cast", lambda x, dtype: x.astype(dtype),
    vjp=[lambda g, y, x, dtype: g.astype(x.dtype)],
    jvp=[lambda t, y, x, dtype: t.astype(dtype)],
)  # fmt: skip
RESHAPE = primitive(
    "reshape", lambda x, shape: x.reshape(shape),
    vjp=[lambda g, y, x, shape: g.reshape(x.shape)],
    jvp=[lambda t, y, x, shape: t.reshape(shape)],
)  # fmt: skip
TRANSPOSE = primitive(
    "transpose", lambda x, axes: x.transpose(axes),
    vjp=[lambda g, y, x, axes: g.transpose(_inverse(axes))],
    jvp=[lambda t, y, x, axes: t.transpose(axes)],
)  # fmt: skip
SUM = primitive(
    "sum", lambda x, axis, keepdims: x.sum(axis=axis, keepdims=keepdims),
    vjp=[lambda g, y, x, axis, keepdims: g.reshape(_kept(x.shape, axis)).broadcast_to(x.shape)],
    jvp=[lambda t, y, x, axis, keepdims: t.sum(axis, keepdims)],
)  # fmt: skip
BROADCAST = primitive(
    "broadcast", lambda x, shape: np.broadcast_to(x, shape),
    vjp=[lambda g, y, x, shape: unbroadcast(g, x.shape)],
    jvp=[lambda t, y, x, shape: t.broadcast_to(shape)],
)  # fmt: skip
INDEX = primitive(
    "index", lambda x, index: x[index],
    vjp=[lambda g, y, x, index: g.scatter(index, x.shape)],
    jvp=[lambda t, y, x, index: t[index]],
)  # fmt: skip
SCATTER = primitive(
    "scatter", lambda x, index, shape: _scatter(x, index, shape),
    vjp=[lambda g, y, x, index, shape: g[index]],
    jvp=[lambda t, y, x, index, shape: t.scatter(index, shape)],
)  # fmt: skip
PAD = primitive(
    "pad", lambda x, widths: np.pad(x, widths) if widths else x,
    vjp=[lambda g, y, x, widths: g[_crop(x.shape, widths)]],
    jvp=[lambda t, y, x, widths: t.pad(widths)],
)  # fmt: skip
WINDOWS = primitive(
    "windows", sliding.windows,
    vjp=[lambda g, y, x, kernel, stride: g.overlap_add(x.shape[-2:], stride)],
    jvp=[lambda t, y, x, kernel, stride: t.windows(kernel, stride)],
)  # fmt: skip
OVERLAP_ADD = primitive(
    "overlap-add", sliding.overlap_add,
    vjp=[lambda g, y, x, size, stride: g.windows(x.shape[-2:], stride)],
    jvp=[lambda t, y, x, size, stride: t.overlap_add(size, stride)],
)  # fmt: skip
WHERE = primitive(  # not slope · g: a gradient that is not finite where it is masked out would turn 0 · inf into NaN
    "where", lambda a, b, condition: np.where(condition, a, b),
    vjp=[
        lambda g, y, a, b, condition: unbroadcast(g.where(condition, 0.0), a.shape),
        lambda g, y, a, b, condition: unbroadcast(g.where(~condition, 0.0), b.shape),
    ],
    jvp=[
        lambda t, y, a, b, condition: t.broadcast_to(y.shape).where(condition, 0.0),
        lambda t, y, a, b, condition: t.broadcast_to(y.shape).where(~condition, 0.0),
    ],
)  # fmt: skip
CONCATENATE = Primitive(  # takes any number of arguments: argument i owns the slice that `_place` says
    "concatenate", lambda *parts, axis: np.concatenate(parts, axis),
    vjp=lambda i, g, y, *parts, axis: g[_crop(parts[i].shape, _place(i, parts, axis))],
    jvp=lambda i, t, y, *parts, axis: t.pad(_place(i, parts, axis)),
)  # fmt: skip

# --- the rest: linear in each argument alone, or in the entries that it selects ------------------------------------

MATMUL = primitive(  # (..., m, k) and (..., k, n), leading axes broadcast
    "matmul", np.matmul,
    vjp=[
        lambda g, y, a, b: unbroadcast(g @ b.mT, a.shape),
        lambda g, y, a, b: unbroadcast(a.mT @ g, b.shape),
    ],
    jvp=[
        lambda t, y, a, b: t @ b,
        lambda t, y, a, b: a @ t,
    ],
)  # fmt: skip
MAX = primitive(
    "max", lambda x, axis, keepdims: x.max(axis=axis, keepdims=keepdims),
    vjp=[lambda g, y, x, axis, keepdims: g.reshape(_kept(x.shape, axis)) * _share(x, y, axis)],
    jvp=[lambda t, y, x, axis, keepdims: (t * _share(x, y, axis)).sum(axis, keepdims)],
)  # fmt: skip


# --- what the rules are written with -------------------------------------------------------------------------------


def _scaled(g: Tensor, slope: Any) -> Tensor:
    return g if isinstance(slope, int) and slope == 1 else g * slope


def _wins(a: Any, b: Any) -> Array:
    """Slope of maximum(a, b) in a: 1 where a is larger, 0 where b is, and 1/2 where they tie (a subgradient)."""
    a, b = getattr(a, "data", a), getattr(b, "data", b)
    return np.greater(a, b) + 0.5 * np.equal(a, b)


def _share(x: Tensor, y: Tensor, axis: Axis) -> Array:
    """Each entry's share in the maximum over `axis`: entries that tie divide it evenly."""
    ties = x.data == y.data.reshape(_kept(x.shape, axis))
    return ties / ties.sum(axis=axis, keepdims=True)


def _kept(shape: Shape, axis: Axis) -> Shape:
    """`shape` with the axes that were reduced kept, at size 1."""
    if axis is None:
        return (1,) * len(shape)
    reduced = {i % len(shape) for i in (axis if isinstance(axis, tuple) else (axis,))}
    return tuple(1 if i in reduced else n for i, n in enumerate(shape))


def _inverse(axes: Shape) -> Shape:
    """The permutation that undoes `axes`."""
    return tuple(int(i) for i in np.argsort(axes))


def _scatter(x: Array, index: Any, shape: Shape) -> Array:
    """Zeros of `shape` to which `x` is added at `index`. An entry that `index` names twice receives both."""
    out = np.zeros(shape, dtype=x.dtype)
    if _is_basic(index):
        out[index] = x  # slices name no entry twice, and assigning is many times as fast as adding one by one
    else:
        np.add.at(out, index, x)
    return out


def _is_basic(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return all(
        part is None or part is Ellipsis or isinstance(part, slice | np.integer) or type(part) is int for part in parts
    )


def _crop(shape: Shape, widths: list[tuple[int, int]]) -> tuple[slice, ...]:
    """The slices that pick an array of `shape` out of the same array padded by `widths`."""
    return tuple(slice(before, before + n) for n, (before, _) in zip(shape, widths, strict=True))


def _place(i: int, parts: tuple[Any, ...], axis: int) -> list[tuple[int, int]]:
    """How much of the concatenation lies (before, after) part i, for each axis."""
    sizes = [part.shape[axis] for part in parts]
    widths = [(0, 0)] * len(parts[i].shape)
    widths[axis] = (sum(sizes[:i]), sum(sizes[i + 1 :]))
    return widths
