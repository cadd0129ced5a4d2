"""Generated cases that ask PyTorch and `views` the same question and put the two answers side by side.

Each case starts from a random window on a storage (sizes 0 and 1, no dimension, stride 0 and overlaps included),
takes some views of it and asks one last question; a third of the questions are such that PyTorch may refuse.
"""

import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from llmm.foundations.torch_internals import views
from llmm.foundations.torch_internals.views import Ints, Layout

STORAGE = 4096
REFUSED = "refused"


@dataclass(frozen=True)
class Case:
    """One question and both answers: a layout, a layout with "view" or "copy", or "refused"."""

    question: str
    torch_says: object
    ours: object


def layout_of(tensor: Tensor) -> Layout:
    """What PyTorch keeps of the view `tensor`."""
    return Layout(tuple(tensor.shape), tuple(tensor.stride()), int(tensor.storage_offset()))


def random_tensor(rng: random.Random) -> Tensor:
    """A window on a storage, and up to three views of it."""
    tensor = _random_window(rng)
    for _ in range(rng.randrange(4)):
        name = rng.choice(["transpose", "slice", "expand", "unsqueeze", "select", "unfold", "permute"])
        try:
            following = QUESTIONS[name](rng, tensor)[0]()
        except (RuntimeError, IndexError):
            continue
        if following.numel() <= STORAGE and following.ndim <= 5:
            tensor = following
    return tensor


def random_shape(rng: random.Random, tensor: Tensor) -> Ints:
    """A shape for the elements of `tensor`, of which there are some: their number's prime factors dealt out anew."""
    factors = list(itertools.chain.from_iterable(_prime_factors(size) for size in tensor.shape))
    if rng.random() < 0.3:
        rng.shuffle(factors)
    shape: list[int] = []
    for factor in factors:
        if shape and rng.random() < 0.5:
            shape[-1] *= factor
        else:
            shape.append(factor)
    for _ in range(rng.choice([0, 0, 1, 2])):
        shape.insert(rng.randrange(len(shape) + 1), 1)
    return tuple(shape)


def random_case(rng: random.Random) -> Case:
    """A random tensor and a last question out of `QUESTIONS`."""
    tensor = random_tensor(rng)
    name = rng.choice([*QUESTIONS, "view", "view", "reshape"])
    theirs, ours, words = QUESTIONS[name](rng, tensor)
    start = layout_of(tensor)
    return Case(f"{name}({words}) of {start}", _answer(theirs, tensor), _answer(ours, tensor))


def _answer(ask: Callable[[], Any], source: Tensor) -> object:
    try:
        result = ask()
    except NotImplementedError:  # a RuntimeError too, but no answer
        raise
    except (RuntimeError, IndexError, ValueError):
        return REFUSED
    if isinstance(result, tuple):  # PyTorch's reshape: whether it copied is seen from whose storage it has
        tensor = result[0]
        shared = tensor.untyped_storage().data_ptr() == source.untyped_storage().data_ptr()
        return layout_of(tensor), "view" if shared else "copy"
    if isinstance(result, views.Reshaped):
        return result.layout, "copy" if result.copied else "view"
    return layout_of(result) if isinstance(result, Tensor) else result


def _random_window(rng: random.Random) -> Tensor:
    shape = tuple(rng.choice([0, 1, 1, 2, 2, 3, 4, 6]) for _ in range(rng.randrange(5)))
    if rng.random() < 0.6:  # row-major, as most tensors are, or such a one transposed
        tensor = torch.arange(STORAGE)[: math.prod(shape)].view(shape)
        return tensor.permute(rng.sample(range(len(shape)), len(shape))) if rng.random() < 0.5 else tensor
    stride = tuple(rng.choice([0, 1, 2, 3, 4, 6, 12, 24]) for _ in shape)
    return torch.arange(STORAGE).as_strided(shape, stride, rng.randrange(20))


Question = tuple[Callable[[], Any], Callable[[], Any], str]


def _ask_as_strided(rng: random.Random, t: Tensor) -> Question:
    n = rng.randrange(4)
    shape, stride = tuple(rng.randrange(-1, 9) for _ in range(n)), tuple(rng.choice([0, 1, 7, 300]) for _ in range(n))
    if 0 in shape:  # beside a size of 0, PyTorch lets a negative one pass and makes a tensor that cannot exist
        shape = tuple(max(size, 0) for size in shape)
    offset = rng.choice([0, 3, STORAGE - 1, STORAGE])
    return (
        lambda: torch.arange(STORAGE).as_strided(shape, stride, offset),
        lambda: views.as_strided(STORAGE, shape, stride, offset),
        f"{shape}, {stride}, {offset}",
    )


def _ask_select(rng: random.Random, t: Tensor) -> Question:
    dim, index = _a_dim(rng, t), rng.randrange(-7, 7)
    return lambda: t.select(dim, index), lambda: views.select(layout_of(t), dim, index), f"{dim}, {index}"


