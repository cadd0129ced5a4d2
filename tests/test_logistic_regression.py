"""M1: every derived formula against an independent source, the solvers against scikit-learn, and how they fail."""

from decimal import Decimal, getcontext
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from derivations import assert_derivations_are_tested
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from llmm.foundations.logistic_regression import checks
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
from llmm.foundations.logistic_regression.data import load, split, standardise
from llmm.foundations.logistic_regression.descent import gradient_descent, one_over_t, stochastic_gradient_descent
from llmm.foundations.logistic_regression.experiments import convergence_order, degrees_between
from llmm.foundations.logistic_regression.finite_differences import (
    central_difference,
    forward_difference,
    relative_error,
)
from llmm.foundations.logistic_regression.iterates import at_steps, solve, steps_until
from llmm.foundations.logistic_regression.lbfgs import inverse_hessian_product, lbfgs, wolfe_step
from llmm.foundations.logistic_regression.multinomial import MultinomialLoss
from llmm.foundations.logistic_regression.newton import backtrack, irls_step, newton
from llmm.foundations.logistic_regression.separation import max_margin, separation
from llmm.foundations.logistic_regression.stable import log_sigmoid, log_sum_exp, sigmoid, softmax

README = Path("llmm/foundations/logistic_regression/README.md")


def problem(seed=0, N=80, D=4):
    """Noisy labels: X (N, D) with intercept, y (N,), a point w (D,)."""
    generator = np.random.default_rng(seed)
    X = with_intercept(generator.normal(size=(N, D - 1)))
    y = (X @ generator.normal(size=D) + generator.logistic(size=N) > 0).astype(int)
    return X, y, generator.normal(size=D)


def classes(seed=0, N=80, D=4, K=3):
    X, _, _ = problem(seed, N, D)
    generator = np.random.default_rng(seed + 100)
    return X, generator.integers(K, size=N), generator.normal(size=D * K)


# --- 1 and 2: the loss, without overflow ------------------------------------------------------------------------------


def test_loss_in_margins_is_the_bernoulli_likelihood():
    X, y, w = problem()
    p = 1 / (1 + np.exp(-X @ w))
    bernoulli = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()
    penalty = np.array([0.1, 0.2, 0.3, 0.0])
    assert BinaryLoss(X, y, penalty).value(w) == pytest.approx(bernoulli + 0.5 * (penalty * w**2).sum(), rel=1e-13)


@settings(deadline=None)
@given(st.floats(-700, 700))
def test_log_sigmoid_equals_the_formula_in_high_precision(z):
    getcontext().prec = 400  # 1 + e^-700 needs 304 digits
    exact = -(1 + (-Decimal(z)).exp()).ln()
    assert float(log_sigmoid(z)) == pytest.approx(float(exact), rel=4e-16, abs=0)
    assert float(sigmoid(z)) == pytest.approx(float(1 / (1 + (-Decimal(z)).exp())), rel=1e-15, abs=0)


@settings(deadline=None)
@given(st.lists(st.floats(-30, 30), min_size=1, max_size=6), st.sampled_from([-1e4, -1e3, 0.0, 1e3, 1e4]))
def test_log_sum_exp_and_softmax_at_any_shift(z, shift):
    z = np.array(z)
    assert log_sum_exp(z + shift) - shift == pytest.approx(np.log(np.exp(z).sum()), abs=1e-10)
    assert softmax(z + shift) == pytest.approx(np.exp(z) / np.exp(z).sum(), rel=1e-10)
    assert softmax(z + shift).sum() == pytest.approx(1, abs=1e-14)


def test_the_textbook_residual_is_zero_where_ours_is_not():
    loss = BinaryLoss(np.array([[1.0]]), np.array([1]))
    assert sigmoid(40.0) - 1.0 == 0.0
    assert loss.gradient(np.array([40.0]))[0] == pytest.approx(-np.exp(-40.0), rel=1e-12)
    assert loss.gradient(np.array([700.0]))[0] < 0


