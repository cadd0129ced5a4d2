"""Records of experiments, and prose that cites them."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from llmm.errors import UserError
from llmm.ladder.citations import agrees, citation_faults, citations, uncited_decimals
from llmm.ladder.records import Record, metric, read_records, record_path, round_metrics, write_records

GOOD = {
    "objective": "Does it hold?",
    "setup": "Three seeds of something small.",
    "metrics": {"accuracy": {"mean": 0.97531, "sd": 0.01, "n": 3}, "steps": [4, 8], "ok": True},
    "seeds": [0, 1, 2],
    "ablation": [{"changed": "base", "a": 1.0}, {"changed": "without", "a": 0.5}],
    "figure": Path("figure.svg"),
    "found": "It reached {accuracy[mean]:.3f} in {steps[1]} steps.",
}


def test_text_is_filled_from_the_metrics_and_times_are_kept_apart():
    stored = Record(**GOOD, timings={"ratio": 3.25}).stored()
    assert stored["found"] == "It reached 0.975 in 8 steps."
    assert stored["figure"] == "figure.svg"
    assert "timings" not in stored


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"found": "It reached 0.975."}, "writes the number 0.975 out"),
        ({"negative": "Not below 1e-5."}, "writes the number 1e-5 out"),
        ({"found": "It reached {acuracy[mean]:.3f}."}, "acuracy"),
        ({"metrics": {"loss": float("nan")}}, "loss is nan"),
        ({"metrics": {"loss": {"last": float("inf")}}}, "loss.last is inf"),
        ({"metrics": {"loss": np.float32(1.0)}}, "loss is a float32: use round_metrics"),
        ({"metrics": {1: 2.0}}, "keys are strings|valid string"),
        ({"seeds": "0, 1"}, "valid list"),
        ({"timings": {"seconds": {"ours": 1.0}}}, "time of the whole experiment"),
        ({"outcome": "?"}, "Extra inputs"),
    ],
)
def test_a_faulty_record_is_refused(changed, told):
    with pytest.raises(ValidationError) as raised:
        Record(**(GOOD | changed))
    assert re.search(told, raised.value.errors()[0]["msg"])


def test_rounding_makes_plain_numbers():
    rounded = round_metrics({"a": np.float64(1 / 3), "b": np.array([1.23456789]), "c": (2, True), "d": {"e": 1e-9 / 3}})
    assert rounded == {"a": 0.333333, "b": [1.23457], "c": [2, True], "d": {"e": 3.33333e-10}}
    assert json.loads(json.dumps(rounded)) == rounded


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_records("t01", {"a.py": "0"}, {"draws": Record(**GOOD)})
    return read_records("t01")["experiments"]


def test_a_metric_is_found_by_its_path(recorded):
    assert metric(recorded, "draws.accuracy.mean") == 0.97531
    assert metric(recorded, "draws.steps.1") == 8
    for path, told in (
        ("draw.accuracy", "no experiment draw"),
        ("draws.acc", "no acc in draws.acc: the record has accuracy, steps, ok"),
        ("draws.steps.2", "no 2 in draws.steps.2"),
        ("draws.ok.x", "a bool"),
    ):
        with pytest.raises(UserError, match=told):
            metric(recorded, path)


def test_records_come_out_in_the_same_bytes(recorded):
    before = record_path("t01").read_bytes()
    write_records("t01", {"a.py": "0"}, {"draws": Record(**GOOD)})
    assert record_path("t01").read_bytes() == before


@pytest.mark.parametrize(
    ("printed", "value", "right"),
    [
        ("0.975", 0.97531, True),
        ("0.976", 0.97531, False),
        ("97.5%", 0.97531, True),
        ("97.6 %", 0.97531, False),
        ("1,024", 1024, True),
        ("2.3e-11", 2.26e-11, True),
        ("2.2e-11", 2.26e-11, False),
        ("−0.5", -0.52, True),
        ("0.5", -0.52, False),
        ("0", 0.3, False),
        ("0.0", 0.0, True),
        ("28", 28.1, True),
        ("about 28", 28.1, False),
        ("yes", True, False),
        ("true", True, True),
        ("1", True, False),
    ],
)
def test_a_printed_number_agrees_to_the_digits_that_are_printed(printed, value, right):
    assert agrees(printed, value) is right


@given(st.floats(1e-6, 1e6), st.integers(3, 6))
def test_what_python_prints_agrees(value, digits):
    assert agrees(f"{value:.{digits}e}", value)
    assert not agrees(f"{value * 1.2:.{digits}e}", value)


def test_citations_are_checked_where_they_stand(recorded):
    good = "[0.975](data/ladder/t01.json#draws.accuracy.mean) and [8](../data/ladder/t01.json#draws.steps.1)"
    assert [citation.printed for citation in citations(good)] == ["0.975", "8"]
    assert list(citation_faults(good)) == []
    wrong = "[0.985](data/ladder/t01.json#draws.accuracy.mean), [1](data/ladder/t01.json#draws.gone), "
    wrong += "[1](data/ladder/t09.json#draws.gone)"
    first, second, third = citation_faults(wrong)
    assert first == "[0.985] cites draws.accuracy.mean, which is 0.97531"
    assert "no gone in draws.gone" in second
    assert "t09.json is not there" in third


def test_decimals_outside_of_links_are_seen():
    text = "[0.975](data/ladder/t01.json#a.b) beside 0.5, 1e-5 and 2.5x; but 3 of 4, v1.2.3 and M2 are none."
    assert uncited_decimals(text) == ["0.5", "1e-5", "2.5"]
