"""Specs, lists and planted bugs: every fault in them is one line that names the file and what is wrong."""

from textwrap import dedent

import pytest
from toy_ladder import LIST, PLANTED, SPEC, edit, planted, write

from llmm.errors import UserError
from llmm.ladder.milestones import find_milestone, load_milestones
from llmm.ladder.mutants import load_mutants, mutated
from llmm.ladder.spec import Criterion, load_spec

VALID = dedent(SPEC).replace("NAME", "averages").replace("ID", "t01").replace("TITLE", "Averages")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("check: mean_error", "chek: mean_error", "criteria.0.chek"),
        ("check: mean_error", "noisy: true", "either `check` or `record`"),
        ("id: mean\n", "id: The Mean\n", "lower-case words"),
        ("id: mean\n", "id: variance\n", "variance stands there twice"),
        ('op: "<="', 'op: "=<"', "criteria.0.op"),
        ("op: in", 'op: "<="', "[low, high]"),
        ('why: "All else is built on the mean."', 'why: "Yes."', "at least three words"),
        ("record: draws.means.mean", "record: drws.means.mean", "no experiment drws"),
        ("replay: [draws]", "replay: [other]", "other is none of draws"),
        ("averages: [mean, variance]", "avrages: [mean]", "avrages is none of averages"),
        ("modules: [averages]", "modules: averages", "modules"),
        ("criteria:", "criteria: [", "no readable YAML"),
    ],
)
def test_a_faulty_spec_is_refused_in_one_line(tmp_path, old, new, told):
    assert old in VALID
    (tmp_path / "milestone.yaml").write_text(VALID.replace(old, new, 1))
    with pytest.raises(UserError) as raised:
        load_spec(tmp_path)
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)
    assert str(tmp_path / "milestone.yaml") in str(raised.value)


@pytest.mark.parametrize(
    ("op", "threshold", "held", "broken"),
    [
        ("<=", 1.0, [1.0, -3], [1.1, float("nan"), "0"]),
        (">=", 2, [2, 3.5], [1.9, float("nan")]),
        ("<", 1, [0.99], [1]),
        (">", 1, [1.01], [1]),
        ("==", True, [True], [False, 1, 1.0]),
        ("==", 3, [3], [4, True]),
        ("in", [0.5, 2.0], [0.5, 1, 2.0], [0.49, 2.01, float("nan")]),
    ],
)
def test_thresholds_include_their_ends_and_nan_meets_none(op, threshold, held, broken):
    words = {"what": "what is measured", "why": "why it matters", "hint": "what may help"}
    criterion = Criterion(id="a", check="f", op=op, threshold=threshold, **words)
    assert all(map(criterion.holds, held))
    assert not any(map(criterion.holds, [*broken, None, [1.0]]))


@pytest.fixture
def listed(tmp_path, monkeypatch):
    """A folder with the list of the toys, and t01's spec, modules and planted bugs."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "llmm/ladder/milestones.yaml", LIST)
    write(tmp_path / "toys/averages/milestone.yaml", VALID)
    write(tmp_path / "toys/averages/averages.py", "def mean(values):\n    return sum(values) / len(values)\n")
    write(tmp_path / "toys/averages/mutants.yaml", planted(*PLANTED[0]))
    return tmp_path


def test_milestones_stand_in_their_order_and_know_what_is_below_them(listed):
    first, second, third = load_milestones()
    assert (first.is_built, second.is_built, third.is_built) == (True, False, False)
    assert first.before is None
    assert third.earlier == [second, first]
    assert second.label == "M2 Totals"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("reports/t01.json", "reports/t03.json", "ladder.t02.prev"),
        ("t02_totals", "t02_sums", "ladder.t02.figures"),
        ("    phase: Toys\n", "", "ladder.t01 must have exactly"),
    ],
)
def test_a_faulty_list_is_refused(listed, old, new, told):
    edit(listed / "llmm/ladder/milestones.yaml", old, new)
    with pytest.raises(UserError, match=told):
        load_milestones()


def test_a_milestone_that_is_not_there_or_not_built_is_told(listed):
    with pytest.raises(UserError, match="no milestone t09: expected one of t01, t02, t03"):
        find_milestone("t09")
    with pytest.raises(UserError, match="t03 \\(Medians\\) is not built yet"):
        _ = find_milestone("t03").spec


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("replace", '"sum(values)  /  len(values)"', "stands 0 times"),
        ("replace", '"values"', "stands 3 times"),
        ("with", '"sum(values) / len(values)"', "changes nothing"),
        ("with", '"sum(values /"', "no Python any more"),
        ("module", "medians", "none of the modules"),
        ("by", "draws-near-one-half", "no criterion with a steady `check`"),
        ("extra", "1", "extra"),
    ],
)
def test_a_planted_bug_that_does_not_fit_its_module_is_told(listed, field, value, told):
    names = ("id", "bug", "module", "replace", "with", "by")
    good = dict(zip(names, ("a", "b", "averages", '"sum(values) / len(values)"', '"0"', "mean"), strict=True))
    lines = [f"{key}: {text}" for key, text in (good | {field: value}).items()]
    (listed / "toys/averages/mutants.yaml").write_text("- " + "\n  ".join(lines) + "\n")
    with pytest.raises(UserError, match=told):
        load_mutants(find_milestone("t01"))


def test_a_planted_bug_changes_one_place_only(listed):
    milestone = find_milestone("t01")
    overlay = mutated(milestone, load_mutants(milestone)[0])
    assert overlay["toys.averages.averages"].text == "def mean(values):\n    return sum(values) / (len(values) + 1)\n"