def test_sigmoid_takes_any_shape_and_infinities():
    assert sigmoid(0.0).shape == ()
    assert log_sigmoid(np.zeros((0, 3))).shape == (0, 3)
    assert softmax(np.zeros((2, 3, 4))).shape == (2, 3, 4)
    assert sigmoid([-np.inf, np.inf]).tolist() == [0.0, 1.0]


# --- 3: derivatives ---------------------------------------------------------------------------------------------------


def test_derivatives_of_the_margin_loss_by_sympy():
    import sympy

    m = sympy.Symbol("m", real=True)
    logistic = 1 / (1 + sympy.exp(-m))
    mirrored = 1 / (1 + sympy.exp(m))
    loss = -sympy.log(logistic)
    assert sympy.simplify(sympy.diff(loss, m) + mirrored) == 0
    assert sympy.simplify(sympy.diff(loss, m, 2) - logistic * mirrored) == 0
    assert sympy.simplify(1 - logistic - mirrored) == 0


@pytest.mark.parametrize("seed", range(3))
def test_gradient_is_that_of_central_differences(seed):
    X, y, w = problem(seed)
    loss = BinaryLoss(X, y, ridge(4, 0.3))
    assert relative_error(loss.gradient(w), central_difference(loss.value, w)) <= 1e-8


def test_residual_is_probability_minus_label():
    X, y, w = problem()
    assert BinaryLoss(X, y).gradient(w) == pytest.approx(X.T @ (sigmoid(X @ w) - y) / len(y), rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_hessian_is_that_of_central_differences(seed):
    X, y, w = problem(seed)
    loss = BinaryLoss(X, y, ridge(4, 0.3))
    assert relative_error(loss.hessian(w), central_difference(loss.gradient, w)) <= 1e-8


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.floats(0, 50))
def test_hessian_has_no_negative_direction(seed, scale):
    X, y, w = problem(seed, N=7, D=4)
    eigenvalues = np.linalg.eigvalsh(BinaryLoss(X, y).hessian(scale * w))
    assert eigenvalues[0] >= -1e-14 * max(eigenvalues[-1], 1e-300)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.floats(0, 1))
def test_loss_is_convex_along_any_segment(seed, t):
    X, y, a = problem(seed, N=10)
    loss, b = BinaryLoss(X, y), np.random.default_rng(seed).normal(size=4) * 10
    assert loss.value((1 - t) * a + t * b) <= (1 - t) * loss.value(a) + t * loss.value(b) + 1e-12


def test_labels_that_are_no_labels_are_refused():
    loss = BinaryLoss(np.ones((2, 1)), np.array([-1, 1]))
    with pytest.raises(ValueError, match="labels must be 0 or 1"):
        loss.value(np.zeros(1))


def test_a_minibatch_is_the_loss_of_its_rows():
    X, y, w = problem()
    index = np.array([3, 1, 3])
    batch = BinaryLoss(X, y, 0.1).rows(index)
    assert batch.value(w) == BinaryLoss(X[index], y[index], 0.1).value(w)
    X, y, w = classes()
    assert MultinomialLoss(X, y, 3, 0.1).rows(index).value(w) == MultinomialLoss(X[index], y[index], 3, 0.1).value(w)


# --- 4: Newton --------------------------------------------------------------------------------------------------------


def test_newton_converges_with_order_two():
    assert 1.8 <= checks.newton_order() <= 2.2


def test_newton_step_is_a_weighted_least_squares_fit():
    X, y, w = problem()
    loss = BinaryLoss(X, y)
    w = 0.3 * w
    full = w - np.linalg.solve(loss.hessian(w), loss.gradient(w))
    assert irls_step(X, y, w) == pytest.approx(full, rel=1e-12)
    # and iterated, it is the maximum of the likelihood
    for _ in range(12):
        w = irls_step(X, y, w)
    assert np.linalg.norm(loss.gradient(w)) <= 1e-14


