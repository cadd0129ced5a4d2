"""Sliding windows over images and their adjoint, the two linear maps of which convolution and pooling are made.

`windows` copies each pixel into every window that covers it; `overlap_add` is the transpose of that map and adds
the windows back where they came from. README, equation (12).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def windows(x: Array, kernel: tuple[int, int], stride: int) -> Array:
    """All windows of size `kernel` = (h, w), `stride` apart: (..., H, W) → (..., rows, columns, h, w), a view.

    rows = (H - h) // stride + 1, columns likewise. Raises ValueError where the kernel is larger than the image.
    """
    every = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=(-2, -1))
    return every[..., ::stride, ::stride, :, :]


def overlap_add(g: Array, size: tuple[int, int], stride: int) -> Array:
    """Add windows (..., rows, columns, h, w) into an image (..., H, W) of `size` = (H, W): the adjoint of `windows`.

    One strided addition for each of the h·w offsets: at a fixed offset no two windows touch the same pixel.
    """
    *leading, rows, columns, h, w = g.shape
    image = np.zeros((*leading, *size), dtype=g.dtype)
    for i in range(h):
        for j in range(w):
            image[..., i : i + stride * rows : stride, j : j + stride * columns : stride] += g[..., i, j]
    return image
