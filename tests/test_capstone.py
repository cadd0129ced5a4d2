"""M14's derivations: batches, waiting, quantiles, long chats, the gate's power, weights in few bits."""

import math
import random
from pathlib import Path

import numpy as np
import pytest
from derivations import assert_derivations_are_tested
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from agents.capstone import checks, load
from agents.capstone.batching_law import (
    expected_longest,
    fit,
    most_speedup,
    rows_for,
    speedup,
    step_seconds,
    steps_continuous,
    steps_static,
)
from agents.capstone.block_quantization import BLOCK, bits_per_weight, dequantize, most, quantize, relative_noise
from agents.capstone.gate_power import critical, power, smallest_loss, unpaired_power
from agents.capstone.history_cost import read_anew, read_with_cache
from agents.capstone.quantiles import fewest, interval, quantile
from agents.capstone.queueing import (
    batch_rate,
    birth_death,
    erlang_c,
    mean_seconds,
    mean_wait_one_row,
    serve,
    sojourn_quantile,
)
from llmm.ladder.milestones import find_milestone
from llmm.ladder.spec import Criterion

MEASURED = [criterion for criterion in find_milestone("m14").spec.criteria if criterion.check and not criterion.noisy]


def test_every_derivation_names_tests_that_exist() -> None:
    assert_derivations_are_tested(Path("agents/capstone/README.md"), globals())


@pytest.mark.parametrize("criterion", MEASURED, ids=lambda criterion: criterion.id)
def test_the_reference_meets_the_criterion(criterion: Criterion) -> None:
    assert criterion.holds(getattr(checks, criterion.check)())


# --- batches ----------------------------------------------------------------------------------------------------------

costs = st.floats(0.01, 10)
several = st.lists(st.integers(1, 9), min_size=1, max_size=12)


@given(costs, costs, st.integers(1, 200))
def test_a_batch_gains_what_a_step_does_once(fixed: float, per_row: float, rows: int) -> None:
    gained = speedup(rows, fixed, per_row)
    assert 1 - 1e-12 <= gained <= min(rows, most_speedup(fixed, per_row)) + 1e-9
    assert speedup(rows + 1, fixed, per_row) >= gained - 1e-12
    assert speedup(rows, 0.0, per_row) == pytest.approx(1)


@given(costs, costs, st.floats(0.05, 0.95))
def test_half_of_it_takes_as_many_rows_as_a_row_goes_into_what_is_done_once(
    fixed: float, per_row: float, share: float
) -> None:
    assert rows_for(0.5, fixed, per_row) == pytest.approx(fixed / per_row)  # (1.3)
    needed = rows_for(share, fixed, per_row)
    assert needed * (fixed + per_row) / (fixed + needed * per_row) == pytest.approx(
        share * most_speedup(fixed, per_row)
    )


@given(costs, costs)
def test_two_numbers_of_rows_tell_the_law(fixed: float, per_row: float) -> None:
    rows = [1, 4, 16]
    assert fit(rows, [step_seconds(n, fixed, per_row) for n in rows]) == pytest.approx((fixed, per_row), rel=1e-6)


@given(several, st.integers(1, 5))
def test_continuous_batches_are_near_the_best_schedule(lengths: list[int], rows: int) -> None:
    steps = steps_continuous(lengths, rows)
    least = max(math.ceil(sum(lengths) / rows), max(lengths))
    assert least <= steps <= sum(lengths) / rows + (1 - 1 / rows) * max(lengths) + 1e-9  # (1.5)
    assert steps <= steps_static(lengths, rows) <= sum(lengths)


def test_equal_answers_need_no_continuous_batches() -> None:
    assert steps_static([7] * 12, 4) == steps_continuous([7] * 12, 4) == 21


@pytest.mark.parametrize("rows", [1, 3, 16])
def test_the_longest_of_a_batch(rows: int) -> None:
    drawn = np.random.default_rng(0).geometric(0.1, (200_000, rows)).max(1)
    assert expected_longest(rows, 0.1) == pytest.approx(drawn.mean(), rel=0.01)
    assert expected_longest(1, 0.1) == pytest.approx(10)
    assert expected_longest(rows, 1.0) == pytest.approx(1)


# --- waiting ----------------------------------------------------------------------------------------------------------


