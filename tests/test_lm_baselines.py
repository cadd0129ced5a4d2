"""Baselines: the n-gram is a distribution and equals its definition, bits per byte count bytes of text."""

import random
from collections import Counter
from math import exp, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmm.training.pretraining.baselines import (
    compression_bits_per_byte,
    ngram_bits_per_byte,
    xz_after_training_bits_per_byte,
)
from llmm.training.tokenizer.ngram import witten_bell_nats

VOCABULARY = 4
TEXTS = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=40)


def plain_witten_bell(train: list[int], history: list[int], token: int) -> float:
    """p(token | history) by the definition, one order after the other."""
    probability = 1 / VOCABULARY
    for length in range(len(history) + 1):
        context = history[len(history) - length :]
        continuations = Counter(train[end] for end in range(length, len(train)) if train[end - length : end] == context)
        total, kinds = continuations.total(), len(continuations)
        if total:
            probability = (continuations[token] + kinds * probability) / (total + kinds)
    return probability


@settings(max_examples=150, deadline=None)
@given(TEXTS, TEXTS, st.integers(1, 5))
def test_equals_the_definition(train: list[int], evaluated: list[int], order: int) -> None:
    nats = witten_bell_nats(np.array(train, np.uint16), np.array(evaluated, np.uint16), VOCABULARY, order)
    expected = [
        -log(plain_witten_bell(train, evaluated[max(0, i - order + 1) : i], token)) for i, token in enumerate(evaluated)
    ]
    assert nats == pytest.approx(expected, rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(TEXTS, TEXTS)
def test_probabilities_sum_to_one(train: list[int], history: list[int]) -> None:
    """Every continuation of any history, seen or not."""
    total = sum(
        exp(-witten_bell_nats(np.array(train), np.array([*history, token]), VOCABULARY)[-1])
        for token in range(VOCABULARY)
    )
    assert total == pytest.approx(1, abs=1e-12)


def test_large_vocabularies_do_not_overflow() -> None:
    generator = np.random.default_rng(0)
    train = generator.integers(0, 2**31, 2000)
    nats = witten_bell_nats(train, train, 2**31)
    assert np.isfinite(nats).all()
    assert nats[10:].max() < log(4), "five tokens in a row are known by heart"


def test_separators_are_contexts_but_cost_nothing() -> None:
    train, evaluated = np.array([0, 1, 2, 0, 1, 3] * 20), np.array([0, 1, 2])
    nats = witten_bell_nats(train, evaluated, 4)
    assert ngram_bits_per_byte(train, evaluated, 7, 4) == pytest.approx((nats[1] + nats[2]) / log(2) / 7)
    assert nats[1] < witten_bell_nats(train, np.array([2, 1, 2]), 4)[1], "what follows a separator is known from it"


def test_order_helps_where_there_is_order() -> None:
    train = np.array([1, 2, 3, 1, 3, 2] * 200)
    figures = [ngram_bits_per_byte(train, train[:600], 600, 4, order) for order in (1, 2, 3)]
    assert figures == sorted(figures, reverse=True)
    assert figures[2] < 0.05 < 1 < figures[0]


def test_compression() -> None:
    noise = random.Random(0).randbytes(20_000)
    alone = compression_bits_per_byte(noise)
    assert set(alone) == {"gzip", "xz"}
    assert all(8 < value < 8.1 for value in alone.values())
    assert xz_after_training_bits_per_byte(noise, noise) < 0.2, "what was read before costs next to nothing"
    assert all(value < 0.1 for value in compression_bits_per_byte(b"a" * 20_000).values())
