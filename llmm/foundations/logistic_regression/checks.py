"""The exit criteria of M1 that a machine measures: one function each, no arguments, one number or truth value out.

The thresholds stand in milestone.yaml.
"""

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmm.foundations.logistic_regression.binary import BinaryLoss, ridge, with_intercept
from llmm.foundations.logistic_regression.calibration import (
    expected_calibration_error,
    fit_temperature,
    reliability,
    tempered_loss,
)
from llmm.foundations.logistic_regression.curvature import (
    contraction,
    extreme_curvatures,
    smoothness,
    softmax_smoothness,
)
from llmm.foundations.logistic_regression.descent import (
    gradient_descent,
    one_over_t,
    stochastic_gradient_descent,
)
from llmm.foundations.logistic_regression.finite_differences import central_difference, relative_error
from llmm.foundations.logistic_regression.iterates import Solution, solve
from llmm.foundations.logistic_regression.lbfgs import inverse_hessian_product, lbfgs, wolfe_step
from llmm.foundations.logistic_regression.multinomial import MultinomialLoss
from llmm.foundations.logistic_regression.newton import backtrack, irls_step, newton
from llmm.foundations.logistic_regression.separation import max_margin, separation
from llmm.foundations.logistic_regression.stable import log_sigmoid, log_sum_exp, sigmoid, softmax
from llmm.ladder.expect import expect_number, expect_shape

Array = NDArray[np.float64]


# --- the losses -------------------------------------------------------------------------------------------------------


def gradient_error() -> float:
    """Largest relative error of the binary and the softmax gradient against central differences of the value."""
    return max(
        relative_error(_gradient(loss, w), central_difference(partial(_value, loss), w))
        for loss, w in _small_problems()
    )


def hessian_error() -> float:
    """Largest relative error of either Hessian against central differences of the gradient."""
    return max(
        relative_error(_hessian(loss, w), central_difference(partial(_gradient, loss), w))
        for loss, w in _small_problems()
    )


def least_eigenvalue() -> float:
    """Smallest eigenvalue of any unpenalised Hessian, as a share of the largest: rounding below zero at most."""
    shares = []
    for loss, w in _small_problems(penalised=False):
        for scale in (0.0, 1.0, 10.0):
            eigenvalues = np.linalg.eigvalsh(_hessian(loss, scale * w))
            shares.append(eigenvalues[0] / eigenvalues[-1])
    return float(min(shares))