def test_as_many_are_there_as_come_while_one_is_there() -> None:
    """Little's law on one course of events, (2.1): how many are there, step by step, against the server's stays."""
    rng = random.Random(0)
    arrivals = sorted(rng.uniform(0, 100) for _ in range(40))
    tokens = [rng.randint(1, 9) for _ in arrivals]
    left, now, area = list(tokens), 0.0, 0.0
    while any(left):
        running = [i for i in range(40) if left[i] and arrivals[i] <= now][:2]
        end = now + 0.5 + 0.1 * len(running) if running else min(t for t, n in zip(arrivals, left, strict=True) if n)
        area += sum(max(0.0, end - max(now, arrivals[i])) for i in range(40) if left[i])
        for i in running:
            left[i] -= 1
        now = end
    assert area == pytest.approx(serve(arrivals, tokens, 2, 0.5, 0.1).sum())


def test_nobody_is_counted_who_was_sent_away() -> None:
    law = birth_death(3.0, lambda n: 1.0, 2)
    assert law == pytest.approx(np.array([1, 3, 9]) / 13)
    assert mean_seconds(law, 3.0) == pytest.approx((3 + 2 * 9) / 13 / (3 * 4 / 13))


@pytest.mark.parametrize("load_", [0.1, 0.5, 0.95])
def test_one_row_waits_by_the_square_of_the_lengths(load_: float) -> None:
    exponential = mean_wait_one_row(load_, 1.0, 2.0)
    assert exponential == pytest.approx(load_ / (1 - load_))
    assert mean_wait_one_row(load_, 1.0, 1.0) == pytest.approx(exponential / 2)  # equal ones
    law = birth_death(load_, lambda n: 1.0, 2000)
    assert exponential == pytest.approx(mean_seconds(law, load_) - 1, rel=1e-6)


@pytest.mark.parametrize("servers,busy", [(1, 0.6), (2, 1.0), (16, 14.0)])
def test_erlang_s_law_is_that_of_rows_that_cost_each_other_nothing(servers: int, busy: float) -> None:
    law = birth_death(busy, batch_rate(servers, 1.0, 0.0, 1.0), 3000)
    assert erlang_c(servers, busy) == pytest.approx(law[servers:].sum(), rel=1e-9)
    assert erlang_c(1, 0.6) == pytest.approx(0.6)


def test_the_virtual_server_waits_as_the_laws_say() -> None:
    rng = np.random.default_rng(0)
    for rows, load_ in ((1, 0.5), (8, 0.7)):
        served = batch_rate(rows, 0.6, 0.2, 20.0)
        rate = load_ * served(10**6)
        arrivals, lengths_ = np.cumsum(rng.exponential(1 / rate, 20_000)), rng.geometric(1 / 20, 20_000)
        stays = serve(arrivals.tolist(), lengths_.tolist(), rows, 0.6, 0.2)
        assert stays.mean() == pytest.approx(mean_seconds(birth_death(rate, served, 2000), rate), rel=0.06)
        if rows == 1:
            assert quantile(stays.tolist(), 0.95) == pytest.approx(sojourn_quantile(0.95, rate, served(1)), rel=0.1)


# --- quantiles --------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.floats(0.01, 1.0))
def test_a_quantile_is_the_smallest_value_that_is_large_enough(values: list[float], q: float) -> None:
    found = quantile(values, q)
    assert sum(value <= found for value in values) >= q * len(values) - 1e-6
    assert sum(value < found for value in values) < q * len(values) + 1e-6


def test_the_interval_of_a_quantile_holds_it_whatever_the_law() -> None:
    rng, held = np.random.default_rng(0), 0
    for _ in range(600):
        low, high = interval(rng.lognormal(0, 2, 100).tolist(), 0.95)
        held += low <= math.exp(2 * 1.6448536) < high
    assert binom.cdf(held, 600, 0.95) > 1e-3


def test_the_p95_of_few_requests_has_no_upper_end() -> None:
    assert fewest(0.95) == 72  # (3.3)
    assert interval(range(71), 0.95)[1] == math.inf and interval(range(72), 0.95)[1] < math.inf
    assert interval([1.0], 0.5) == (-math.inf, math.inf)