def test_newton_does_not_care_for_units_and_descent_does():
    X, y, _ = problem()
    A = np.diag([1e3, 1.0, 1e-2, 1.0]) @ (np.eye(4) + 0.1)
    plain, scaled = BinaryLoss(X, y), BinaryLoss(X @ A, y)
    ours, theirs = (at_steps(newton(loss, np.zeros(4)), [4])[0] for loss in (plain, scaled))
    assert X @ ours == pytest.approx(X @ A @ theirs, rel=1e-6)
    ours, theirs = (at_steps(gradient_descent(loss, np.zeros(4), 1e-7), [4])[0] for loss in (plain, scaled))
    assert np.abs(X @ ours - X @ A @ theirs).max() > 1e-3


def test_backtracking_meets_armijo_and_the_double_step_does_not():
    X, y, w = problem(5)
    loss = BinaryLoss(X, y, 0.01)
    w = 8 * w
    direction = -np.linalg.solve(loss.hessian(w), loss.gradient(w))
    t, slope = backtrack(loss, w, direction), loss.gradient(w) @ direction
    assert t < 1
    assert loss.value(w + t * direction) <= loss.value(w) + 1e-4 * t * slope
    assert loss.value(w + 2 * t * direction) > loss.value(w) + 1e-4 * 2 * t * slope


def test_backtracking_uphill_takes_no_step():
    assert backtrack(BinaryLoss(np.ones((1, 1)), np.array([1])), np.zeros(1), np.array([-1e6])) == 0.0


@pytest.mark.parametrize("name", ["breast_cancer", "wine", "iris"])
@pytest.mark.parametrize(("solver", "ours", "stop", "tolerance"), [
    ("newton-cholesky", newton, 1e-13, 1e-10), ("lbfgs", lbfgs, 1e-9, 1e-5),
])  # fmt: skip
def test_coefficients_are_those_of_sklearn(name, solver, ours, stop, tolerance):
    assert checks._against_sklearn(solver, ours, name, 1.0, stop) <= tolerance


# --- 5 and 6: descent -------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.floats(0, 10))
def test_smoothness_bounds_every_curvature_and_is_attained_at_zero(seed, scale):
    X, y, w = problem(seed, N=12)
    loss, L = BinaryLoss(X, y, ridge(4, 0.2)), smoothness(X, ridge(4, 0.2))
    assert extreme_curvatures(loss, scale * w)[1] <= L * (1 + 1e-12)
    assert extreme_curvatures(loss, np.zeros(4))[1] == pytest.approx(L, rel=1e-12)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.floats(0.01, 1.99), st.floats(0, 10))
def test_a_step_of_descent_falls_by_what_the_lemma_says(seed, rate, scale):
    X, y, w = problem(seed, N=12)
    loss, w, lr = BinaryLoss(X, y, 0.1), scale * w, rate / smoothness(X, 0.1)
    _, after = islice(gradient_descent(loss, w, lr), 2)
    g = loss.gradient(w)
    assert loss.value(after) <= loss.value(w) - lr * (1 - rate / 2) * (g @ g) + 1e-12


def test_descent_contracts_by_the_predicted_factor():
    assert checks.descent_rate_error() <= 1e-4
    assert contraction(1.0, 9.0, 0.2) == pytest.approx(0.8)  # (κ - 1) / (κ + 1), at the best rate 2 / (L + μ)
    assert contraction(1.0, 9.0, 0.25) == pytest.approx(1.25)  # above 2 / L it grows


def test_sgd_with_one_batch_is_gradient_descent():
    X, y, w = problem()
    loss = BinaryLoss(X, y, 0.1)
    ours = at_steps(stochastic_gradient_descent(loss, w, lambda t: 0.5, len(y), 0), [7])[0]
    assert ours == pytest.approx(at_steps(gradient_descent(loss, w, 0.5), [7])[0], rel=1e-12)


def test_sgd_repeats_with_its_seed_and_visits_all():
    assert checks.epochs_that_miss_a_sample() == 0
    X, y, w = problem()
    runs = [at_steps(stochastic_gradient_descent(BinaryLoss(X, y), w, lambda t: 0.1, 7, s), [50])[0] for s in (1, 1, 2)]
    assert (runs[0] == runs[1]).all()
    assert not (runs[0] == runs[2]).all()


