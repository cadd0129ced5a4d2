"""M9: every derived formula against an independent source, each criterion, and what small wrong uses say."""

import itertools
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from derivations import assert_derivations_are_tested
from pydantic import ValidationError

from llmm.errors import UserError
from llmm.foundations.optimizers.schedules import warmup_stable_decay
from llmm.params import PretrainParams, load_params
from llmm.training.pretraining import checks, induction_start
from llmm.training.pretraining.compute import attention_share, training_flops
from llmm.training.pretraining.coordinate_check import activations, slopes
from llmm.training.pretraining.mup import factors, parameter_groups, scale_init
from llmm.training.pretraining.noise_scale import NoiseScale, TradeOff, fit_trade_off, gradient_of, squares
from llmm.training.pretraining.recipe import build_model
from llmm.training.pretraining.scaling_law import ScalingLaw, bootstrap, fit, weakest_direction
from llmm.training.pretraining.windows import Windows
from llmm.transformers.attention.induction import head_scores, repeated_sequences
from llmm.transformers.gpt import GPT, GPTConfig
from llmm.transformers.gpt.lens import attention_patterns

README = Path("llmm/training/pretraining/README.md")
CHINCHILLA = ScalingLaw(1.8172, (482.01, 2085.43), (0.3478, 0.3658))


def small(width=16, **changes):
    sizes = GPTConfig(64, 1, 2, 2, width, 2 * width, 64)
    return replace(sizes, **changes)


def fresh(config, seed=0):
    model = GPT(config)
    model.init_weights(torch.Generator().manual_seed(seed))
    return model


def test_every_section_of_the_derivations_names_its_tests():
    assert_derivations_are_tested(README, globals())


# 1. what a run costs


def test_six_flops_for_each_parameter_and_token_and_a_term_for_attention():
    config = small(32, n_layer=3)
    N, T, D = config.n_matmul_params, 128, 5000
    assert training_flops(config, D, T) == D * (6 * N + 6 * 3 * 32 * T)
    assert attention_share(config, T) == pytest.approx(3 * 32 * T / (N + 3 * 32 * T))
    assert attention_share(config, 2 * T) > attention_share(config, T)


def test_counted_flops_are_those_of_the_formula():
    assert checks.flops_error() <= 1e-12


# 2. scaling laws


def test_at_the_optimum_both_marginal_gains_are_equal():
    for flops in (1e18, 5.76e23):
        N, D = CHINCHILLA.optimum(flops)
        (A, B), (alpha, beta) = CHINCHILLA.coefficients, CHINCHILLA.exponents
        assert pytest.approx(flops) == 6 * N * D
        assert alpha * A / N**alpha == pytest.approx(beta * B / D**beta)
        assert CHINCHILLA.loss(N, D) < min(CHINCHILLA.loss(N * f, D / f) for f in (0.9, 1.1))


def test_optimum_grows_with_the_other_exponents_share():
    (small_n, _), (large_n, _) = CHINCHILLA.optimum(1e20), CHINCHILLA.optimum(1e22)
    alpha, beta = CHINCHILLA.exponents
    assert math.log(large_n / small_n) / math.log(100) == pytest.approx(beta / (alpha + beta))


def test_refitted_law_gives_about_twenty_tokens_a_parameter():
    N, D = CHINCHILLA.optimum(5.76e23)  # Chinchilla's budget: 70 billion parameters
    assert 6.5e10 < N < 8e10 and 15 < D / N < 25


def test_fit_is_good_to_the_noise_that_it_is_given():
    sizes = np.array(list(itertools.product(np.geomspace(5e7, 1e10, 6), np.geomspace(1e9, 3e11, 6))))
    rng = np.random.default_rng(0)
    noisy = np.array([CHINCHILLA.loss(*row) for row in sizes]) * np.exp(rng.normal(0, 1e-3, len(sizes)))
    found = fit(sizes, noisy)
    assert found.loss(7e10, 1.4e12) == pytest.approx(CHINCHILLA.loss(7e10, 1.4e12), rel=5e-3)


