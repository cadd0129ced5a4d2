"""The real data of this milestone: sets that come with scikit-learn, split and scaled."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.model_selection import train_test_split

from llmm.foundations.logistic_regression.binary import with_intercept

Array = NDArray[np.float64]
LOADERS = {"breast_cancer": load_breast_cancer, "digits": load_digits, "iris": load_iris, "wine": load_wine}


@dataclass(frozen=True)
class Split:
    """Training and test samples with a last column of ones: X (N, D + 1), y (N,), and the same for the test."""

    X: Array
    y: NDArray[np.intp]
    X_test: Array
    y_test: NDArray[np.intp]


def load(name: str) -> tuple[Array, NDArray[np.intp]]:
    """All of a set as it comes: X (N, D), y (N,).

    breast_cancer is 569 × 30, digits 1797 × 64, wine 178 × 13, iris 150 × 4.
    """
    X, y = LOADERS[name](return_X_y=True)
    return X, y.astype(np.intp)


def standardise(X: Array, *others: Array) -> list[Array]:
    """Shift and scale all of them by mean and standard deviation of the first's columns; constant ones become 0."""
    mean, deviation = X.mean(axis=0), X.std(axis=0)
    return [(A - mean) / np.where(deviation > 0, deviation, 1.0) for A in (X, *others)]


def split(name: str, seed: int, test_share: float = 0.3) -> Split:
    """A random split in equal shares of the classes, standardised by the training part, with an intercept column."""
    X, y = load(name)
    train, test, y_train, y_test = train_test_split(X, y, test_size=test_share, random_state=seed, stratify=y)
    train, test = standardise(train, test)
    return Split(with_intercept(train), y_train, with_intercept(test), y_test)