def test_sgd_noise_settles_at_the_predicted_floor():
    """One weight on a parabola of curvature h, gradient noise of variance Σ: v = η Σ / (h (2 - η h))."""
    h, noise, lr = 2.0, 0.5, 0.3
    generator = np.random.default_rng(0)

    class Noisy:
        y = np.zeros(1)

        def rows(self, index):
            return self

        def gradient(self, w):
            return h * w + np.sqrt(noise) * generator.normal(size=w.shape)

    walk = stochastic_gradient_descent(Noisy(), np.zeros(20_000), lambda t: lr, 1, 0)
    settled = at_steps(walk, [60])[0]
    assert settled.var() == pytest.approx(lr * noise / (h * (2 - lr * h)), rel=0.05)


def test_a_rate_of_one_over_t_sums_to_a_logarithm():
    rate, T = one_over_t(0.5, 100.0), 100_000
    assert rate(0) == 0.5
    assert rate(100) == 0.25
    assert sum(rate(t) for t in range(T)) == pytest.approx(0.5 * 100 * np.log(1 + T / 100), rel=2e-3)


# --- 7: L-BFGS --------------------------------------------------------------------------------------------------------


def test_two_loop_recursion_is_the_bfgs_matrix():
    assert checks.two_loop_error() <= 1e-14


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5))
def test_secant_equation(seed, memory):
    generator = np.random.default_rng(seed)
    A = generator.normal(size=(5, 5))
    H = A @ A.T + 0.1 * np.eye(5)
    pairs = [(s, H @ s) for s in generator.normal(size=(memory, 5))]
    s, q = pairs[-1]
    assert inverse_hessian_product(pairs, q) == pytest.approx(s, rel=1e-6, abs=1e-8)
    g = generator.normal(size=5)
    assert g @ inverse_hessian_product(pairs, g) > 0


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.floats(0.1, 10), st.floats(-6, 6))
def test_wolfe_steps_keep_the_estimate_positive(seed, scale, magnitude):
    X, y, w = problem(seed, N=15)
    loss, w = BinaryLoss(X, y, 0.05), scale * w
    direction = -loss.gradient(w) * 10**magnitude
    t = wolfe_step(loss, w, direction)
    slope = loss.gradient(w) @ direction
    assert t > 0
    change = (loss.gradient(w + t * direction) - loss.gradient(w)) @ direction
    assert change >= -(1 - 0.9) * slope - 1e-12 * abs(slope)


def test_lbfgs_works_with_a_memory_of_one():
    X, y, _ = problem()
    loss = BinaryLoss(X, y, 0.01)
    assert solve(loss, lbfgs(loss, np.zeros(4), memory=1), 1e-8, 200).converged


# --- 8: softmax -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_softmax_gradient_is_that_of_central_differences(seed):
    X, y, w = classes(seed)
    loss = MultinomialLoss(X, y, 3, ridge(4, 0.3))
    assert relative_error(loss.gradient(w), central_difference(loss.value, w)) <= 1e-8
    W, Y = w.reshape(4, 3), np.eye(3)[y]
    by_hand = X.T @ (softmax(X @ W) - Y) / len(y) + ridge(4, 0.3)[:, None] * W
    assert loss.gradient(w).reshape(4, 3) == pytest.approx(by_hand, rel=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_softmax_hessian_is_that_of_central_differences(seed):
    X, y, w = classes(seed)
    loss = MultinomialLoss(X, y, 3, ridge(4, 0.3))
    assert relative_error(loss.hessian(w), central_difference(loss.gradient, w)) <= 1e-8


def test_softmax_is_flat_along_equal_shifts():
    X, y, w = classes()
    loss = MultinomialLoss(X, y, 3)
    shift = np.repeat(np.random.default_rng(0).normal(size=4), 3)  # the same for all classes
    assert loss.value(w + shift) == pytest.approx(loss.value(w), rel=1e-13)
    assert np.abs(loss.hessian(w) @ shift).max() <= 1e-14
    found = solve(loss, newton(loss, np.zeros(12)), 1e-12, 50)
    assert found.converged
    assert np.abs(found.w.reshape(4, 3).sum(axis=1)).max() <= 1e-10


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.floats(0, 5))
def test_softmax_smoothness_bounds_every_curvature_and_is_attained(seed, scale):
    X, y, w = classes(seed, N=12)
    assert extreme_curvatures(MultinomialLoss(X, y, 3, 0.2), scale * w)[1] <= softmax_smoothness(X, 0.2) * (1 + 1e-12)
    W = np.zeros((4, 3))
    W[-1, 2] = -1000.0  # the intercept rules the third class out: p = (½, ½, 0)
    attained = extreme_curvatures(MultinomialLoss(X, y, 3, 0.2), W.ravel())[1]
    assert attained == pytest.approx(softmax_smoothness(X, 0.2), rel=1e-10)