def test_the_load_of_a_server_is_told_with_its_intervals() -> None:
    answers = [load.Answered(None, seconds / 100, 3) for seconds in range(1, 101)]
    told = load.summary([load.Round(10.0, answers)])["seconds_to_end"]
    low, high = interval([answer.whole for answer in answers], 0.95)
    assert told == {"p50": 0.5, "p95": 0.95, "p95_low": low, "p95_high": high}
    few = load.summary([load.Round(1.0, answers[:20])])
    assert few["seconds_to_end"]["p95_high"] is None and few["seconds_to_first_text"] is None


# --- long chats -------------------------------------------------------------------------------------------------------


@given(st.integers(1, 30), st.integers(1, 50), st.integers(1, 50))
def test_a_chat_that_is_read_anew_costs_the_square_of_its_length(turns: int, said: int, answered: int) -> None:
    prompts = [turn * said + (turn - 1) * answered for turn in range(1, turns + 1)]
    assert read_anew(turns, said, answered) == sum(prompts)  # (4.1)
    new = [said] + [said + 1] * (turns - 1)
    assert read_with_cache(turns, said) == sum(new)  # (4.2)


# --- the gate ---------------------------------------------------------------------------------------------------------


def test_few_changed_items_say_nothing() -> None:
    assert critical(8, 0.05).tolist() == [1, 2, 3, 4, 5, 5, 6, 7, 7]  # 5 of 5 is the first that does
    assert critical(8, 0.05 / 19)[8] == 9  # not even eight of eight


def test_power_grows_with_the_loss_and_falls_with_the_churn() -> None:
    caught = [power(200, 0.03 + loss, 0.03, 0.01) for loss in (0, 0.03, 0.06, 0.12)]
    assert caught == sorted(caught) and caught[0] <= 0.01
    assert power(200, 0.16, 0.1, 0.01) < power(200, 0.09, 0.03, 0.01)
    assert power(200, 0.0, 0.0, 0.01) == 0


def test_pairs_see_what_rates_do_not() -> None:
    assert power(200, 0.1, 0.02, 0.01) > 2 * unpaired_power(200, 0.8, 0.72, 0.01)
    # the gain is a matter of churn: where builds have nothing in common, it is gone
    half = power(200, 0.5 * 0.6, 0.5 * 0.4, 0.05)
    assert half == pytest.approx(unpaired_power(200, 0.5, 0.4, 0.05), abs=0.1)


def test_the_smallest_loss_is_caught_as_often_as_wanted() -> None:
    for n in (100, 400):
        loss = smallest_loss(n, 0.03, 0.01)
        assert power(n, 0.03 + loss, 0.03, 0.01) == pytest.approx(0.8, abs=1e-3)
    with pytest.raises(ValueError, match="no loss"):
        smallest_loss(4, 0.0, 0.01)


# --- few bits ---------------------------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(st.integers(2, 8), st.integers(0, 10**6), st.floats(0.01, 1e3))
def test_no_weight_is_further_off_than_half_a_step(bits: int, seed: int, scale: float) -> None:
    weights = (scale * np.random.default_rng(seed).standard_normal((3, BLOCK))).astype(np.float32)
    scales, codes = quantize(weights, bits)
    steps = np.abs(weights).max(1, keepdims=True) / most(bits)
    assert (np.abs(codes) <= most(bits)).all() and (np.abs(codes).max(1) == most(bits)).all()
    off = np.abs(dequantize(scales, codes) - weights)
    assert (off <= (0.5 + np.abs(codes) / 2048 + 1e-4) * steps + 1e-7).all()


def test_a_scale_too_small_for_half_precision_is_coarse() -> None:
    weights = np.linspace(-2.6e-6, 2.6e-6, BLOCK, dtype=np.float32)  # steps of 2e-8: 16 bits know none
    scales, codes = quantize(weights, 8)
    assert not scales.any() and not dequantize(scales, codes).any()


def test_nothing_stays_nothing() -> None:
    scales, codes = quantize(np.zeros((1, BLOCK), np.float32), 4)
    assert not scales.any() and not codes.any()


def test_a_bit_less_is_twice_the_noise() -> None:
    assert relative_noise(7) / relative_noise(8) == pytest.approx(127 / 63)
    assert bits_per_weight(8) == 8.5
    weights = np.random.default_rng(1).standard_normal((10_000, BLOCK)).astype(np.float32)
    off = dequantize(*quantize(weights, 5)) - weights
    assert float(np.sqrt((off**2).mean())) == pytest.approx(relative_noise(5), rel=0.01)
