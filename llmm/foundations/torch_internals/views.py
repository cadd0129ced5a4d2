"""A tensor is a window on a row of numbers: shape, stride, offset, and the arithmetic of every view in pure Python.

- `Layout` is all that PyTorch keeps of a view besides its storage; `address` is equation (1) of the README.
- `as_strided`, `select`, `slice_`, `permute`, `transpose`, `expand`, `unfold`, ... turn one layout into another and
  touch no data.
- `view` says whether a shape can be had without a copy (theorem 2 of the README); `reshape` copies where it cannot.

Everything here equals PyTorch: shapes, strides (those of dimensions of size 1 too, which no address depends on),
offsets. What PyTorch refuses with a RuntimeError or an IndexError is a ValueError here.
"""

import math
from dataclasses import dataclass
from itertools import accumulate
from operator import mul

Ints = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """Where element i of a tensor lies in its storage: at `offset` + sum of i[k] * stride[k], counted in elements."""

    shape: Ints
    stride: Ints
    offset: int = 0

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def numel(self) -> int:
        """Elements that can be indexed; with a stride of 0 more than there are places."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Reshaped:
    """What a reshape comes to: its layout, and whether that is a fresh storage (True) or a view of the old one."""

    layout: Layout
    copied: bool


def contiguous_stride(shape: Ints) -> Ints:
    """Strides of a fresh row-major tensor of `shape`: the last is 1, each other is the next one times the next size.

    A size of 0 counts as 1 in the products, as in PyTorch.
    """
    return tuple(accumulate((max(size, 1) for size in reversed(shape[1:])), mul, initial=1))[::-1] if shape else ()


def address(layout: Layout, index: Ints) -> int:
    """Position in the storage of the element at `index` (one number a dimension, not negative); equation (1).

    Raises ValueError where `index` has another length than the shape or a number is out of its dimension.
    """
    if len(index) != layout.ndim or not all(0 <= i < size for i, size in zip(index, layout.shape, strict=True)):
        raise ValueError(f"index {index} is outside a tensor of shape {layout.shape}")
    return layout.offset + sum(i * step for i, step in zip(index, layout.stride, strict=True))


def is_contiguous(layout: Layout) -> bool:
    """Whether elements lie in row-major order without a gap. Size 1 does not matter; an empty tensor is contiguous."""
    expected = contiguous_stride(layout.shape)
    return layout.numel == 0 or all(
        size == 1 or step == wanted for size, step, wanted in zip(layout.shape, layout.stride, expected, strict=True)
    )


def as_strided(storage_size: int, shape: Ints, stride: Ints, offset: int = 0) -> Layout:
    """The layout asked for, after the check that it stays inside a storage of `storage_size` elements.

    Raises ValueError where lengths differ, a size, stride or the offset is negative, or the last element, at
    offset + sum of (n[k] - 1) * s[k], lies at or behind `storage_size`. A layout without elements reaches nowhere.
    """
    if len(shape) != len(stride):
        raise ValueError(f"{len(shape)} sizes and {len(stride)} strides")
    if min((*shape, *stride, offset), default=0) < 0:
        raise ValueError(f"negative size, stride or offset in {shape}, {stride}, {offset}")
    layout = Layout(shape, stride, offset)
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if layout.numel and last >= storage_size:
        raise ValueError(f"the last element would lie at {last} of a storage of {storage_size}")
    return layout


def select(layout: Layout, dim: int, index: int) -> Layout:
    """`tensor[..., index, ...]`: the dimension goes, its stride times the index moves the offset. Both may be negative.

    Raises ValueError where `dim` or `index` is out of range.
    """
    dim = _dimension(dim, layout.ndim)
    size = layout.shape[dim]
    if not -size <= index < size:
        raise ValueError(f"index {index} is outside dimension {dim} of size {size}")
    moved = layout.offset + (index % size) * layout.stride[dim]
    return Layout(_without(layout.shape, dim), _without(layout.stride, dim), moved)


def slice_(layout: Layout, dim: int, start: int | None = None, stop: int | None = None, step: int = 1) -> Layout:
    """`tensor[..., start:stop:step, ...]` with Python's rules for bounds; a step below 1 raises ValueError."""
    dim = _dimension(dim, layout.ndim)
    if step < 1:
        raise ValueError(f"step {step}: tensors have no views that run backwards, a stride cannot be negative")
    first, last, _ = slice(start, stop, step).indices(layout.shape[dim])
    size = -(-max(last - first, 0) // step)  # rounded up: a last step that is cut short still shows its first element
    moved = layout.offset + first * layout.stride[dim]
    return Layout(_replaced(layout.shape, dim, size), _replaced(layout.stride, dim, layout.stride[dim] * step), moved)


def permute(layout: Layout, dims: Ints) -> Layout:
    """Dimensions in the order `dims`, which must name each one once (ValueError)."""
    order = [_dimension(dim, layout.ndim) for dim in dims]
    if sorted(order) != list(range(layout.ndim)):
        raise ValueError(f"{dims} is no order of {layout.ndim} dimensions")
    return Layout(tuple(layout.shape[d] for d in order), tuple(layout.stride[d] for d in order), layout.offset)


def transpose(layout: Layout, dim0: int, dim1: int) -> Layout:
    """Two dimensions swapped. Of a tensor without dimensions: itself, for dim0 and dim1 of 0 or -1."""
    first, second = (_dimension(dim, max(layout.ndim, 1)) for dim in (dim0, dim1))
    order = list(range(layout.ndim))
    if order:
        order[first], order[second] = order[second], order[first]
    return permute(layout, tuple(order))


def unsqueeze(layout: Layout, dim: int) -> Layout:
    """A dimension of size 1 before `dim` (from -ndim-1 to ndim); its stride is that of a step over what follows."""
    dim = _dimension(dim, layout.ndim + 1)
    step = layout.shape[dim] * layout.stride[dim] if dim < layout.ndim else 1
    shape, stride = layout.shape, layout.stride
    return Layout((*shape[:dim], 1, *shape[dim:]), (*stride[:dim], step, *stride[dim:]), layout.offset)


def squeeze(layout: Layout, dim: int) -> Layout:
    """The layout without dimension `dim` if that has size 1, else unchanged."""
    dim = _dimension(dim, max(layout.ndim, 1))
    if layout.ndim == 0 or layout.shape[dim] != 1:
        return layout
    return Layout(_without(layout.shape, dim), _without(layout.stride, dim), layout.offset)


def expand(layout: Layout, shape: Ints) -> Layout:
    """Size 1 becomes any size by a stride of 0; new dimensions may come in front; -1 keeps a size.

    A new dimension of size 1 in front is given the stride of a step over what follows; if the tensor has no dimension
    at all, every stride is 0. Raises ValueError where a size other than 1 would change, where there are fewer
    dimensions than before, or where a new dimension is -1 or negative.
    """
    added = len(shape) - layout.ndim
    if added < 0:
        raise ValueError(f"{shape} has fewer dimensions than {layout.shape}")
    sizes: list[int] = []
    strides: list[int] = []
    for k in reversed(range(len(shape))):
        if k >= added:
            old, step = layout.shape[k - added], layout.stride[k - added]
        else:
            old, step = 1, sizes[-1] * strides[-1] if sizes and layout.ndim else 0
        size = old if shape[k] == -1 and k >= added else shape[k]
        if size < 0 or (size != old and old != 1):
            raise ValueError(f"{layout.shape} does not expand to {shape}")
        sizes.append(size)
        strides.append(step if size == old else 0)
    return Layout(tuple(reversed(sizes)), tuple(reversed(strides)), layout.offset)


def unfold(layout: Layout, dim: int, size: int, step: int) -> Layout:
    """Windows of `size` every `step` along `dim`: their number takes its place, the window is a new last dimension.

    A tensor without dimensions counts as one of size and stride 1. Raises ValueError where the window is longer than
    the dimension or negative, or the step is not positive.
    """
    shape, stride = (layout.shape, layout.stride) if layout.ndim else ((1,), (1,))
    dim = _dimension(dim, len(shape))
    if not 0 <= size <= shape[dim] or step < 1:
        raise ValueError(f"windows of {size} every {step} in a dimension of {shape[dim]}")
    windows = (shape[dim] - size) // step + 1
    if layout.ndim == 0:
        return Layout((size,), (1,), layout.offset)
    return Layout(
        (*_replaced(shape, dim, windows), size),
        (*_replaced(stride, dim, stride[dim] * step), stride[dim]),
        layout.offset,
    )


def diagonal(layout: Layout, shift: int = 0, dim0: int = 0, dim1: int = 1) -> Layout:
    """The diagonal of two dimensions as a new last one: one step of it is a step along both, so the strides add up.

    `shift` > 0 starts that many columns (of dim1) to the right, < 0 as many rows (of dim0) down; past the edge the
    diagonal is empty and the offset stays. Raises ValueError where the dimensions are the same one.
    """
    first, second = _dimension(dim0, layout.ndim), _dimension(dim1, layout.ndim)
    if first == second:
        raise ValueError(f"a diagonal needs two dimensions, not {first} twice")
    rows, columns = layout.shape[first] - max(-shift, 0), layout.shape[second] - max(shift, 0)
    length = max(min(rows, columns), 0)
    start = max(-shift, 0) * layout.stride[first] + max(shift, 0) * layout.stride[second] if length else 0
    rest = [k for k in range(layout.ndim) if k not in (first, second)]
    return Layout(
        (*(layout.shape[k] for k in rest), length),
        (*(layout.stride[k] for k in rest), layout.stride[first] + layout.stride[second]),
        layout.offset + start,
    )


def chunks(layout: Layout) -> list[tuple[int, int]]:
    """The runs of dimensions that lie in storage like one dimension: (size, stride) each, from the last to the first.

    Dimension k joins the run behind it if one step of k is exactly a step over that whole run, s[k] = n * s; equation
    (3). A dimension of size 1 takes no step and joins any run. A tensor without dimensions is one run, (1, 1).
    """
    if layout.ndim == 0:
        return [(1, 1)]
    runs = [(layout.shape[-1], layout.stride[-1])]
    for size, step in zip(reversed(layout.shape[:-1]), reversed(layout.stride[:-1]), strict=True):
        run_size, run_stride = runs[-1]
        if size == 1 or step == run_size * run_stride:
            runs[-1] = (size * run_size, run_stride)
        else:
            runs.append((size, step))
    return runs


def view(layout: Layout, shape: Ints) -> Layout | None:
    """The layout under which the same storage, uncopied, reads as `shape`; None where there is none (theorem 2).

    One size may be -1. Raises ValueError where `shape` has another number of elements.
    """
    shape = infer_shape(layout.numel, shape)
    if layout.numel == 0:  # no element, so any strides do: PyTorch keeps them for the same shape, else makes fresh ones
        return layout if shape == layout.shape else Layout(shape, contiguous_stride(shape), layout.offset)
    left = list(shape)
    strides: list[int] = []
    for size, step in chunks(layout):
        filled = 1  # elements of this run that the new dimensions cover so far
        while left and (filled < size or left[-1] == 1):
            strides.append(filled * step)
            filled *= left.pop()
        if filled != size:  # a new dimension would reach over the edge of the run
            return None
    return Layout(shape, tuple(reversed(strides)), layout.offset)


def reshape(layout: Layout, shape: Ints) -> Reshaped:
    """The view if there is one, else a row-major copy in a storage of its own. One size may be -1 (see `view`)."""
    seen = view(layout, shape)
    if seen is not None:
        return Reshaped(seen, copied=False)
    shape = infer_shape(layout.numel, shape)
    return Reshaped(Layout(shape, contiguous_stride(shape)), copied=True)


def infer_shape(numel: int, shape: Ints) -> Ints:
    """`shape` with its -1 replaced by what `numel` leaves for it.

    Raises ValueError where that is no whole number, is ambiguous (the other sizes multiply to 0), or a size is < -1.
    """
    known = math.prod(size for size in shape if size != -1)
    holes = shape.count(-1)
    if min(shape, default=0) < -1 or holes > 1:
        raise ValueError(f"{shape} is no shape: one size at most may be -1, none less")
    if holes and known and numel % known == 0:
        return tuple(numel // known if size == -1 else size for size in shape)
    if holes or known != numel:
        raise ValueError(f"{numel} elements do not fill {shape}")
    return shape


def cuts(shape: Ints) -> set[int]:
    """Products of the last 0, 1, 2, ... sizes: the flat indices at which a carry into another dimension may happen."""
    return set(accumulate(reversed(shape), mul, initial=1))


def view_exists(layout: Layout, shape: Ints) -> bool:
    """Theorem 2 as it is stated: the cuts between the runs of `layout` are all cuts of `shape`. For layouts not empty.

    `view` must agree; the README proves that no other strides could do.
    """
    return cuts(tuple(size for size, _ in reversed(chunks(layout)))) <= cuts(shape)


def _dimension(dim: int, ndim: int) -> int:
    if not -ndim <= dim < ndim:
        raise ValueError(f"dimension {dim} of a tensor of {ndim}")
    return dim % ndim


def _without(values: Ints, k: int) -> Ints:
    return values[:k] + values[k + 1 :]


def _replaced(values: Ints, k: int, value: int) -> Ints:
    return (*values[:k], value, *values[k + 1 :])
