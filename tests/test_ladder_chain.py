"""The chain of reports in a real DVC project: nothing that was touched afterwards shows as passed."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT
from toy_ladder import edit, ladder, llmm, python, toy_project

from llmm.ladder.chain import standings

REPRO = ("-m", "dvc", "repro", "-q", "llmm/ladder/dvc.yaml")
REPORT_1, REPORT_2 = Path("data/ladder/reports/t01.json"), Path("data/ladder/reports/t02.json")


@pytest.fixture(scope="module")
def passed(tmp_path_factory):
    """The toy project after `dvc repro llmm/ladder/dvc.yaml`."""
    folder = toy_project(tmp_path_factory.mktemp("ladder"))
    shutil.copy2(ROOT / "llmm/ladder/dvc.yaml", folder / "llmm/ladder/dvc.yaml")
    shutil.copytree(ROOT / ".dvc", folder / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    done = python(folder, *REPRO)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def project(passed, tmp_path, monkeypatch):
    """A copy of it to damage."""
    folder = tmp_path / "project"
    shutil.copytree(passed, folder, symlinks=True)
    monkeypatch.chdir(folder)
    return folder


def states() -> list[str]:
    return [standing.state for standing in standings()]


def reason() -> str:
    return next(standing.reason for standing in standings() if standing.state != "passed")


def test_after_a_run_all_that_is_built_is_passed(project):
    assert states() == ["passed", "passed", "not built"]
    met = [(standing.met, standing.total) for standing in standings()]
    assert met == [(11, 11), (11, 11), (0, 0)]


def test_reports_have_no_time_in_them_and_hold_on_to_the_one_before(project):
    first, second = REPORT_1.read_bytes(), REPORT_2.read_bytes()
    assert json.loads(second)["predecessor_sha256"]
    for id_ in ("t01", "t02"):
        assert ladder(project, "check", id_).returncode == 0
    assert (REPORT_1.read_bytes(), REPORT_2.read_bytes()) == (first, second)


def test_two_runs_of_the_experiments_give_the_same_bytes(project):
    record = Path("data/ladder/t01.json")
    before = record.read_bytes()
    assert ladder(project, "experiments", "t01").returncode == 0
    assert record.read_bytes() == before
    provenance = json.loads(Path("data/timings/ladder_t01.json").read_text())
    assert {"git_revision", "requirements_lock_sha256", "seconds"} <= provenance.keys()
    assert provenance["experiments"]["draws"]["ratio"] == 1.5


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        (
            "toys/averages/milestone.yaml",
            "threshold: 1.0e-12",
            "threshold: 1.0e-2",
            "criterion mean is <= 0.01 now, was <= 1e-12",
        ),
        ("toys/averages/milestone.yaml", 'op: "=="', 'op: "<="', "criterion refuses-nothing is"),
        ("toys/averages/averages.py", "** 2", "* (value - centre)", "toys/averages/averages.py has changed"),
        ("toys/averages/checks.py", "14 / 3", "28 / 6", "toys/averages/checks.py has changed"),
        ("toys/averages/mutants.yaml", "by: variance", "by: mean", "toys/averages/mutants.yaml has changed"),
        ("tests/test_averages.py", "== 2.0", "> 0", "tests/test_averages.py has changed"),
        ("data/ladder/t01.json", "0.500033", "0.600033", "data/ladder/t01.json has changed"),
        ("visualizations/t01_averages/draws.svg", "svg", "SVG", "draws.svg has changed"),
        ("toys/averages/README.md", "two functions", "a few functions", "toys/averages/README.md has changed"),
        ("papers_notes/0000.00001_averages.md", "Why squares", "But why", "0000.00001_averages.md has changed"),
        ("learning_journal.md", "a great many to me", "very many", "learning_journal.md#M1 Averages has changed"),
        ("llmm/ladder/spec.py", "NaN", "nan", "llmm/ladder/spec.py has changed"),
        ("requirements.lock", "numpy", "numpie", "requirements.lock is not the one"),
        (str(REPORT_1), '"passed": true', '"passed": false', "edited by hand"),
        (str(REPORT_1), '"expected": "<= 1e-12"', '"expected": "<= 1e-2"', "edited by hand"),
        (str(REPORT_1), "{", "[", "no readable JSON"),
    ],
)
def test_what_is_touched_is_stale_and_locks_what_stands_on_it(project, file, old, new, told):
    edit(project / file, old, new)
    assert states() == ["stale", "locked", "not built"]
    assert told in reason()


def test_a_module_that_a_milestone_imports_counts_as_its_own(project):
    edit(project / "toys/totals/checks.py", "from toys.totals", "import toys.extra\nfrom toys.totals")
    (project / "toys/extra.py").write_text("x = 1\n")
    assert ladder(project, "experiments", "t02").returncode == 0
    assert ladder(project, "check", "t02").returncode == 0
    assert states()[1] == "passed"
    (project / "toys/extra.py").write_text("x = 2\n")
    assert reason() == "toys/extra.py has changed since the check"


def test_another_milestones_words_and_what_shapes_no_result_change_nothing(project):
    edit(project / "learning_journal.md", "My bet for", "My guess for")
    edit(project / "llmm/paths.py", "Where everything", "The place where everything")
    (project / "toys/averages/notes.txt").write_text("nothing")
    assert states() == ["passed", "stale", "not built"]


def test_a_report_taken_from_another_state_is_stale(project):
    """t01 is checked anew after a change of words; t02's report still speaks of the old one."""
    edit(project / "learning_journal.md", "a great many to me", "a large number to me")
    assert ladder(project, "check", "t01").returncode == 0
    assert states() == ["passed", "stale", "not built"]
    assert reason() == "the report of t01 is not the one that this check stood on"


