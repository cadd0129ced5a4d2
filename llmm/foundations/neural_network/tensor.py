"""The tensor: a NumPy array that remembers how it was computed.

A Tensor holds floating-point `data`, and, where something below it requires a gradient, its `origin` in the
computation graph. Its operators and methods are thin: each applies one row of the table in `primitives`, or is
composed of such. Indices, masks and labels stay plain NumPy arrays.

    >>> x = Tensor([3.0], requires_grad=True)
    >>> y = x * x + x
    >>> y.backward()
    >>> x.grad
    Tensor([7.])
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from llmm.foundations.neural_network import primitives as table
from llmm.foundations.neural_network.graph import Origin, checked_seed, pull_back

Array = NDArray[Any]
Shape = tuple[int, ...]
Axis = int | tuple[int, ...] | None

_RECORDING: ContextVar[bool] = ContextVar("recording", default=True)


@contextlib.contextmanager
def no_grad() -> Iterator[None]:
    """Inside this block (or a function decorated with it) nothing is recorded: results need no gradient."""
    before = _RECORDING.set(False)
    try:
        yield
    finally:
        _RECORDING.reset(before)


@contextlib.contextmanager
def enable_grad() -> Iterator[None]:
    """Inside this block operations are recorded again, even within `no_grad`."""
    before = _RECORDING.set(True)
    try:
        yield
    finally:
        _RECORDING.reset(before)


def apply(primitive: table.Primitive, *operands: Any, **options: Any) -> Tensor:
    """Compute a primitive and, where an operand requires a gradient, record it as the origin of the result."""
    inputs = _aligned(operands)
    arrays = [x.data if isinstance(x, Tensor) else x for x in inputs]
    result = Tensor(primitive.forward(*arrays, **options))
    if _RECORDING.get() and any(isinstance(x, Tensor) and x.requires_grad for x in inputs):
        result.requires_grad = True
        result.origin = Origin(primitive, inputs, options)
    return result


def _aligned(operands: tuple[Any, ...]) -> tuple[Any, ...]:
    """Operands of one dtype: arrays take that of the tensors, Python numbers stay as they are and take none."""
    dtypes = {x.data.dtype for x in operands if isinstance(x, Tensor)}
    if len(dtypes) > 1:
        raise TypeError(f"{' and '.join(sorted(map(str, dtypes)))} do not mix: cast one of them by .astype")
    dtype = dtypes.pop() if dtypes else np.float64
    return tuple(
        x if isinstance(x, Tensor) or type(x) in (int, float) else Tensor(np.asarray(x, dtype)) for x in operands
    )


class Tensor:
    """An array of floats, differentiable: `data` (any shape, () and empty ones included), `requires_grad`, `grad`.

    Integers and booleans given as data become float64; float32 stays float32. `grad` is None or a Tensor of the same
    shape, summed over all calls of `backward`. Operators + - * / @ and unary - broadcast as NumPy's do, with Tensors,
    arrays and numbers on either side; ** takes a Python number as exponent; @ takes vectors, matrices and stacks of
    matrices; x[index] takes whatever NumPy takes (an index that repeats an entry adds up its gradients). Comparisons
    < <= > >= give boolean arrays. Tensors of two dtypes do not mix (TypeError).
    Changing `data` in place between a computation and its `backward` falsifies the gradient.
    """

    __slots__ = ("__weakref__", "data", "grad", "origin", "requires_grad")
    __array_ufunc__ = None  # so that array * tensor asks the tensor

    def __init__(self, data: ArrayLike | Tensor, requires_grad: bool = False) -> None:
        """`data` is anything that NumPy makes an array of; no copy is made where none is needed."""
        array = np.asarray(data.data if isinstance(data, Tensor) else data)
        self.data: Array = array if array.dtype.kind == "f" else array.astype(np.float64)
        self.requires_grad = requires_grad
        self.grad: Tensor | None = None
        self.origin: Origin | None = None

    # --- what it is

    @property
    def shape(self) -> Shape:
        return self.data.shape

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def size(self) -> int:
        return self.data.size

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.data.dtype

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        text = np.array2string(self.data, precision=4, threshold=20, separator=", ", prefix="Tensor(")
        return f"Tensor({text}{', requires_grad=True' if self.requires_grad else ''})"

    def item(self) -> float:
        """The value of a tensor of size 1, as a Python number."""
        return float(self.data.item())

    def detach(self) -> Tensor:
        """The same data, cut off from the graph: a constant."""
        return Tensor(self.data)

    def backward(self, seed: Tensor | ArrayLike | None = None) -> None:
        """Add Jᵀ seed to the `grad` of each leaf below: each tensor with requires_grad that was not computed.

        `seed` has the tensor's shape; a tensor of size 1 needs none (it is 1). Nothing is recorded meanwhile; for
        gradients of gradients see `autograd.grad`. Raises ValueError where a seed is missing or of another shape, or
        where nothing below requires a gradient.
        """
        g = checked_seed(self, seed)
        with no_grad():
            for tensor, gradient in pull_back(self, g):
                if tensor.origin is None:
                    tensor.grad = gradient if tensor.grad is None else tensor.grad + gradient

    # --- pointwise

    def __add__(self, other: Any) -> Tensor:
        return apply(table.ADD, self, other)

    def __radd__(self, other: Any) -> Tensor:
        return apply(table.ADD, other, self)

    def __sub__(self, other: Any) -> Tensor:
        return apply(table.SUBTRACT, self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return apply(table.SUBTRACT, other, self)

    def __mul__(self, other: Any) -> Tensor:
        return apply(table.MULTIPLY, self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return apply(table.MULTIPLY, other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return apply(table.DIVIDE, self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return apply(table.DIVIDE, other, self)

    def __neg__(self) -> Tensor:
        return apply(table.NEGATIVE, self)

    def __pow__(self, exponent: float) -> Tensor:
        return apply(table.POWER, self, exponent=exponent)

    def exp(self) -> Tensor:
        """eˣ."""
        return apply(table.EXP, self)

    def log(self) -> Tensor:
        """Natural logarithm."""
        return apply(table.LOG, self)

    def sqrt(self) -> Tensor:
        """Square root."""
        return apply(table.SQRT, self)

    def sin(self) -> Tensor:
        """Sine."""
        return apply(table.SIN, self)

    def cos(self) -> Tensor:
        """Cosine."""
        return apply(table.COS, self)

    def tanh(self) -> Tensor:
        """Hyperbolic tangent."""
        return apply(table.TANH, self)

    def sigmoid(self) -> Tensor:
        """1 / (1 + e⁻ˣ), without overflow at either end."""
        return apply(table.SIGMOID, self)

    def softplus(self) -> Tensor:
        """log(1 + eˣ), without overflow."""
        return apply(table.SOFTPLUS, self)

    def erf(self) -> Tensor:
        """The error function, 2/√π ∫₀ˣ exp(-t²) dt."""
        return apply(table.ERF, self)

    def relu(self) -> Tensor:
        """max(x, 0), with slope 0 at x = 0."""
        return apply(table.RELU, self)

    def abs(self) -> Tensor:
        """|x|, with slope 0 at x = 0."""
        return apply(table.ABSOLUTE, self)

    def where(self, condition: Array, other: Any) -> Tensor:
        """This tensor where the boolean array `condition` holds and `other` where not; all three broadcast."""
        return apply(table.WHERE, self, other, condition=np.asarray(condition, bool))

    def masked_fill(self, mask: Array, value: float) -> Tensor:
        """`value` where the boolean array `mask` holds, this tensor where not."""
        return self.where(~np.asarray(mask, bool), value)

    def astype(self, dtype: DTypeLike) -> Tensor:
        """The same numbers in another floating dtype; gradients come back in this one's."""
        return self if self.dtype == dtype else apply(table.CAST, self, dtype=np.dtype(dtype))

    def __lt__(self, other: Any) -> Array:
        return self.data < _array(other)

    def __le__(self, other: Any) -> Array:
        return self.data <= _array(other)

    def __gt__(self, other: Any) -> Array:
        return self.data > _array(other)

    def __ge__(self, other: Any) -> Array:
        return self.data >= _array(other)

    # --- reductions over `axis`: None for all axes, an int, or a tuple of ints, negative ones from the end

    def sum(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Sum over `axis`; with `keepdims` the axes stay, at size 1. The sum of nothing is 0."""
        return apply(table.SUM, self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Mean over `axis`."""
        total = self.sum(axis, keepdims)
        return total * (total.size / self.size if self.size else np.nan)

    def var(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Variance over `axis`, dividing by the number of entries n (not n - 1)."""
        centred = self - self.mean(axis, keepdims=True)
        return (centred * centred).mean(axis, keepdims)

    def max(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Maximum over `axis`; entries that tie share the gradient evenly. Raises ValueError over an empty axis."""
        return apply(table.MAX, self, axis=axis, keepdims=keepdims)

    def min(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Minimum over `axis`; entries that tie share the gradient evenly. Raises ValueError over an empty axis."""
        return -(-self).max(axis, keepdims)

    # --- shape

    def reshape(self, *shape: Any) -> Tensor:
        """The same entries in row-major order in another shape, given as a tuple or as integers; one may be -1."""
        new = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple) else shape
        return self if new == self.shape else apply(table.RESHAPE, self, shape=new)

    def transpose(self, *axes: Any) -> Tensor:
        """Permute the axes: axis i of the result is axis axes[i] of this. Without arguments, reverse them."""
        order = axes[0] if len(axes) == 1 and isinstance(axes[0], tuple) else axes
        order = order or tuple(range(self.ndim))[::-1]
        return apply(table.TRANSPOSE, self, axes=tuple(i % max(self.ndim, 1) for i in order))

    def swapaxes(self, first: int, second: int) -> Tensor:
        """Exchange two axes."""
        axes = list(range(self.ndim))
        axes[first], axes[second] = axes[second], axes[first]
        return self.transpose(tuple(axes))

    @property
    def T(self) -> Tensor:
        """All axes reversed."""
        return self.transpose()

    @property
    def mT(self) -> Tensor:
        """Each matrix of a stack (..., m, n) transposed: (..., n, m)."""
        return self.swapaxes(-1, -2)

    def broadcast_to(self, shape: Shape) -> Tensor:
        """Copies along new leading axes and along axes of size 1, as NumPy broadcasts."""
        return self if shape == self.shape else apply(table.BROADCAST, self, shape=shape)

    def pad(self, widths: Sequence[tuple[int, int]]) -> Tensor:
        """Zeros around: `widths` holds (before, after) for each axis."""
        return apply(table.PAD, self, widths=list(widths))

    # --- indexing and windows

    def __getitem__(self, index: Any) -> Tensor:
        return apply(table.INDEX, self, index=index)

    def scatter(self, index: Any, shape: Shape) -> Tensor:
        """Zeros of `shape` with this tensor added at `index`: the adjoint of x[index] for x of that shape."""
        return apply(table.SCATTER, self, index=index, shape=shape)

    def windows(self, kernel: tuple[int, int], stride: int = 1) -> Tensor:
        """All windows of size `kernel` = (h, w), `stride` apart: (..., H, W) → (..., rows, columns, h, w)."""
        return apply(table.WINDOWS, self, kernel=kernel, stride=stride)

    def overlap_add(self, size: tuple[int, int], stride: int = 1) -> Tensor:
        """Windows (..., rows, columns, h, w) added up into images (..., *size): the adjoint of `windows`."""
        return apply(table.OVERLAP_ADD, self, size=size, stride=stride)

    # --- products

    def __matmul__(self, other: Any) -> Tensor:
        return matmul(self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return matmul(other, self)


def matmul(a: Any, b: Any) -> Tensor:
    """Matrix product of vectors (k,), matrices (m, k) or stacks of matrices (..., m, k), as NumPy's @.

    Raises ValueError for an operand without axes, or where the inner sizes differ.
    """
    a, b = _aligned((a, b))
    if not (getattr(a, "ndim", 0) and getattr(b, "ndim", 0)):
        raise ValueError("matmul takes vectors and matrices: an operand has no axes")
    if a.ndim == 1:
        return matmul(a.reshape(1, -1), b)[..., 0, :] if b.ndim > 1 else (a * b).sum()
    if b.ndim == 1:
        return matmul(a, b.reshape(-1, 1))[..., 0]
    if a.ndim > 2 and b.ndim == 2:
        # rows of all stacks in a single product, whose adjoint needs no stack of gradients to be summed afterwards
        rows = int(np.prod(a.shape[:-1]))
        return matmul(a.reshape(rows, a.shape[-1]), b).reshape(*a.shape[:-1], b.shape[-1])
    return apply(table.MATMUL, a, b)


def maximum(a: Any, b: Any) -> Tensor:
    """The larger of two, entry by entry, with broadcasting; where they tie each has slope 1/2."""
    return apply(table.MAXIMUM, a, b)


def minimum(a: Any, b: Any) -> Tensor:
    """The smaller of two, entry by entry, with broadcasting; where they tie each has slope 1/2."""
    return -maximum(-a, -b)


def where(condition: Array, a: Any, b: Any) -> Tensor:
    """`a` where the boolean array `condition` holds, `b` where not; all three broadcast."""
    return apply(table.WHERE, a, b, condition=np.asarray(condition, bool))


def concatenate(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Join tensors along an axis that they have; their other axes agree."""
    return apply(table.CONCATENATE, *tensors, axis=axis)


def stack(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Join tensors of one shape along a new axis."""
    new = axis % (tensors[0].ndim + 1)
    return concatenate([x.reshape(*x.shape[:new], 1, *x.shape[new:]) for x in tensors], new)


def _array(value: Any) -> Any:
    return value.data if isinstance(value, Tensor) else value
