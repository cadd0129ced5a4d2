"""The final formula of every derivation in the README of the optimizers, by its number there."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmm.foundations.optimizers import checks, plain
from llmm.foundations.optimizers.experiments import counterexample_drifts, quintic
from llmm.foundations.optimizers.muon import Muon, orthogonalise
from llmm.foundations.optimizers.problems import curvatures, steps_to_reach

FLOAT64 = torch.float64


def descend(rule, h, w, steps, **hyperparameters):
    """Places of w on h/2 w² (element-wise), the first one included."""
    s, places = {}, [w]
    for t in range(1, steps + 1):
        s["t"] = t
        places.append(rule(places[-1], h * places[-1], s, **hyperparameters))
    return torch.stack(places)


# --- rates ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kappa", [2.0, 10.0, 300.0])
def test_4_gradient_descent_at_its_best_rate_contracts_by_kappa_minus_one_over_kappa_plus_one(kappa):
    h = curvatures(kappa)
    places = descend(plain.sgd, h, torch.ones_like(h), 50, lr=2 / (1 + 1 / kappa))
    expected = (kappa - 1) / (kappa + 1)
    assert float(places[-1].abs().max()) == pytest.approx(expected**50, rel=1e-9)
    for lr in (1.9 / (1 + 1 / kappa), min(2.0, 2.1 / (1 + 1 / kappa))):  # both neighbours are slower
        assert max((1 - lr * h).abs()) > expected


def test_5_gradient_descent_takes_half_kappa_times_the_digits():
    for kappa in (100.0, 1000.0):
        steps = steps_to_reach(1e-6, torch.tensor([1 / kappa, 1.0], dtype=FLOAT64), plain.sgd, lr=2 / (1 + 1 / kappa))
        assert steps == pytest.approx(kappa / 2 * math.log(1e6), rel=0.01)


def heavy_ball_matrix(h, lr, mu):
    """README (6): what a step does to (w_t, w_{t-1})."""
    return np.array([[1 + mu - lr * h, -mu], [1.0, 0.0]])


def test_6_the_heavy_ball_is_a_recurrence_of_second_order():
    h, lr, mu = 0.3, 0.7, 0.6
    places = descend(plain.momentum, torch.tensor(h, dtype=FLOAT64), torch.tensor(2.0, dtype=FLOAT64), 20, lr=lr, mu=mu)
    pair = np.array([float(places[1]), float(places[0])])
    for place in places[2:]:
        pair = heavy_ball_matrix(h, lr, mu) @ pair
        assert pair[0] == pytest.approx(float(place), abs=1e-14)


@pytest.mark.parametrize("kappa", [10.0, 1000.0])
def test_8_at_its_best_the_heavy_ball_has_one_radius_for_all_curvatures(kappa):
    root = math.sqrt(kappa)
    lr, mu = 4 / (1 + 1 / root) ** 2, ((root - 1) / (root + 1)) ** 2
    for h in curvatures(kappa).tolist():
        radius = max(abs(np.linalg.eigvals(heavy_ball_matrix(h, lr, mu))))
        assert radius == pytest.approx((root - 1) / (root + 1), abs=2e-7)  # a double root at both ends


@given(st.floats(1.5, 1e4), st.floats(0.01, 4.0), st.floats(0.0, 1.0))
def test_8_no_other_pair_of_rate_and_momentum_is_faster(kappa, lr, mu):
    radius = max(max(abs(np.linalg.eigvals(heavy_ball_matrix(h, lr, mu)))) for h in (1 / kappa, 1.0))
    assert radius >= (math.sqrt(kappa) - 1) / (math.sqrt(kappa) + 1) - 1e-7


def test_9_the_heavy_ball_takes_half_the_root_of_kappa_times_the_digits_and_those_of_its_own_steps():
    for kappa in (1e2, 1e4):
        root = math.sqrt(kappa)
        h = torch.tensor([1 / kappa, 1.0], dtype=FLOAT64)
        lr, mu = 4 / (1 + 1 / root) ** 2, ((root - 1) / (root + 1)) ** 2
        steps = steps_to_reach(1e-12, h, plain.momentum, lr=lr, mu=mu)
        assert steps == pytest.approx(root / 2 * (math.log(1e12) + math.log(2 * steps)), rel=0.02)


def test_11_nesterov_is_a_gradient_step_from_the_point_looked_ahead_to():
    h, lr, mu = torch.tensor([0.3, 1.0], dtype=FLOAT64), 0.4, 0.8
    places = descend(plain.nesterov, h, torch.tensor([1.0, -2.0], dtype=FLOAT64), 15, lr=lr, mu=mu)
    x = before = places[0]
    for place in places:
        ahead = x + mu * (x - before)
        assert torch.allclose(ahead, place, atol=1e-14)
        before, x = x, ahead - lr * h * ahead


# --- Adam and what became of it ---------------------------------------------------------------------------------------


def test_13_the_corrections_make_a_constant_gradient_what_it_is():
    g, s = torch.tensor([3.0, -0.01], dtype=FLOAT64), {}
    w = torch.zeros_like(g)
    for t in range(1, 30):
        s["t"] = t
        w = plain.adam(w, g, s, lr=0.1, beta1=0.9, beta2=0.999, eps=0.0)
        assert torch.allclose(s["m"] / (1 - 0.9**t), g, rtol=1e-12)
        assert torch.allclose(s["v"] / (1 - 0.999**t), g**2, rtol=1e-12)
    weights = [(1 - 0.9) * 0.9 ** (29 - i) for i in range(1, 30)]
    assert sum(weights) == pytest.approx(1 - 0.9**29)


@given(st.floats(1e-6, 1e6), st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_14_adams_first_step_is_a_sign_whatever_its_settings(size, beta1, beta2):
    g = torch.tensor([size, -size], dtype=FLOAT64)
    w = plain.adam(torch.zeros_like(g), g, {"t": 1}, lr=0.1, beta1=beta1, beta2=beta2, eps=0.0)
    assert torch.allclose(w, -0.1 * torch.sign(g), rtol=1e-9)


def test_14_without_memory_every_step_of_adam_is_lions():
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(20, dtype=FLOAT64, generator=generator)
    adam, lion = {}, {}
    for t in range(1, 10):
        g = torch.randn(20, dtype=FLOAT64, generator=generator)
        by_adam = plain.adam(w, g, adam | {"t": t}, lr=0.1, beta1=0.0, beta2=0.0, eps=0.0)
        w = plain.lion(w, g, lion | {"t": t}, lr=0.1, beta1=0.0, beta2=0.0)
        assert torch.allclose(by_adam, w, atol=1e-14)


def test_15_and_16_l2_is_normalised_away_and_decoupled_decay_is_not():
    w = torch.tensor([2.0, -0.5], dtype=FLOAT64)
    still = torch.zeros_like(w)
    for decay in (0.01, 0.1):
        l2 = plain.adam(w, still, {"t": 1}, lr=0.1, eps=0.0, weight_decay=decay)
        assert torch.allclose(l2, w - 0.1 * torch.sign(w))  # the same for every λ and every size of w
        decoupled = plain.adamw(w, still, {"t": 1}, lr=0.1, eps=1e-8, weight_decay=decay)
        assert torch.allclose(decoupled, (1 - 0.1 * decay) * w)


def test_16_for_plain_sgd_both_decays_are_one():
    w, g = torch.tensor([2.0, -0.5], dtype=FLOAT64), torch.tensor([1.0, 3.0], dtype=FLOAT64)
    assert torch.allclose(plain.sgd(w, g, {}, lr=0.1, weight_decay=0.3), (1 - 0.1 * 0.3) * w - 0.1 * g)


@pytest.mark.parametrize("C", [2.5, 3.0, 5.0, 10.0])
def test_18_and_19_adam_drifts_up_and_amsgrad_down_by_what_the_cycle_says(C):
    drift = counterexample_drifts(C)
    assert drift["adam"] > 0 > drift["amsgrad"]
    for name, rule in (("adam", plain.adam), ("amsgrad", plain.amsgrad)):
        w, s, after = torch.zeros((), dtype=FLOAT64), {}, []
        for t in range(1, 61):
            s["t"] = t
            g = torch.tensor(C if t % 3 == 1 else -1.0, dtype=FLOAT64)
            w = rule(w, g, s, lr=1.0, beta1=0.0, beta2=1 / (1 + C**2), eps=0.0)
            after.append(float(w))
        assert after[-1] - after[-4] == pytest.approx(drift[name], abs=1e-9)


# --- Muon and SOAP ----------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 10**6))
def test_22_the_orthogonal_factor_is_the_steepest_direction_of_spectral_norm_one(rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    G = torch.randn(rows, columns, dtype=FLOAT64, generator=generator)
    U, S, Vt = torch.linalg.svd(G, full_matrices=False)
    assert float((G * (U @ Vt)).sum()) == pytest.approx(float(S.sum()))
    for _ in range(20):
        D = torch.randn(rows, columns, dtype=FLOAT64, generator=generator)
        D = D / torch.linalg.matrix_norm(D, 2)
        assert float((G * D).sum()) <= float(S.sum()) + 1e-12
    # (20) itself: ⟨G, Δ⟩ + ‖Δ‖₂² / 2η is least at Δ = -η (Σ s) U Vᵀ, where it is -η (Σ s)² / 2
    eta, nuclear = 0.3, float(S.sum())

    def price(step):
        return float((G * step).sum() + torch.linalg.matrix_norm(step, 2) ** 2 / (2 * eta))

    best = -eta * nuclear * (U @ Vt)
    assert price(best) == pytest.approx(-eta * nuclear**2 / 2)
    for size in (0.01, 1.0):
        other = best + size * torch.randn(rows, columns, dtype=FLOAT64, generator=generator)
        assert price(other) >= price(best) - 1e-12
    assert min(price(0.99 * best), price(1.01 * best)) > price(best)


def test_24_the_quintic_that_converges_is_flat_to_second_order_at_one():
    a, b, c = 15 / 8, -10 / 8, 3 / 8
    assert (a + b + c, a + 3 * b + 5 * c, 6 * b + 20 * c) == (1, 0, 0)
    errors = [1e-2]
    for _ in range(2):
        errors.append(1 - float(quintic(torch.tensor(1 - errors[-1], dtype=FLOAT64), 1, (a, b, c))))
    assert errors[1] == pytest.approx(2.5 * errors[0] ** 3, rel=0.05)  # cubic: p‴(1) / 6 = (6b + 60c) / 6 = 2.5
    assert errors[2] == pytest.approx(0, abs=1e-15)


def test_25_and_27_the_iteration_moves_singular_values_only_and_so_does_its_gram_form():
    assert checks.orthogonalise_from_svd() <= 1e-12
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(2, 5, 30, dtype=FLOAT64, generator=generator)  # iterated on the Gram matrix
    for G in wide:
        assert torch.allclose(orthogonalise(G[None])[0], plain.newton_schulz(G), atol=1e-12)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 10**6))
def test_27_1_the_schatten_4_norm_lies_between_the_largest_singular_value_and_the_frobenius_norm(rows, columns, seed):
    G = torch.randn(rows, columns, dtype=FLOAT64, generator=torch.Generator().manual_seed(seed))
    s = torch.linalg.svdvals(G)
    schatten4 = (s**4).sum() ** 0.25
    assert torch.isclose((G @ G.T).norm().sqrt(), schatten4, rtol=1e-12)
    assert s.max() * (1 - 1e-12) <= schatten4 <= G.norm() * (1 + 1e-12)


def test_26_the_band_is_from_the_minimum_of_the_polynomial_to_the_minimums_image():
    a, b, c = plain.QUINTIC
    # p′ = a + 3bs² + 5cs⁴ = 0, a quadratic in s²
    peak, trough = sorted(math.sqrt(root) for root in np.roots([5 * c, 3 * b, a]).real)
    low, high = (float(quintic(torch.tensor(trough, dtype=FLOAT64), k)) for k in (1, 2))
    assert (low, high) == (pytest.approx(0.68183, abs=1e-5), pytest.approx(1.13436, abs=1e-5))
    assert (peak, trough) == (pytest.approx(0.5545, abs=1e-4), pytest.approx(1.0501, abs=1e-4))
    assert float(quintic(torch.tensor(peak, dtype=FLOAT64), 1)) == pytest.approx(1.20237, abs=1e-5)
    assert float(quintic(torch.tensor(high, dtype=FLOAT64), 1)) == pytest.approx(0.7531, abs=1e-4)
    inside = quintic(torch.linspace(low, high, 10001, dtype=FLOAT64), 1)
    assert inside.min() >= low - 1e-9 and inside.max() <= high + 1e-9  # once in the band, always in it
    tiny = torch.tensor(1e-9, dtype=FLOAT64)
    assert float(quintic(tiny, 5) / tiny) == pytest.approx(a**5, rel=1e-6)


@pytest.mark.parametrize("shape", [(12, 3), (3, 12), (6, 6)])
def test_27_3_rows_are_divided_by_what_they_were_and_the_matrix_keeps_its_length(shape):
    assert checks.normuon_rows_from_equations() <= 1e-10
    beta, mu, lr = 0.8, 0.9, 0.1
    generator = torch.Generator().manual_seed(0)
    gradients = torch.randn(5, *shape, dtype=FLOAT64, generator=generator)
    gradients[:, 0] *= 100  # one loud neuron
    weight = torch.nn.Parameter(torch.zeros(shape, dtype=FLOAT64))
    optimizer = Muon([weight], lr, mu, dtype=FLOAT64, neuron_beta=beta)
    m, v = torch.zeros(shape, dtype=FLOAT64), torch.zeros(shape[0], dtype=FLOAT64)
    for g in gradients:
        before = weight.detach().clone()
        weight.grad = g
        optimizer.step()
        m = mu * m + (1 - mu) * g
        step = orthogonalise((g + mu * (m - g))[None])[0]
        v = beta * v + (1 - beta) * (step**2).sum(1) / shape[1]
        R = torch.diag(v**-0.5) @ step
        expected = -lr * max(1, shape[0] / shape[1]) ** 0.5 * step.norm() / R.norm() * R
        assert torch.allclose(weight.detach() - before, expected, rtol=0, atol=1e-9)


def test_27_3_rows_of_zeros_stay_where_they_are():
    weight = torch.nn.Parameter(torch.ones(4, 3))
    optimizer = Muon([weight], neuron_beta=0.9)
    for row in (None, 1):
        weight.grad = torch.zeros(4, 3)
        if row is not None:
            weight.grad[row, 0] = 1.0
        optimizer.step()
    assert weight.isfinite().all() and (weight[[0, 2, 3]] == 1).all() and weight[1, 0] < 1


def test_28_soap_is_adam_in_the_basis():
    assert checks.soap_from_adam() <= 1e-11


def test_29_orthogonal_iteration_finds_the_eigenvectors_and_keeps_columns_that_stand_in_its_order():
    assert checks.soap_basis() <= 1e-6
    assert checks.soap_columns_kept() >= 0.75


# --- Schedule-Free ----------------------------------------------------------------------------------------------------


@given(st.floats(0.05, 1.0), st.floats(0.01, 1.0), st.floats(0.0, 1.0), st.floats(-2, 2), st.floats(-2, 2))
def test_31_eliminating_the_average_changes_nothing(beta, lr, c, x, z):
    d, y = 0.7, (1 - beta) * z + beta * x
    z_new = z - lr * d
    x_new = (1 - c) * x + c * z_new
    expected = (1 - beta) * z_new + beta * x_new
    assert (1 - c) * y + c * z - lr * (1 - beta * (1 - c)) * d == pytest.approx(expected, abs=1e-12)


def test_32_and_33_schedule_free_on_a_quadratic():
    assert checks.schedule_free_from_equations() <= 1e-12


def test_34_schedule_free_under_a_constant_gradient():
    assert checks.schedule_free_average() <= 1e-12


# --- stability and clipping -------------------------------------------------------------------------------------------


@given(st.floats(0.05, 2.0), st.floats(0.0, 0.95))
def test_35_and_36_descent_is_stable_up_to_two_times_one_plus_mu_over_lr(lr, mu):
    limit = 2 * (1 + mu) / lr
    for h, stable in ((0.98 * limit, True), (1.02 * limit, False)):
        radius = max(abs(np.linalg.eigvals(heavy_ball_matrix(h, lr, mu))))
        assert bool(radius < 1) is stable


def test_35_gradient_descent_below_and_above_the_limit():
    w = torch.tensor(1.0, dtype=FLOAT64)
    for h, grows in ((1.99, False), (2.01, True)):
        places = descend(plain.sgd, torch.tensor(h, dtype=FLOAT64), w, 500, lr=1.0)
        assert (abs(float(places[-1])) > 1) is grows


def test_37_power_iteration_agrees_with_the_hessian():
    assert checks.sharpness_from_hessian() <= 1e-8