def failures_at_extreme_logits() -> int:
    """How many of the answers at logits of ±1000 are not what the formulas say: NaN, infinity, or a wrong number."""
    X, w = np.array([[1000.0], [-1000.0]]), np.array([1.0])
    right, wrong = BinaryLoss(X, np.array([1, 0])), BinaryLoss(X, np.array([0, 1]))
    many = MultinomialLoss(X[:1], np.array([1]), 3)
    v = np.array([1.0, 0.0, -1.0])
    expected: list[tuple[Any, Any]] = [
        (lambda: sigmoid([-1000.0, 0.0, 1000.0]), [0.0, 0.5, 1.0]),
        (lambda: log_sigmoid([-1000.0, 0.0, 1000.0]), [-1000.0, -np.log(2), 0.0]),
        (lambda: softmax([[1000.0, 1000.0, -1000.0], [-1000.0] * 3]), [[0.5, 0.5, 0.0], [1 / 3] * 3]),
        (lambda: log_sum_exp([[1000.0, 1000.0], [-1000.0, -1000.0]]), [1000 + np.log(2), -1000 + np.log(2)]),
        (lambda: [right.value(w), wrong.value(w), many.value(v)], [0.0, 1000.0, 1000.0]),
        (lambda: [_gradient(right, w)[0], _gradient(wrong, w)[0]], [0.0, 1000.0]),
        (lambda: _hessian(right, w), [[0.0]]),
        (lambda: _gradient(many, v), [1000.0, -1000.0, 0.0]),
        (lambda: _hessian(many, v), np.zeros((3, 3))),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # an overflow on the way does not matter, its result does
        return sum(not np.allclose(answer(), value, rtol=1e-12, atol=0.0) for answer, value in expected)


def error_in_the_tail() -> float:
    """Largest relative error of sigmoid, loss, gradient and curvature of sure samples: margins of 40 to 700."""
    errors = []
    for m in (40.0, 100.0, 700.0):
        tail = np.exp(-m)  # 1 - σ(m), and to first order also the loss, the gradient and the curvature
        loss = BinaryLoss(np.array([[1.0]]), np.array([1]))
        softmax_loss = MultinomialLoss(np.array([[1.0]]), np.array([0]), 2)
        w, v = np.array([m]), np.array([m, 0.0])
        answers = [
            sigmoid(-m), -log_sigmoid(m), loss.value(w), -_gradient(loss, w)[0], _hessian(loss, w)[0, 0],
            -_gradient(softmax_loss, v)[0], _gradient(softmax_loss, v)[1],
        ]  # fmt: skip
        errors += [abs(float(answer) / tail - 1.0) for answer in answers]
    return float(max(errors))


# --- the solvers ------------------------------------------------------------------------------------------------------


def newton_against_sklearn() -> float:
    """Largest difference of a coefficient from scikit-learn's newton-cholesky: binary, softmax, weak and strong L2."""
    return max(_against_sklearn("newton-cholesky", newton, set_, C, 1e-13) for set_, C in _ORACLE_CASES)


def lbfgs_against_sklearn() -> float:
    """The same against scikit-learn's lbfgs."""
    return max(_against_sklearn("lbfgs", lbfgs, set_, C, 1e-9) for set_, C in _ORACLE_CASES if C == 1.0)


def newton_order() -> float:
    """Lowest order of convergence from three starts: log(e_k+1 / e_k) / log(e_k / e_k-1) of the last errors."""
    X, y = _breast_cancer()
    loss = BinaryLoss(X, y, ridge(X.shape[1], 0.01))
    best = solve(loss, newton(loss, np.zeros(X.shape[1])), 1e-15, 40).w
    orders = []
    for seed in range(3):
        start = 0.3 * np.random.default_rng(seed).normal(size=X.shape[1:])
        errors = [float(np.linalg.norm(w - best)) for w in islice(newton(loss, start), 12)]
        a, b, c = [error for error in errors if error > 1e-12][-3:]
        orders.append(np.log(c / b) / np.log(b / a))
    return float(min(orders))


def newton_from_afar() -> float:
    """Largest gradient norm after 60 steps from starts where full Newton steps overshoot for ever."""
    X, y = _breast_cancer()
    loss = BinaryLoss(X, y, ridge(X.shape[1], 0.01))
    starts = [5.0 * np.random.default_rng(seed).normal(size=X.shape[1:]) for seed in range(3)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return max(solve(loss, newton(loss, start), 1e-12, 60).gradient_norm for start in starts)


def backtracking_error() -> float:
    """How far `backtrack` is from the largest t in 1, ½, ¼, … that gives a ten-thousandth of the promised decrease."""
    bowl = _Parabola(1.0)
    # from w = 1 along -k the loss ½(1 - kt)² is low enough iff t <= 2(1 - 1e-4) / k
    wanted = {0.5: 1.0, 1.0: 1.0, 1.9: 1.0, 1.9999: 0.5, 2.1: 0.5, 3.999: 0.5, 4.1: 0.25, 100.0: 2.0**-6}
    return max(abs(float(backtrack(bowl, np.array([1.0]), np.array([-k]))) - t) for k, t in wanted.items())


def irls_against_newton() -> float:
    """Largest relative difference between a reweighted least squares fit and a full Newton step, along three steps."""
    X, y, _ = _random_problem(0)
    loss = BinaryLoss(X, y)
    w = np.zeros(X.shape[1])
    errors = []
    for _ in range(3):
        full = w - np.linalg.solve(loss.hessian(w), loss.gradient(w))
        errors.append(relative_error(expect_shape("irls_step", irls_step(X, y, w), w.shape), full))
        w = full
    return max(errors)


def descent_rate_error() -> float:
    """Measured contraction of gradient descent next to the minimum over what the curvatures there predict, minus 1."""
    X, y, w = _random_problem(1)
    loss = BinaryLoss(X, y, 0.05)
    best = solve(loss, newton(loss, np.zeros_like(w)), 1e-15, 40).w
    mu, L = extreme_curvatures(loss, best)
    _, axes = np.linalg.eigh(loss.hessian(best))
    errors = []
    for lr, slowest in ((1 / L, axes[:, 0]), (1.99 / L, axes[:, -1])):  # the first is ruled by μ, the second by L
        points = list(islice(gradient_descent(loss, best + 1e-6 * slowest, lr), 2))
        measured = np.linalg.norm(points[1] - best) / np.linalg.norm(points[0] - best)
        errors.append(abs(measured / contraction(mu, L, lr) - 1))
    return float(max(errors))


def smoothness_error() -> float:
    """How far L is from the largest curvature: the binary one at w = 0, the softmax one where two classes tie."""
    X, _, _ = _random_problem(2)
    D = X.shape[1]
    binary = BinaryLoss(X, np.zeros(len(X)), ridge(D, 0.3))
    errors = [abs(smoothness(X, ridge(D, 0.3)) / np.linalg.eigvalsh(binary.hessian(np.zeros(D)))[-1] - 1)]
    # p = (½, ½, 0) for every sample has the curvature ½ xxᵀ: ones as the last feature push the third class away
    X = with_intercept(X[:, :-1])
    W = np.zeros((D, 3))
    W[-1, 2] = -1000.0
    three = MultinomialLoss(X, np.zeros(len(X), dtype=np.intp), 3, 0.3)
    errors.append(abs(softmax_smoothness(X, 0.3) / np.linalg.eigvalsh(three.hessian(W.ravel()))[-1] - 1))
    return float(max(errors))


def epochs_that_miss_a_sample() -> int:
    """Of 5 epochs in batches of 4 over 10 samples: how many miss a sample or come in the order of the one before."""
    spy = _Spy(10)
    points = list(islice(stochastic_gradient_descent(spy, np.zeros(1), lambda t: 1.0, 4, seed=0), 16))
    epochs = [np.concatenate(spy.seen[3 * i : 3 * i + 3]) for i in range(5)]
    wrong = sum(sorted(epoch.tolist()) != list(range(10)) for epoch in epochs)
    repeated = sum(bool((a == b).all()) for a, b in pairwise(epochs))
    moved = float(points[15][0])  # the spy's gradient is -1 and the rate 1: one unit an update
    return wrong + repeated + int(moved != 15.0)


def sgd_distance() -> float:
    """Loss of SGD with a falling rate above the minimum after 200 epochs in batches of 8."""
    X, y, w = _random_problem(3)
    loss = BinaryLoss(X, y, 0.05)
    floor = loss.value(solve(loss, newton(loss, np.zeros_like(w)), 1e-12, 40).w)
    updates = 200 * -(-len(y) // 8)
    rate = one_over_t(1 / smoothness(X, 0.05), updates / 20)
    last = next(islice(stochastic_gradient_descent(loss, np.zeros_like(w), rate, 8, seed=0), updates, None))
    return float(loss.value(last) - floor)


def two_loop_error() -> float:
    """Relative difference of the two-loop product from the same B built as a matrix by the BFGS update."""
    generator = np.random.default_rng(0)
    A = generator.normal(size=(6, 6))
    H = A @ A.T + np.eye(6)
    pairs = [(s, H @ s) for s in generator.normal(size=(4, 6))]
    g = generator.normal(size=6)
    errors = []
    for some in ([], pairs[:1], pairs):
        s, q = some[-1] if some else (g, g)
        B = np.eye(6) * (s @ q) / (q @ q)
        for s, q in some:
            V = np.eye(6) - np.outer(q, s) / (s @ q)
            B = V.T @ B @ V + np.outer(s, s) / (s @ q)
        errors.append(relative_error(expect_shape("product", inverse_hessian_product(some, g), (6,)), B @ g))
    return max(errors)


def lbfgs_steps() -> int:
    """Steps of L-BFGS to gradient norm 1e-6 on standardised breast_cancer with L2 0.01, remembering 10 steps."""
    X, y = _breast_cancer()
    loss = BinaryLoss(X, y, ridge(X.shape[1], 0.01))
    found = solve(loss, lbfgs(loss, np.zeros(X.shape[1])), 1e-6, 500)
    return found.steps if found.converged else 10_000


def wolfe_violations() -> int:
    """Of steps along -g on parabolas from flat to steep: how many are too long or too short by Wolfe's conditions."""
    wrong = 0
    for curvature in (1e-4, 0.01, 1.0, 30.0, 1e4):
        bowl, w = _Parabola(curvature), np.array([1.0])
        d = -bowl.gradient(w)
        t, slope = wolfe_step(bowl, w, d), float(bowl.gradient(w) @ d)
        low_enough = bowl.value(w + t * d) <= bowl.value(w) + 1e-4 * t * slope + 1e-12
        flat_enough = bowl.gradient(w + t * d) @ d >= 0.9 * slope
        wrong += not (low_enough and flat_enough)
    return wrong


# --- separation and margin --------------------------------------------------------------------------------------------


def wrong_verdicts() -> int:
    """How many of six sets with known answers are judged wrongly: complete, quasi-complete or overlap."""
    line = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    y = np.array([0, 0, 1, 1])
    touching = with_intercept(np.array([[-1.0], [0.0], [0.0], [1.0]]))
    square = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    cases = [
        (line, y, "complete"),
        (with_intercept(line + 10.0), y, "complete"),
        (with_intercept(1e6 * line), y, "complete"),
        (touching, y, "quasi-complete"),  # the two samples at 0 lie on the only hyperplane that parts the others
        (with_intercept(square), y, "overlap"),  # exclusive or
        (line + 10.0, y, "overlap"),  # no hyperplane through the origin
    ]
    return sum(separation(X, labels) != verdict for X, labels, verdict in cases)


def margin_error() -> float:
    """Relative difference of the maximum-margin w from scikit-learn's hard-margin SVC through the origin."""
    from sklearn.svm import LinearSVC

    generator = np.random.default_rng(0)
    y = np.arange(40) % 2
    X = generator.normal(size=(40, 3)) + np.outer(2 * y - 1, [2.0, 1.5, 1.0])
    w = expect_shape("max_margin", max_margin(X, y), (3,))
    margins = (2 * y - 1) * (X @ w)
    svc = LinearSVC(C=1e6, loss="hinge", fit_intercept=False, tol=1e-10, max_iter=10_000_000, random_state=0).fit(X, y)
    return max(relative_error(w, svc.coef_[0]), float(abs(margins.min() - 1.0)))


# --- calibration ------------------------------------------------------------------------------------------------------


def calibration_error_by_hand() -> float:
    """Largest difference of bins and expected calibration error from three tables worked out by hand."""
    edges = reliability([0.0, 0.25, 0.5, 0.75, 1.0], [0, 1, 1, 1, 1], bins=4)  # a bin holds its upper edge
    wanted = ([2, 1, 1, 1], [0.125, 0.5, 0.75, 1.0], [0.5, 1.0, 1.0, 1.0])
    errors = [
        float(np.abs(np.asarray(got) - np.asarray(want)).max())
        for got, want in zip((edges.count, edges.confidence, edges.accuracy), wanted, strict=True)
    ]
    # 3 samples at 0.6 of which 1 is right, 1 at 0.9 that is right: ¾ · |⅓ - 0.6| + ¼ · |1 - 0.9|
    errors.append(abs(expected_calibration_error([0.6, 0.6, 0.6, 0.9], [1, 0, 0, 1], bins=10) - 0.225))
    errors.append(abs(expected_calibration_error([0.95] * 20, [1] * 19 + [0], bins=15)))
    return max(errors)


def temperature_error() -> float:
    """Largest relative difference of the temperature from a scan of the loss: sharp, flat and very sharp logits."""
    from scipy.optimize import minimize_scalar

    generator = np.random.default_rng(0)
    true = generator.normal(size=(300, 4)) * 2
    y = (true + generator.gumbel(size=true.shape)).argmax(axis=1)
    errors = []
    for sharpness in (0.2, 1.0, 3.0, 50.0):
        logits = sharpness * true
        T = expect_number("temperature", fit_temperature(logits, y))
        scan = minimize_scalar(lambda u, Z=logits: tempered_loss(Z, y, np.exp(u)), (-2, 5), tol=1e-12)
        errors.append(abs(T / np.exp(scan.x) - 1))
    return float(max(errors))


# --- what they share --------------------------------------------------------------------------------------------------

_ORACLE_CASES = [("breast_cancer", 1.0), ("breast_cancer", 100.0), ("wine", 1.0)]


class _Parabola:
    """½ c w²: the simplest loss."""

    def __init__(self, c: float) -> None:
        self.c = c

    def value(self, w: Array) -> float:
        return 0.5 * self.c * float(w @ w)

    def gradient(self, w: Array) -> Array:
        return self.c * w


class _Spy:
    """A loss of N samples that writes down which are asked for; its gradient is always -1."""

    def __init__(self, N: int) -> None:
        self.y = np.zeros(N)
        self.seen: list[NDArray[np.intp]] = []

    def rows(self, index: NDArray[np.intp]) -> "_Spy":
        self.seen.append(np.asarray(index))
        return self

    def gradient(self, w: Array) -> Array:
        return -np.ones_like(w)


def _random_problem(seed: int, N: int = 60, D: int = 5) -> tuple[Array, NDArray[np.intp], Array]:
    """X (N, D) with an intercept column, noisy labels y (N,), a point w (D,)."""
    generator = np.random.default_rng(seed)
    X = with_intercept(generator.normal(size=(N, D - 1)))
    y = (X @ generator.normal(size=D) + generator.logistic(size=N) > 0).astype(np.intp)
    return X, y, generator.normal(size=D)


def _small_problems(penalised: bool = True) -> Iterator[tuple[Any, Array]]:
    """(loss, point): binary and softmax with four classes, three seeds."""
    for seed in range(3):
        X, y, w = _random_problem(seed)
        generator = np.random.default_rng(seed)
        penalty = ridge(X.shape[1], 0.3) if penalised else 0.0
        yield BinaryLoss(X, y, penalty), w
        yield MultinomialLoss(X, generator.integers(4, size=len(y)), 4, penalty), generator.normal(size=4 * len(w))


def _value(loss: Any, w: Array) -> float:
    return expect_number("value", loss.value(w))


def _gradient(loss: Any, w: Array) -> Array:
    return expect_shape("gradient", loss.gradient(w), w.shape)


def _hessian(loss: Any, w: Array) -> Array:
    return expect_shape("hessian", loss.hessian(w), (len(w), len(w)))


def _breast_cancer() -> tuple[Array, NDArray[np.intp]]:
    return _standardised("breast_cancer")


def _standardised(name: str) -> tuple[Array, NDArray[np.intp]]:
    from llmm.foundations.logistic_regression.data import load, standardise

    X, y = load(name)
    return with_intercept(standardise(X)[0]), y


def _against_sklearn(
    solver: str, ours: Callable[[Any, Array], Iterator[Array]], name: str, C: float, tolerance: float
) -> float:
    """Largest difference of a coefficient; scikit-learn minimises C Σ loss + ½‖w‖², so our L2 is 1 / (C N)."""
    from sklearn.linear_model import LogisticRegression

    X, y = _standardised(name)
    N, D = X.shape
    K = int(y.max()) + 1
    penalty = ridge(D, 1 / (C * N))
    loss: Any = BinaryLoss(X, y, penalty) if K == 2 else MultinomialLoss(X, y, K, penalty)
    width = D if K == 2 else D * K
    found: Solution = solve(loss, ours(loss, np.zeros(width)), tolerance, 1000)
    theirs = LogisticRegression(C=C, solver=solver, tol=tolerance, max_iter=10_000).fit(X[:, :-1], y)
    reference = np.vstack([theirs.coef_.T, theirs.intercept_])  # (D, 1) or (D, K)
    return float(np.abs(found.w.reshape(reference.shape) - reference).max())