def test_two_classes_of_softmax_are_one_sigmoid_with_half_the_penalty():
    X, y, _ = problem()
    many, one = MultinomialLoss(X, y, 2, ridge(4, 0.2)), BinaryLoss(X, y, ridge(4, 0.1))
    W = solve(many, newton(many, np.zeros(8)), 1e-13, 50).w.reshape(4, 2)
    w = solve(one, newton(one, np.zeros(4)), 1e-13, 50).w
    assert W[:, 1] - W[:, 0] == pytest.approx(w, rel=1e-9)


# --- 9: separation ----------------------------------------------------------------------------------------------------


def test_along_a_separating_ray_the_loss_falls_to_zero():
    X, y = np.array([[1.0], [2.0], [-3.0]]), np.array([1, 1, 0])
    values = [BinaryLoss(X, y).value(np.array([c])) for c in (1.0, 10.0, 100.0, 700.0)]
    assert values == sorted(values, reverse=True)
    assert 0 < values[-1] < 1e-300


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(4, 14))
def test_a_minimum_exists_exactly_on_overlap(seed, N):
    generator = np.random.default_rng(seed)
    X = with_intercept(generator.integers(-2, 3, size=(N, 2)).astype(float))
    y = generator.integers(2, size=N)
    verdict = separation(X, y)
    found = solve(BinaryLoss(X, y), newton(BinaryLoss(X, y), np.zeros(3)), 1e-9, 200)
    # without a minimum the gradient falls below any tolerance too, but only as the weights run away
    runs_away = np.abs(X @ found.w).max() > 18
    assert (verdict != "overlap") == runs_away
    if verdict == "complete":
        assert ((2 * y - 1) * (X @ found.w) > 0).all()


def test_max_margin_meets_the_kkt_conditions():
    generator = np.random.default_rng(3)
    y = np.arange(30) % 2
    A = (2 * y - 1)[:, None] * (generator.normal(size=(30, 3)) + np.outer(2 * y - 1, [2.0, 2.0, 0.0]))
    w = max_margin((2 * y - 1)[:, None] * A, y)
    margins = A @ w
    assert margins.min() == pytest.approx(1, abs=1e-9)
    support = A[margins < 1 + 1e-6]
    u = np.linalg.lstsq(support.T, w)[0]
    assert support.T @ u == pytest.approx(w, rel=1e-8)
    assert (u > -1e-9).all()


def test_no_margin_no_answer():
    with pytest.raises(ValueError, match="no hyperplane"):
        max_margin(np.array([[1.0], [1.0]]), np.array([0, 1]))


def test_on_two_points_the_path_is_log_t_along_the_margin():
    """Samples x and -x: the flow a' = ‖x‖² σ(-a), w = a ŵ, has the solution a + exp(a) = 1 + ‖x‖² t."""
    x = np.array([2.0, 1.0])
    X, y, lr = np.array([x, -x]), np.array([1, 0]), 0.01
    w = at_steps(gradient_descent(BinaryLoss(X, y), np.zeros(2), lr), [40_000])[0]
    widest = max_margin(X, y)
    assert widest == pytest.approx(x / (x @ x))
    a, t = float(w @ x), 40_000 * lr
    assert w == pytest.approx(a * widest, rel=1e-10)
    assert a + np.exp(a) == pytest.approx(1 + (x @ x) * t, rel=1e-3)
    assert a == pytest.approx(np.log((x @ x) * t), rel=1e-2)


