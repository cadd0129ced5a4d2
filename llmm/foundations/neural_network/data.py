"""The data of the experiments: scikit-learn's digits, and two spirals in the plane."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Split(NamedTuple):
    """Inputs (N, D) and labels (N,) for training and for the test."""

    x_train: NDArray[Any]
    y_train: NDArray[Any]
    x_test: NDArray[Any]
    y_test: NDArray[Any]


def digits(seed: int, test_share: float = 0.25, dtype: Any = np.float64) -> Split:
    """1,797 images of 8×8 handwritten digits, pixels scaled to [-1, 1], split at random with equal shares a class."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    x = (images / 8 - 1).astype(dtype)
    x_train, x_test, y_train, y_test = train_test_split(
        x, labels, test_size=test_share, stratify=labels, random_state=seed
    )
    return Split(x_train, y_train, x_test, y_test)


def spirals(rng: np.random.Generator, n: int, noise: float = 0.12) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """`n` points of two interleaved spirals (N, 2) and which spiral each is on (N,)."""
    labels = np.arange(n) % 2
    turn = np.sqrt(rng.uniform(0.05, 1, n)) * 3 * np.pi
    angle = turn + np.pi * labels
    points = turn[:, None] / np.pi * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return points + noise * rng.standard_normal((n, 2)), labels
