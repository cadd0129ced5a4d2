"""Intervals against their oracles: coverage on known distributions, symmetries, degenerate inputs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmm.statistics import bootstrap_interval, paired_bootstrap, wilson_interval

VALUES = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40)


def test_bootstrap_covers_the_true_mean_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    draws = generator.exponential(2.0, size=(400, 80))  # skewed on purpose; the mean is 2
    intervals = [bootstrap_interval(draw, 400, seed) for seed, draw in enumerate(draws)]
    covered = np.mean([low <= 2.0 <= high for low, high in intervals])
    assert 0.90 <= covered <= 0.97


def test_bootstrap_width_is_that_of_the_standard_error():
    values = np.random.default_rng(1).normal(size=500)
    low, high = bootstrap_interval(values, 4000, 0)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(500), rel=0.05)


@settings(deadline=None)
@given(VALUES, st.integers(0, 5))
def test_bootstrap_lies_within_the_values_and_repeats(values, seed):
    low, high = bootstrap_interval(values, 50, seed)
    slack = 1e-9 * (1 + max(map(abs, values)))
    assert min(values) - slack <= low <= high <= max(values) + slack
    assert bootstrap_interval(values, 50, seed) == (low, high)


def test_bootstrap_in_blocks_equals_bootstrap_at_once(monkeypatch):
    values = np.arange(30.0)
    at_once = bootstrap_interval(values, 100, 3)
    monkeypatch.setattr("llmm.statistics._BLOCK", 70)
    assert bootstrap_interval(values, 100, 3) == at_once


def test_a_constant_has_no_width():
    assert bootstrap_interval([0.5] * 7, 100, 0) == (0.5, 0.5)
    assert bootstrap_interval([3.0], 100, 0) == (3.0, 3.0)


def test_pairing_removes_the_difficulty_of_the_items():
    generator = np.random.default_rng(2)
    difficulty = generator.normal(0, 10, 200)
    better = difficulty + 0.5 + generator.normal(0, 0.1, 200)
    result = paired_bootstrap(better, difficulty, 500, 0)
    assert 0 < result["low"] < result["difference"] < result["high"]
    assert result["difference"] == pytest.approx(0.5, abs=0.05)
    assert bootstrap_interval(better, 500, 0)[0] < difficulty.mean()  # without pairs it cannot be told


@settings(deadline=None)
@given(VALUES)
def test_a_system_does_not_differ_from_itself(values):
    assert paired_bootstrap(values, values, 20, 0) == {"difference": 0.0, "low": 0.0, "high": 0.0}


@pytest.mark.parametrize("values", [[], [float("nan")], [1.0, float("inf")], [[1.0, 2.0]]])
def test_nothing_to_resample_is_refused(values):
    with pytest.raises(ValueError, match="values"):
        bootstrap_interval(values, 10, 0)


def test_pairs_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="a has 2 values and b 1"):
        paired_bootstrap([1, 2], [1], 10, 0)


def test_wilson_agrees_with_published_values():
    # Brown, Cai and DasGupta (2001) and every calculator: 8 of 10, 0 of 10, 95%
    assert wilson_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson_interval(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)


@given(st.integers(0, 300), st.integers(0, 300))
def test_wilson_holds_the_rate_and_mirrors(successes, failures):
    n = successes + failures
    low, high = wilson_interval(successes, n)
    assert 0 <= low <= high <= 1
    if n:
        assert low <= successes / n <= high
    mirrored = wilson_interval(failures, n)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_wilson_covers():
    generator = np.random.default_rng(4)
    hits = [
        low <= 0.9 <= high for low, high in (wilson_interval(int(k), 50) for k in generator.binomial(50, 0.9, 2000))
    ]
    assert 0.92 <= np.mean(hits) <= 0.99


@pytest.mark.parametrize(("successes", "n"), [(-1, 3), (4, 3)])
def test_wilson_refuses_impossible_counts(successes, n):
    with pytest.raises(ValueError, match="successes"):
        wilson_interval(successes, n)
