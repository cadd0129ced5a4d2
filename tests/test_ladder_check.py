"""What the ladder asks of every milestone beside its own criteria, on a toy that lacks one thing at a time."""

import shutil
from dataclasses import replace

import pytest
from toy_ladder import PLANTED, edit, ladder, planted, toy_project

from llmm.errors import UserError
from llmm.ladder import workers
from llmm.ladder.check import examine
from llmm.ladder.criteria import Subject, machine_results
from llmm.ladder.experiments import run_experiments
from llmm.ladder.machine import _difference, failing_tests, planted_bugs, replay, stored_experiments
from llmm.ladder.milestones import find_milestone
from llmm.ladder.mutants import hunt, load_mutants
from llmm.ladder.rules import record_faults
from llmm.ladder.written import paper_faults, readme_faults

MODULE, MUTANTS, README = (f"toys/averages/{name}" for name in ("averages.py", "mutants.yaml", "README.md"))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The toy project with t01's experiments run."""
    folder = toy_project(tmp_path_factory.mktemp("toys"))
    done = ladder(folder, "experiments", "t01")
    assert done.returncode == 0, done.stderr
    workers.start_server([])
    return folder


@pytest.fixture
def toys(recorded, tmp_path, monkeypatch):
    """A copy of it to damage, as the current folder and with its packages."""
    folder = tmp_path / "toys"
    shutil.copytree(recorded, folder)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    return folder


def test_a_complete_milestone_has_no_fault_and_a_second_check_remembers_the_machines_part(toys):
    first = examine(find_milestone("t01"), memo=True)
    assert first.failed == []
    assert [mutant["killed_by"] for mutant in first.mutants] == [by for *_, by in PLANTED]
    edit(toys / "learning_journal.md", "**Surprised.**", "**Astonished.**")
    second = examine(find_milestone("t01"), memo=True)
    assert [result.id for result in second.failed] == ["journal"]
    assert second.mutants == first.mutants
    edit(toys / MODULE, "return sum(values)", "return 1 + sum(values)")
    assert "mean" in [result.id for result in examine(find_milestone("t01"), memo=True).failed]


def test_a_survivor_fails_the_check(toys):
    (toys / MUTANTS).write_text(planted("harmless", "centre = mean(values)", "centre = mean(list(values))", "variance"))
    milestone = find_milestone("t01")
    (verdict,) = hunt(milestone, load_mutants(milestone))
    assert verdict.killed_by == ""
    assert verdict.fault.startswith("harmless lives: no criterion notices")
    assert planted_bugs(milestone)[0].fault.startswith("harmless lives")


def test_a_bug_must_be_caught_by_the_criterion_that_it_names(toys):
    (toys / MUTANTS).write_text(planted("cubes", "(value - centre) ** 2", "(value - centre) ** 3", "mean"))
    milestone = find_milestone("t01")
    (verdict,) = hunt(milestone, load_mutants(milestone))
    assert verdict.fault == "cubes: mean does not notice it, variance does: name that one in `by`"


def test_a_bug_that_hangs_or_eats_memory_is_caught(toys, monkeypatch):
    monkeypatch.setattr("llmm.ladder.mutants.STRICT", workers.Limits(seconds=3, mebibytes=128))
    hang = planted("hangs", "return sum(values) / len(values)", "while True: values", "mean")
    eat = planted("eats", "return sum(values) / len(values)", "return len([0.0] * (1 << 40))", "mean")
    (toys / MUTANTS).write_text(hang + eat)
    milestone = find_milestone("t01")
    assert [verdict.killed_by for verdict in hunt(milestone, load_mutants(milestone))] == ["mean", "mean"]


def test_seven_planted_bugs_are_too_few_and_a_text_that_is_gone_is_told(toys):
    milestone = find_milestone("t01")
    (toys / MUTANTS).write_text("".join(planted(*bug) for bug in PLANTED[:7]))
    assert planted_bugs(milestone)[0].fault == "7 planted bugs, expected at least 8"
    edit(toys / MODULE, "** 2", "* (value - centre)")
    told = "cubes: its `replace` stands 0 times in toys/averages/averages.py, expected once"
    assert told in planted_bugs(milestone)[0].fault