def test_breast_cancer_is_separable():
    data = split("breast_cancer", 0)
    assert data.X.shape == (398, 31)
    assert separation(data.X, data.y) == "complete"


# --- 10: calibration --------------------------------------------------------------------------------------------------


def test_expected_calibration_error_by_hand():
    assert checks.calibration_error_by_hand() <= 1e-14


def test_bins_are_those_of_sklearn():
    from sklearn.calibration import calibration_curve

    generator = np.random.default_rng(0)
    p = generator.random(500)
    y = (generator.random(500) < p).astype(int)
    share, mean = calibration_curve(y, p, n_bins=10)
    table = reliability(p, y, 10)
    assert table.count.sum() == 500
    assert table.accuracy == pytest.approx(share)
    assert table.confidence == pytest.approx(mean)


def test_calibration_error_of_a_calibrated_model_is_the_predicted_floor():
    c, n = 0.8, 100
    confidence = np.full(n, c)
    draws = np.random.default_rng(0).random((3000, n)) < c
    floor = np.mean([expected_calibration_error(confidence, correct) for correct in draws])
    assert floor == pytest.approx(np.sqrt(2 / np.pi) * np.sqrt(c * (1 - c) / n), rel=0.03)


def test_slope_and_curvature_of_the_tempered_loss():
    generator = np.random.default_rng(0)
    Z, y, beta, h = generator.normal(size=(50, 4)), generator.integers(4, size=50), 0.7, 1e-4
    low, mid, high = (tempered_loss(Z, y, 1 / b) for b in (beta - h, beta, beta + h))
    P = softmax(beta * Z)
    mean = (P * Z).sum(axis=1)
    assert (high - low) / (2 * h) == pytest.approx((mean - Z[np.arange(50), y]).mean(), abs=1e-8)
    variance = ((P * Z**2).sum(axis=1) - mean**2).mean()
    assert (high - 2 * mid + low) / h**2 == pytest.approx(variance, rel=1e-5)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.floats(-4, 4))
def test_temperature_matches_expected_and_true_logit(seed, sharpness):
    generator = np.random.default_rng(seed)
    true = generator.normal(size=(60, 3))
    y = (true + generator.gumbel(size=true.shape)).argmax(axis=1)
    Z = 10**sharpness * true
    own = Z[np.arange(60), y]
    if (own == Z.max(axis=1)).all() or Z.mean() >= own.mean():
        return
    T = fit_temperature(Z, y)
    expected = (softmax(Z / T) * Z).sum(axis=1).mean()
    assert expected == pytest.approx(own.mean(), abs=1e-8 * np.abs(Z).max())
    assert (softmax(Z / T).argmax(axis=1) == Z.argmax(axis=1)).all()


def test_temperature_is_that_of_sklearn():
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator
    from sklearn.linear_model import LogisticRegression

    X, y = load("digits")
    X = X / 16
    model = LogisticRegression(C=1e4, max_iter=2000).fit(X[:300], y[:300])
    theirs = CalibratedClassifierCV(FrozenEstimator(model), method="temperature").fit(X[300:800], y[300:800])
    ours = fit_temperature(model.decision_function(X[300:800]), y[300:800])
    stated = softmax(model.decision_function(X[800:]) / ours)
    assert theirs.predict_proba(X[800:]) == pytest.approx(stated, abs=1e-4)


def test_temperature_without_a_minimum_is_refused():
    right = np.array([[2.0, 0.0], [0.0, 1.0]])
    with pytest.raises(ValueError, match="classified correctly"):
        fit_temperature(right, np.array([0, 1]))
    with pytest.raises(ValueError, match="less than none"):
        fit_temperature(right, np.array([1, 0]))