def test_a_fixed_ratio_hides_which_exponent_is_which():
    N = np.geomspace(1e4, 1e6, 8)
    one = ScalingLaw(1.2, (30.0, 70.0), (0.35, 0.35))
    other = ScalingLaw(1.2, (30.0 + 70.0 * 5**-0.35 - 10.0, 10.0 * 5**0.35), (0.35, 0.35))
    assert [one.loss(n, 5 * n) for n in N] == pytest.approx([other.loss(n, 5 * n) for n in N])
    assert weakest_direction(one, np.column_stack([N, 5 * N])) < 1e-12
    assert weakest_direction(ScalingLaw(1.2, (60.0,), (0.35,)), N[:, None]) > 1e-4


def test_resampled_laws_spread_around_the_fitted_one():
    sizes = np.geomspace(1e4, 1e6, 8)[:, None]
    law = ScalingLaw(1.2, (60.0,), (0.35,))
    losses = np.array([law.loss(*row) for row in sizes]) * np.exp(np.random.default_rng(1).normal(0, 3e-3, 8))
    predicted = [other.loss(3e6) for other in bootstrap(sizes, losses, 6, 0)]
    assert len(set(predicted)) > 1
    assert min(predicted) * 0.97 < law.loss(3e6) < max(predicted) * 1.03


# 3. noise scale


def test_both_estimates_are_unbiased():
    assert checks.noise_scale_error() <= 1e-10


def test_squares_of_a_models_gradients_are_those_of_autograd():
    model = fresh(small())
    torch.nn.init.normal_(model.model.layers[0].mlp.down_proj.weight, 0, 0.3)
    ids_BT = torch.randint(64, (4, 9), generator=torch.Generator().manual_seed(0))

    def gradients():
        for row in ids_BT.split(1):
            model.zero_grad()
            model.loss(model.hidden(row[:, :-1]).flatten(0, 1), row[:, 1:].flatten()).backward()
            yield gradient_of(model.parameters())

    small_square, big_square = squares(gradients())
    model.zero_grad()
    model.loss(model.hidden(ids_BT[:, :-1]).flatten(0, 1), ids_BT[:, 1:].flatten()).backward()
    whole = sum(float(g.double().square().sum()) for g in gradient_of(model.parameters()))
    assert big_square == pytest.approx(whole, rel=1e-4)
    assert small_square > big_square


def test_noise_scale_of_equal_gradients_is_zero():
    found = NoiseScale()
    found.add(4.0, 4.0, 1, 8)
    assert found.value == 0 and found.signal == 4.0


def test_best_step_on_a_noisy_parabola_saves_what_the_formula_says():
    """E L(θ - εg) = L - ε G² + ε² h (G² + σ²/B) / 2: its least value over ε against README (3.6)."""
    G, h, variance = 1.5, 2.0, 9.0
    noise_scale = variance / G**2
    for batch in (1, 4, 64):
        rates = np.linspace(1e-4, 1.0, 200_001)
        change = -rates * G**2 + rates**2 * h * (G**2 + variance / batch) / 2
        assert -change.min() == pytest.approx(G**2 / (2 * h) / (1 + noise_scale / batch), rel=1e-6)


def test_steps_and_examples_trade_as_a_hyperbola():
    curve = TradeOff(100.0, 800.0)
    assert curve.critical_batch == 8
    assert (curve.steps(8), curve.examples(8)) == (200, 1600)
    found = fit_trade_off([2, 8, 32, 128], [500, 200, 125, 106.25])
    assert (found.fewest_steps, found.fewest_examples) == pytest.approx((100, 800), rel=1e-6)
    with pytest.raises(ValueError, match="at least two"):
        fit_trade_off([4, 4], [10, 11])


# 4. maximal updates