def test_a_failing_test_is_told(toys):
    edit(toys / "tests/test_averages.py", "== 2.0", "== 3.0")
    assert failing_tests(["tests/test_averages.py"])[0].startswith("FAILED tests/test_averages.py::test_mean")
    assert failing_tests(["tests/test_gone.py"]) != []


def test_a_wrong_implementation_fails_its_criterion_and_outdates_the_record(toys):
    edit(toys / MODULE, 'raise ValueError("no values")', "return None")
    milestone = find_milestone("t01")
    results = {result.id: result for result in machine_results(Subject(milestone, {}), milestone.spec.criteria)}
    assert [id_ for id_, result in results.items() if not result.passed] == ["refuses-nothing"]
    assert results["refuses-nothing"].line == "refuses-nothing: false, must be == true"
    _, faults = stored_experiments(milestone)
    assert faults == ["toys/averages/averages.py has changed since the experiments were run: run them again"]


def test_an_experiment_that_comes_out_otherwise_is_told(toys):
    edit(toys / "data/ladder/t01.json", '"first": 0.520299', '"first": 0.530299')
    milestone = find_milestone("t01")
    told = replay(milestone, stored_experiments(milestone)[0]).fault
    assert told == "draws: first came out as 0.520299, the record says 0.530299"


@pytest.mark.parametrize(
    ("now", "then", "same"), [(3e-16, 4.5e-16, True), (3e-16, 2e-9, False), (0.3, 0.300001, False)]
)
def test_what_another_processor_rounds_is_no_difference(now, then, same):
    rows = [{"changed": "nothing", "error": now}], [{"changed": "nothing", "error": then}]
    metrics = {"error": {"mean": now, "n": 3}}, {"error": {"mean": then, "n": 3}}
    found = [{"metrics": metrics[i], "ablation": rows[i]} for i in range(2)]
    assert (_difference(*found) == "") == same


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("return Record(", "return dict(", "t01 draws: UserError: returned a dict, expected a Record"),
        ("seeds=SEEDS", "seeds=[0.5]", "seeds.0"),
        ('figures / "draws.svg"', 'Path("draws.svg")', "its figure draws.svg is not a file in visualizations"),
        ("many, few =", "1 / 0\n    many, few =", "ZeroDivisionError: division by zero (experiments.py:"),
    ],
)
def test_an_experiment_that_leaves_no_good_record_is_told(toys, old, new, told):
    edit(toys / "toys/averages/experiments.py", old, new)
    with pytest.raises(UserError) as raised:
        run_experiments(find_milestone("t01"))
    assert told in str(raised.value)


GOOD = {
    "objective": "How far is it from there?",
    "setup": "Two hundred draws of it for each of three seeds.",
    "found": "It came out close to one half.",
    "metrics": {"a": [{"mean": 1.0, "sd": 0.1, "n": 3}]},
    "seeds": [0, 1, 2],
    "ablation": [{"changed": "base", "a": 1}, {"changed": "less", "a": 2}],
    "figure": MODULE,
}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, None),
        ({"seeds": [], "metrics": {"a": 1}}, None),
        ({"objective": "Far?"}, "objective says too little"),
        ({"seeds": [0, 0, 1]}, "2 seeds, expected at least 3"),
        ({"metrics": {"a": {"mean": 1.0, "sd": 0.1}}}, "no metric with mean, sd and n"),
        ({"metrics": {}, "seeds": []}, "no metrics"),
        ({"ablation": [{"changed": "base", "a": 1}]}, "needs a base row"),
        ({"ablation": [{"changed": "base"}, {"changed": "less", "a": 2}]}, 'needs "changed" and a measure'),
        ({"figure": "gone.svg"}, "gone.svg is not there"),
    ],
)
def test_a_record_that_lacks_something_is_told(toys, changed, told):
    found = record_faults(find_milestone("t01"), {"draws": GOOD | changed})
    assert found == [] if told is None else told in found[0]


