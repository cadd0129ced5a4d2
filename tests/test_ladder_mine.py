"""A learner's own implementation: stubs without a solution, the same criteria, progress of its own."""

import ast
import json

import pytest
from toy_ladder import MODULE, edit, llmm, python, toy_project, write

from llmm.errors import UserError
from llmm.ladder import workers
from llmm.ladder.milestones import find_milestone
from llmm.ladder.mine import check_mine, my_standings
from llmm.ladder.stubs import begin

RIGHT = MODULE
FILES = ("averages.py", "journal.md")


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    """The toy project; what a learner does changes nothing in it."""
    workers.start_server([])
    return toy_project(tmp_path_factory.mktemp("toys"))


@pytest.fixture
def learner(toys, tmp_path, monkeypatch):
    """A learner's empty folder, beside the project that is the current folder."""
    monkeypatch.chdir(toys)
    monkeypatch.syspath_prepend(str(toys))
    monkeypatch.setattr("llmm.ladder.criteria.STRICT", workers.Limits(seconds=5, mebibytes=256))
    return tmp_path / "mine"


def attempt(learner, source: str, id_: str = "t01", name: str = "averages") -> dict[str, str]:
    """criterion -> what came out, for a learner's module."""
    write(learner / f"{id_}_{name}" / "averages.py", source)
    return {result.id: result.got for result in check_mine(find_milestone(id_), learner)}


def test_stubs_say_what_and_not_how(learner):
    written = begin(find_milestone("t01"), learner)
    assert [path.relative_to(learner / "t01_averages").as_posix() for path in written] == list(FILES)
    text = written[0].read_text()
    for kept in (
        '"""The mean and the variance of a list of numbers."""',
        "from dataclasses import dataclass\n\nROUNDS = 3\n\n\n@dataclass(frozen=True)",
        "    variance: float\n\n    def spread(self) -> float:\n",
        'where there is no value."""\n    raise NotImplementedError("mean is not written yet")\n',
    ):
        assert kept in text
    for gone in ("sum(", "helper_of_the_reference", "SECRET", "_root", "centre", "return"):
        assert gone not in text
    ast.parse(text)
    assert "**Predicted.**" in written[1].read_text()


def test_stubs_import_and_fail_every_criterion_with_a_clear_line(learner):
    begin(find_milestone("t01"), learner)
    results = check_mine(find_milestone("t01"), learner)
    assert [result.id for result in results] == ["mean", "variance", "refuses-nothing"]  # no record is a learner's
    for result in results:
        assert not result.passed
        assert "is not written yet (averages.py:" in result.got


def test_what_a_learner_wrote_is_never_overwritten(learner):
    (path, _) = begin(find_milestone("t01"), learner)
    path.write_text("mine")
    with pytest.raises(UserError, match="is there already"):
        begin(find_milestone("t01"), learner)
    assert path.read_text() == "mine"


def test_a_right_implementation_passes_and_the_next_milestone_opens(learner):
    assert [standing.state for standing in my_standings(learner)] == ["not checked", "locked", "not built"]
    assert attempt(learner, RIGHT) == {"mean": "0", "variance": "0", "refuses-nothing": "true"}
    first, second, _ = my_standings(learner)
    assert (first.state, first.met, first.total) == ("passed", 3, 3)
    assert (second.state, second.reason) == ("not checked", f"`llmm begin t02 --into {learner}`")


def test_progress_is_the_learners_alone_and_outdated_by_an_edit(learner, toys):
    attempt(learner, RIGHT)
    assert not (toys / "data/ladder/reports").exists()
    assert list(json.loads((learner / "progress.json").read_text())) == ["t01"]
    edit(learner / "t01_averages/averages.py", "ROUNDS = 3", "ROUNDS = 4")
    first, second, _ = my_standings(learner)
    assert (first.state, first.reason) == ("stale", "your files have changed since the check")
    assert second.state == "locked"


def test_a_milestone_that_passes_stays_locked_behind_one_that_does_not(learner):
    assert attempt(learner, RIGHT, "t02", "totals")["mean"] == "0"
    assert [standing.state for standing in my_standings(learner)] == ["not checked", "locked", "not built"]