def test_first_step_of_adam_moves_an_output_with_the_fan_in():
    """README (4.2) and (4.3): Adam's first step is a sign, and it is aligned with the input that made it."""
    generator = torch.Generator().manual_seed(0)
    moved = {}
    for fan_in in (64, 1024):
        x, delta = (torch.randn(n, generator=generator) for n in (fan_in, 16))
        step = torch.outer(delta, x).sign()
        moved[fan_in] = (step @ x).abs().mean().item()
    assert moved[1024] / moved[64] == pytest.approx(16, rel=0.15)


def test_gains_take_over_the_multipliers():
    assert checks.multiplier_error() <= 1e-6


def test_a_model_as_wide_as_its_base_is_left_alone():
    config = small()
    plain, scaled = fresh(config), fresh(config)
    scale_init(scaled, config)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), scaled.parameters(), strict=True))
    assert [group["lr"] for group in parameter_groups(scaled, 0.01, config)] == [0.01]


def test_wider_heads_without_qk_norm_are_refused():
    wide = fresh(small(32, n_head=2, n_kv_head=2, qk_norm=False))
    with pytest.raises(UserError, match="QK-norm"):
        factors(wide, small(16))


def test_under_mup_the_logits_move_alike_at_every_width_and_otherwise_not():
    assert checks.mup_slope() <= 0.25
    assert checks.standard_slope() >= 0.5


def test_slopes_are_exponents_and_places_are_named():
    widths = [16, 32, 64]
    found = slopes(widths, [{"a": 2.0 * w**1.5, "b": 7.0} for w in widths])
    assert found == pytest.approx({"a": 1.5, "b": 0.0}, abs=1e-9)
    places = activations(fresh(small()), torch.ones(1, 5, dtype=torch.long))
    assert set(places) == {"layers.0.self_attn", "layers.0.mlp", "logits"}


# 5. schedules and order


def test_area_under_a_schedule():
    assert checks.schedule_area_error() <= 1e-9


def test_a_cooldown_quiets_the_noise_that_a_constant_rate_keeps():
    """README (5.3): a parabola with noisy gradients, its mean loss in closed form, against the recursion."""
    h, variance, rate, steps = 1.0, 1.0, 0.2, 400
    losses = {}
    for cooldown in (0.0, 0.5):
        square = 0.0
        for step in range(steps):
            eta = rate * (warmup_stable_decay(step, steps, 0, cooldown) if cooldown else 1.0)
            square = (1 - eta * h) ** 2 * square + eta**2 * variance
        losses[cooldown] = h * square / 2
    assert losses[0.0] == pytest.approx(rate * variance / (2 * (2 - rate * h)), rel=1e-6)
    assert losses[0.5] < losses[0.0] / 5


def test_order_is_a_function_of_seed_and_step():
    tokens = np.arange(400, dtype=np.uint16)
    first = Windows(tokens, 16, 4, 0)
    backwards = [first.batch(step) for step in reversed(range(20))][::-1]
    again = Windows(tokens, 16, 4, 0)
    assert all(torch.equal(a, again.batch(step)) for step, a in enumerate(backwards))


# 6. steps that survive


def test_an_accumulated_step_is_the_whole_one():
    assert checks.accumulation_error() <= 1e-12


def test_a_killed_run_goes_on_to_the_same_bits():
    assert checks.checkpoint_faults() == 0
    # it forks, which autograd and OpenMP refuse where a test before this one has made them start threads
    code = "from llmm.training.pretraining import checks; print(checks.resumed_weights_that_differ())"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": "1"},
                          capture_output=True, text=True, timeout=120)  # fmt: skip
    assert (done.stdout, done.stderr) == ("0\n", "")


# 7. beginning with a circuit