def test_records_of_other_experiments_are_told(toys):
    assert "the records are those of rolls" in record_faults(find_milestone("t01"), {"rolls": GOOD})[0]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("# M1 Averages\n", "# Averages\n", "does not begin with `# M1 Averages`"),
        ("## Misconceptions", "## Mistakes", "no section `## Misconceptions`"),
        ("$$", "$", "displayed equations"),
        ("Medians are nearest", "TODO: Medians are nearest", "still says 'TODO'"),
        ("<!-- generated: kills -->", "<!-- kills -->", "no part `<!-- generated: kills -->`"),
        ("`<= 1e-12`", "`<= 1e-10`", "its generated parts are not what the spec says"),
        ("Is wrong by cubes.", "Is wrong.", "its generated parts are not what the spec says"),
        ("Medians are", "[Medians](../medians.md) are", "links ../medians.md, which is not there"),
        ("Medians are", "[0.6](../../data/ladder/t01.json#draws.means.mean) are", "[0.6] cites draws.means.mean"),
    ],
)
def test_a_readme_that_lacks_something_is_told(toys, old, new, told):
    edit(toys / README, old, new)
    assert told in readme_faults(find_milestone("t01"))[0]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("(Somebody, 1900)", "", "does not begin with"),
        ("## Doubts", "## Praise", "no section `## Doubts`"),
        ("`averages:mean`", "`averages:median`", "points to `averages:median`, which is not there"),
        ("`averages:mean`; the spread around it is `averages:variance`", "in the module that holds it", "points to no"),
        ("[0.50](", "[0.70](", "[0.70] cites draws.means.mean"),
    ],
)
def test_notes_that_lack_something_are_told(toys, old, new, told):
    edit(toys / "papers_notes/0000.00001_averages.md", old, new)
    assert told in paper_faults(find_milestone("t01"))[0]


def test_a_measured_time_is_judged_but_not_kept(toys):
    milestone = find_milestone("t01")
    noisy = milestone.spec.criteria[0].model_copy(update={"noisy": True})
    (result,) = machine_results(Subject(milestone, {}), [noisy])
    assert (result.value, result.passed) == (0.0, True)
    assert (result.stored()["value"], result.stored()["got"]) == (None, "fast enough")
    assert replace(result, passed=False).stored()["got"] == "too slow"


@pytest.mark.parametrize(
    ("noisy", "found", "passed", "measured"),
    [
        (True, [1.0, 0.0, 0.0], True, 3),
        (True, [0.0, 1.0, 0.0], True, 3),
        (True, [0.0, 1.0, 1.0], False, 3),
        (True, [0.0, 0.0], True, 2),
        (True, [1.0, 1.0], False, 2),
        (False, [1.0], False, 1),
    ],
)
def test_a_time_is_judged_by_the_median_of_three(toys, monkeypatch, noisy, found, passed, measured):
    milestone, calls = find_milestone("t01"), []

    def run(call):
        calls.append(call)
        return workers.Outcome("returned", found[len(calls) - 1])

    monkeypatch.setattr(workers, "run", run)
    monkeypatch.setattr(workers, "run_all", lambda calls: map(run, calls))
    criterion = milestone.spec.criteria[0].model_copy(update={"noisy": noisy})
    (result,) = machine_results(Subject(milestone, {}), [criterion])
    assert (result.passed, len(calls)) == (passed, measured)


def test_a_time_that_raises_is_not_taken_again(toys, monkeypatch):
    milestone, calls = find_milestone("t01"), []
    monkeypatch.setattr(
        workers, "run", lambda call: calls.append(call) or workers.Outcome("raised", fault="ValueError: no")
    )
    (result,) = machine_results(Subject(milestone, {}), [milestone.spec.criteria[0].model_copy(update={"noisy": True})])
    assert (result.passed, result.fault, len(calls)) == (False, "ValueError: no", 1)