def test_temperature_agrees_with_a_scan():
    generator = np.random.default_rng(1)
    Z, y = 5 * generator.normal(size=(200, 5)), generator.integers(5, size=200)
    Z[np.arange(200), y] += 2
    scan = minimize_scalar(lambda u: tempered_loss(Z, y, np.exp(u)), (-2, 4), tol=1e-12)
    assert fit_temperature(Z, y) == pytest.approx(np.exp(scan.x), rel=1e-6)


# --- 11: difference quotients -----------------------------------------------------------------------------------------


def test_central_differences_have_slope_two_and_their_best_step_is_the_cube_root():
    X, y, w = problem()
    loss = BinaryLoss(X, y)
    exact = loss.gradient(w)
    steps = 10.0 ** np.arange(-2, -11, -0.5)
    error = [relative_error(central_difference(loss.value, w, h), exact) for h in steps]
    slope = np.polyfit(np.log10(steps[:4]), np.log10(error[:4]), 1)[0]
    assert slope == pytest.approx(2, abs=0.02)
    assert 5e-7 <= steps[int(np.argmin(error))] <= 1e-4
    forward = min(relative_error(forward_difference(loss.value, w, h), exact) for h in steps)
    assert min(error) < forward / 30


# --- what is around them ----------------------------------------------------------------------------------------------


def test_points_after_given_numbers_of_updates():
    counts = iter(np.arange(100.0))
    assert at_steps(counts, [0, 1, 5, 20]) == [0.0, 1.0, 5.0, 20.0]


def test_solve_stops_at_the_tolerance_or_at_its_patience():
    X, y, _ = problem()
    loss = BinaryLoss(X, y, 0.1)
    found = solve(loss, newton(loss, np.zeros(4)), 1e-10, 50)
    assert found.converged
    assert (
        found.gradient_norm
        <= 1e-10
        < np.linalg.norm(loss.gradient(at_steps(newton(loss, np.zeros(4)), [found.steps - 1])[0]))
    )
    stopped = solve(loss, gradient_descent(loss, np.zeros(4), 1e-3), 1e-10, 3)
    assert (stopped.steps, stopped.converged) == (3, False)
    level = loss.value(at_steps(gradient_descent(loss, np.zeros(4), 0.1), [4])[0])
    assert steps_until(loss, gradient_descent(loss, np.zeros(4), 0.1), level, 100) == 4
    assert steps_until(loss, gradient_descent(loss, np.zeros(4), 0.1), level, 3) is None


def test_standardised_columns_have_mean_zero_and_deviation_one_of_the_training_part():
    A, B = np.array([[0.0, 5.0], [2.0, 5.0]]), np.array([[4.0, 6.0]])
    a, b = standardise(A, B)
    assert a.tolist() == [[-1.0, 0.0], [1.0, 0.0]]
    assert b.tolist() == [[3.0, 1.0]]


def test_order_and_angle():
    assert convergence_order([1e-1, 1e-2, 1e-4, 1e-8]) == pytest.approx(2)
    assert convergence_order([1.0, 0.5, 0.25, 0.125]) == pytest.approx(1)
    assert degrees_between(np.array([1.0, 0.0]), np.array([1.0, 1.0])) == pytest.approx(45)


def test_steepest_descent_of_an_exact_fraction():
    """The whole chain once with rational numbers: one sample x = 1, y = 1, w = 0: gradient -½, curvature ¼."""
    loss = BinaryLoss(np.array([[1.0]]), np.array([1]), 0.5)
    assert Fraction(float(loss.gradient(np.zeros(1))[0])) == Fraction(-1, 2)
    assert Fraction(float(loss.hessian(np.zeros(1))[0, 0])) == Fraction(3, 4)
    assert at_steps(newton(loss, np.zeros(1)), [1])[0] == pytest.approx([2 / 3])


@pytest.mark.parametrize("criterion", [
    "gradient_error", "hessian_error", "error_in_the_tail", "irls_against_newton", "smoothness_error", "margin_error",
])  # fmt: skip
def test_checks_of_errors_are_tight(criterion):
    assert getattr(checks, criterion)() <= 1e-9


def test_every_derivation_names_tests_that_exist():
    assert_derivations_are_tested(README, globals())
