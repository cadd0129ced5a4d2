"""Convolution and pooling: sliding windows, then a matrix product or a maximum.

What deep learning calls convolution is a correlation (the kernel is not flipped). Laid out as a matrix whose rows are
the windows, it is one product with the kernels; the gradient of the image follows from that of the product and from
the adjoint of the windows. README, equation (12).
"""

from __future__ import annotations

from llmm.foundations.neural_network.tensor import Tensor


def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1, padding: int = 0) -> Tensor:
    """Correlate images (B, C, H, W) with kernels (K, C, h, w), bias (K,): (B, K, rows, columns).

    rows = (H + 2·padding - h) // stride + 1, columns likewise; `padding` zeros are put on all four sides. Raises
    ValueError where the channels differ or a kernel is larger than the padded image.
    """
    if x.shape[1] != weight.shape[1]:
        raise ValueError(f"the image has {x.shape[1]} channels, the kernel {weight.shape[1]}")
    K, C, h, w = weight.shape
    windows = pad_images(x, padding).windows((h, w), stride)  # (B, C, rows, columns, h, w)
    B, _, rows, columns, _, _ = windows.shape
    patches = windows.transpose(0, 2, 3, 1, 4, 5).reshape(B * rows * columns, C * h * w)
    y = patches @ weight.reshape(K, C * h * w).T  # (B·rows·columns, K)
    if bias is not None:
        y = y + bias
    return y.reshape(B, rows, columns, K).transpose(0, 3, 1, 2)


def max_pool2d(x: Tensor, kernel: int, stride: int | None = None) -> Tensor:
    """The maximum of each window of kernel × kernel pixels: (B, C, H, W) → (B, C, rows, columns); stride = kernel."""
    return x.windows((kernel, kernel), stride or kernel).max(axis=(-2, -1))


def avg_pool2d(x: Tensor, kernel: int, stride: int | None = None) -> Tensor:
    """The mean of each window of kernel × kernel pixels: (B, C, H, W) → (B, C, rows, columns); stride = kernel."""
    return x.windows((kernel, kernel), stride or kernel).mean(axis=(-2, -1))


def pad_images(x: Tensor, padding: int) -> Tensor:
    """Put `padding` rows and columns of zeros around each image (B, C, H, W)."""
    return x.pad([(0, 0), (0, 0), (padding, padding), (padding, padding)]) if padding else x