def test_a_report_that_is_gone_is_not_checked(project):
    REPORT_1.unlink()
    assert states() == ["not checked", "locked", "not built"]


def test_dvc_redoes_what_depends_on_a_change_and_nothing_else(project):
    def ran() -> list[str]:
        lines = python(project, "-m", "dvc", "repro", "llmm/ladder/dvc.yaml").stdout.splitlines()
        return [line.partition("dvc.yaml:")[2].rstrip("':") for line in lines if line.startswith("Running stage")]

    assert ran() == ["inputs"]
    edit(project / "learning_journal.md", "My bet for", "My guess for")
    assert ran() == ["inputs", "check@t02"]
    edit(project / "toys/averages/README.md", "two functions", "a few functions")
    assert ran() == ["inputs", "check@t01", "check@t02"]  # no experiment: a README decides none
    assert states() == ["passed", "passed", "not built"]


def test_dvc_stops_at_a_failing_check_and_the_board_says_at_which_criterion(project):
    edit(project / "toys/averages/checks.py", "14 / 3", "5.0")
    done = python(project, "-m", "dvc", "repro", "llmm/ladder/dvc.yaml")
    assert done.returncode != 0
    assert "check@t01: 1 of 11 criteria do not hold: variance: 0.333, must be <= 1e-12" in done.stderr
    assert states() == ["failing", "locked", "not built"]
    assert reason() == "variance: 0.333, must be <= 1e-12"
    board = llmm(project, "status").stdout
    assert "variance: 0.333" in board
    refused = llmm(project, "next")
    assert refused.returncode == 1
    assert "t01 is failing: variance: 0.333" in refused.stderr
    assert "Average the squared distances." in refused.stderr
    # out of order: the second check alone, behind a first one that fails
    alone = python(project, "-m", "dvc", "repro", "-f", "-s", "llmm/ladder/dvc.yaml:check@t02")
    assert alone.returncode != 0
    assert "t02 is locked: t01 is failing (variance: 0.333, must be <= 1e-12)" in alone.stderr


def test_a_check_out_of_order_is_refused_behind_a_stale_one(project):
    edit(project / "toys/averages/milestone.yaml", "threshold: 1.0e-12", "threshold: 1.0e-2")
    alone = python(project, "-m", "dvc", "repro", "-f", "-s", "llmm/ladder/dvc.yaml:check@t02")
    assert alone.returncode != 0
    assert (
        "t02 is locked: t01 is stale (criterion mean is <= 0.01 now, was <= 1e-12 when it was checked)" in alone.stderr
    )
    assert states()[1] == "locked"


def test_the_board_as_a_program_reads_it(project):
    board = json.loads(llmm(project, "status", "--json").stdout)
    first = board["milestones"][0]
    assert (first["id"], first["state"], first["criteria_met"], first["criteria"]) == ("t01", "passed", 11, 11)
    assert board["artifacts"][0]["kind"] == "corpus"


def test_next_says_when_everything_built_is_passed(project):
    assert llmm(project, "next").stdout == "Everything that is built is passed. M3 Medians has no exit criteria yet.\n"


def test_wrong_usage_has_exit_code_2(project):
    done = ladder(project, "chekc", "t01")
    assert (done.returncode, done.stderr.partition(":")[0]) == (2, "usage")