def test_files_of_ones_own_may_be_imported(learner):
    write(learner / "t01_averages/adding.py", "def add(values):\n    return sum(values)\n")
    source = RIGHT.replace("return sum(values)", "return add(values)")
    assert attempt(learner, source.replace("ROUNDS", "from adding import add; ROUNDS"))["mean"] == "0"


BODY = "return sum(values) / len(values)"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return sum(values)", "6"),
        ("return float('nan')", "nan"),
        ("return float('inf')", "inf"),
        ("return [sum(values) / len(values)]", "mean is a list, expected a number (checks.py:8, in mean_error)"),
        ("return None", "mean is None, expected a number (checks.py:8, in mean_error)"),
        (
            "import numpy\n        return numpy.zeros((1, 2))",
            "mean is a ndarray of shape (1, 2), expected a number (checks.py:8, in mean_error)",
        ),
        ("return undefined", "NameError: name 'undefined' is not defined (averages.py:28, in mean)"),
        ("while True: pass", "still running after 5 s: an endless loop?"),
        ("values = [0.0] * (1 << 40)", "needs more than the 256 MiB that it may take (averages.py:28, in mean)"),
        ("import os; os._exit(3)", "its process ended without an answer (exit code 3)"),
    ],
)
def test_a_wrong_implementation_is_told_in_one_line(learner, body, told):
    assert BODY in RIGHT
    assert attempt(learner, RIGHT.replace(BODY, body))["mean"] == told
    assert my_standings(learner)[0].state == "failing"


def test_a_file_that_is_no_python_or_not_there_is_told(learner):
    with pytest.raises(UserError, match="`llmm begin t01 --into"):
        check_mine(find_milestone("t01"), learner)
    with pytest.raises(UserError, match=r"averages.py:1: invalid syntax"):
        attempt(learner, "def mean(:\n")


def test_the_commands(toys, tmp_path):
    """From begin to passed, as a learner types it."""
    mine = str(tmp_path / "mine")
    assert llmm(toys, "begin", "t01", "--into", mine).stdout.splitlines() == [
        f"{mine}/t01_averages/{file}" for file in FILES
    ]
    plan = llmm(toys, "next", "--mine", mine)
    assert plan.returncode == 0
    assert f"llmm check t01 --mine {mine} --watch" in plan.stdout
    failed = llmm(toys, "check", "t01", "--mine", mine, "--json")
    assert failed.returncode == 1
    first = json.loads(failed.stdout)["criteria"][0]
    assert first["hint"] == "Divide the sum by the number of values."
    assert first["got"].startswith("NotImplementedError: mean is not written yet")
    refused = llmm(toys, "next", "--mine", mine)
    assert (refused.returncode, "first mend" in refused.stderr.lower()) == (1, True)
    write(tmp_path / "mine/t01_averages/averages.py", RIGHT + '\n\n    print("a print of mine")\n')
    passed = llmm(toys, "check", "t01", "--mine", mine, "--json")
    assert passed.returncode == 0
    assert json.loads(passed.stdout)["passed"] is True
    shown = llmm(toys, "status", "--mine", mine).stdout
    assert "1 of 3 milestones passed" in shown
    assert "t02" in llmm(toys, "next", "--mine", mine).stdout


def test_watching_checks_again_at_a_change(toys, tmp_path):
    code = (
        "import sys, threading, time\n"
        "from pathlib import Path\n"
        "from llmm.ladder import commands, stubs\n"
        "from llmm.ladder.milestones import find_milestone\n"
        "mine = Path(sys.argv[1])\n"
        "file, _ = stubs.begin(find_milestone('t01'), mine)\n"
        "met = []\n"
        "def show(checked):\n"
        "    met.append(sum(result.passed for result in checked.results))\n"
        "    if len(met) == 2:\n"
        "        raise KeyboardInterrupt\n"
        "    threading.Timer(0.5, lambda: file.write_text(Path(sys.argv[2]).read_text())).start()\n"
        "try:\n"
        "    commands.watch('t01', mine, show)\n"
        "except KeyboardInterrupt:\n"
        "    print(met)\n"
    )
    done = python(toys, "-c", code, str(tmp_path / "mine"), "toys/averages/averages.py")
    assert done.stdout.splitlines()[-1] == "[0, 3]", done.stderr