def _ask_slice(rng: random.Random, t: Tensor) -> Question:
    dim = rng.randrange(max(t.ndim, 1))
    start, stop = (rng.choice([None, *range(-8, 9)]) for _ in range(2))
    step = rng.choice([1, 1, 2, 3, 10])
    key = (slice(None),) * dim + (slice(start, stop, step),)
    return (
        lambda: t[key],
        lambda: views.slice_(layout_of(t), dim, start, stop, step),
        f"{dim}, {start}:{stop}:{step}",
    )


def _ask_transpose(rng: random.Random, t: Tensor) -> Question:
    a, b = _a_dim(rng, t), _a_dim(rng, t)
    return lambda: t.transpose(a, b), lambda: views.transpose(layout_of(t), a, b), f"{a}, {b}"


def _ask_permute(rng: random.Random, t: Tensor) -> Question:
    dims = tuple(rng.sample(range(t.ndim), t.ndim))
    if dims and rng.random() < 0.2:
        dims = (*dims[:-1], dims[0])
    return lambda: t.permute(dims), lambda: views.permute(layout_of(t), dims), f"{dims}"


def _ask_unsqueeze(rng: random.Random, t: Tensor) -> Question:
    dim = rng.randrange(-t.ndim - 2, t.ndim + 2)
    return lambda: t.unsqueeze(dim), lambda: views.unsqueeze(layout_of(t), dim), f"{dim}"


def _ask_squeeze(rng: random.Random, t: Tensor) -> Question:
    dim = _a_dim(rng, t)
    return lambda: t.squeeze(dim), lambda: views.squeeze(layout_of(t), dim), f"{dim}"


def _ask_expand(rng: random.Random, t: Tensor) -> Question:
    kept = tuple(rng.choice([size, -1]) if size != 1 else rng.choice([1, 3, -1]) for size in t.shape)
    shape = tuple(rng.choice([1, 2, 3, -1] if rng.random() < 0.1 else [1, 2]) for _ in range(rng.randrange(3))) + kept
    if rng.random() < 0.1:
        shape = shape[1:]
    return lambda: t.expand(shape), lambda: views.expand(layout_of(t), shape), f"{shape}"


def _ask_unfold(rng: random.Random, t: Tensor) -> Question:
    dim, size, step = _a_dim(rng, t), rng.randrange(0, 5), rng.randrange(0, 4)
    return (
        lambda: t.unfold(dim, size, step),
        lambda: views.unfold(layout_of(t), dim, size, step),
        f"{dim}, {size}, {step}",
    )


def _ask_diagonal(rng: random.Random, t: Tensor) -> Question:
    shift, a, b = rng.randrange(-4, 5), _a_dim(rng, t), _a_dim(rng, t)
    return (
        lambda: t.diagonal(shift, a, b),
        lambda: views.diagonal(layout_of(t), shift, a, b),
        f"{shift}, {a}, {b}",
    )


def _ask_contiguous(rng: random.Random, t: Tensor) -> Question:
    return t.is_contiguous, lambda: views.is_contiguous(layout_of(t)), ""


def _ask_view(rng: random.Random, t: Tensor) -> Question:
    shape = _a_shape(rng, t)
    return lambda: t.view(shape), lambda: _view_or_refuse(layout_of(t), shape), f"{shape}"


def _ask_reshape(rng: random.Random, t: Tensor) -> Question:
    shape = _a_shape(rng, t)
    return lambda: (t.reshape(shape),), lambda: views.reshape(layout_of(t), shape), f"{shape}"


def _view_or_refuse(layout: Layout, shape: Ints) -> Layout:
    seen = views.view(layout, shape)
    if seen is None:
        raise ValueError("no view")
    return seen


def _a_dim(rng: random.Random, t: Tensor) -> int:
    reach = t.ndim + (rng.random() < 0.1)
    return rng.randrange(-reach, reach) if reach else 0


def _a_shape(rng: random.Random, t: Tensor) -> Ints:
    """A shape for as many elements, with a -1 in it, or one that does not fit."""
    if t.numel() == 0:
        sizes = [rng.choice([0, 1, 2, 3]) for _ in range(rng.randrange(1, 4))]
        if rng.random() < 0.7:
            sizes[rng.randrange(len(sizes))] = 0
        return tuple(t.shape) if rng.random() < 0.3 else tuple(sizes)
    shape = list(random_shape(rng, t))
    if shape and rng.random() < 0.2:
        shape[rng.randrange(len(shape))] = rng.choice([-1, -1, -1, 5])
    return tuple(shape)


def _prime_factors(number: int) -> list[int]:
    factors, divisor = [], 2
    while number > 1:
        while number % divisor == 0:
            factors.append(divisor)
            number //= divisor
        divisor += 1
    return factors


QUESTIONS: dict[str, Callable[[random.Random, Tensor], Question]] = {
    "as_strided": _ask_as_strided,
    "select": _ask_select,
    "slice": _ask_slice,
    "transpose": _ask_transpose,
    "permute": _ask_permute,
    "unsqueeze": _ask_unsqueeze,
    "squeeze": _ask_squeeze,
    "expand": _ask_expand,
    "unfold": _ask_unfold,
    "diagonal": _ask_diagonal,
    "is_contiguous": _ask_contiguous,
    "view": _ask_view,
    "reshape": _ask_reshape,
}