@pytest.mark.parametrize("heads, key_heads, width, vocab_size, at_least", [
    (3, 3, 192, 2048, 0.95), (2, 1, 192, 2048, 0.9), (2, 2, 96, 65, 0.8), (2, 2, 64, 512, 0.35), (1, 1, 64, 64, 0.35),
])  # fmt: skip
def test_an_untrained_model_continues_a_repetition(heads, key_heads, width, vocab_size, at_least):
    config = GPTConfig(vocab_size, 4, heads, key_heads, width, 2 * width, 256)
    assert checks.repetitions_continued(config) >= at_least
    plain = checks.repetitions_continued(config, lambda model, generator: None)
    assert plain == 0  # blocks that do nothing name the token just read, which never follows itself here


def test_scores_of_places_are_those_of_the_formula(monkeypatch):
    monkeypatch.setattr(induction_start, "REST", 0.0)  # rows that the circuit does not use add their noise
    assert checks.place_score_error() <= 1e-4


def attention_paid(model, layer, ids_BT):
    """The weights (B, H, T, T) with which a layer of `model` mixes."""
    return torch.stack([attention_patterns(model, ids)[layer] for ids in ids_BT.tolist()])


@pytest.mark.parametrize("key_heads", [4, 2, 1])
def test_heads_of_the_circuit_look_where_they_should(key_heads):
    model = fresh(GPTConfig(512, 5, 4, key_heads, 256, 256, 256))
    induction_start.begin_with_induction(model, torch.Generator().manual_seed(1))
    ids_BT, period_B = repeated_sequences(4, 128, 512, range(40, 60), torch.Generator().manual_seed(0))
    first = attention_paid(model, 0, ids_BT)
    assert first[:, 0].diagonal(-1, -2, -1)[:, 1:].mean() > 0.95
    assert first[:, 1].diagonal(-2, -2, -1)[:, 1:].mean() > 0.95
    _, after_last = head_scores(attention_paid(model, 2, ids_BT), period_B)
    assert after_last.min() > 0.6
    # B follows A, C follows D A: with A before it twice, only heads that compare two tokens know which is meant
    A, B, C, D, E = 1, 2, 3, 4, 5
    text = torch.cat([torch.arange(20, 30), torch.tensor([E, A, B]), torch.arange(30, 40), torch.tensor([D, A, C]),
                      torch.arange(40, 50), torch.tensor([E, A])])[None]  # fmt: skip
    paid = attention_paid(model, 2, text)[0, :, -1]
    to_B, to_C = paid[:, 12], paid[:, 25]
    per_key = 4 // key_heads
    single = range(4 if key_heads == 1 else 4 - per_key)
    assert all(to_B[head] < 3 * to_C[head] for head in single)
    assert all(to_B[head] > 10 * to_C[head] for head in range(4) if head not in single)


@pytest.mark.parametrize("zero_init", [True, False])
def test_the_recipe_decides_on_the_circuit(zero_init):
    recipe = load_params(Path("params.yaml")).pretrain.model_copy(update={"zero_init": zero_init})
    ids_BT, period_B = repeated_sequences(2, 128, 512, range(40, 60), torch.Generator().manual_seed(0))
    found = []
    for start in (True, False):
        model = build_model(recipe.model_copy(update={"induction_start": start}), 512, 0)
        _, after_last = head_scores(attention_paid(model, 2, ids_BT), period_B)
        found.append(after_last.min().item())
    assert found[0] > 0.4 and found[1] < 0.05


@pytest.mark.parametrize("change", [
    {"positions": "learned"}, {"qk_norm": False}, {"tie_embeddings": False}, {"n_layer": 1},
])  # fmt: skip
def test_recipes_that_lack_a_part_of_the_circuit_are_refused(change):
    recipe = load_params(Path("params.yaml")).pretrain.model_dump()
    assert PretrainParams(**recipe).induction_start
    with pytest.raises(ValidationError, match="induction_start: needs positions = rope"):
        PretrainParams(**recipe | change)
    assert not PretrainParams(**recipe | change | {"induction_start": False}).induction_start


def test_no_document_is_on_both_sides():
    assert checks.overlapping_documents() == 0
