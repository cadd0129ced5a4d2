"""The evaluation gate: noise passes, a real loss does not, and what cannot be compared is an error."""

import copy
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agents.capstone.gate import Figure, Spec, compare, load_spec, reader, run_gate
from agents.capstone.results import FolderResults, at, open_results, parse_rows
from llmm import cli
from llmm.errors import UserError
from llmm.evaluation import Row
from llmm.files import read_json, write_json
from llmm.statistics import bootstrap_interval, wilson_interval

TASKS = 200
SAME = ["tasks.n"]
SPEC = Spec(
    level=0.05,
    bootstrap_samples=2000,
    seed=0,
    identity={"eval": ["task"]},
    figures=[
        Figure(name="exact", file="eval", metric="tasks.exact.rate", better="higher", tolerance=0.0, same=SAME,
               suite="tasks", item="exact"),
        Figure(name="errors", file="eval", metric="tasks.errors.rate", better="lower", tolerance=0.0, same=SAME,
               suite="tasks", item="not answer"),
        Figure(name="overlap", file="eval", metric="tasks.f1", better="higher", tolerance=0.0, same=SAME,
               suite="tasks", item="f1.ours"),
        Figure(name="bits", file="lm", metric="test.bits", better="lower", tolerance=0.02, same=["test.bytes"]),
    ],
)  # fmt: skip


def rate(values: list[bool]) -> dict[str, float]:
    low, high = wilson_interval(sum(values), len(values))
    return {"rate": round(sum(values) / len(values), 4), "low": round(low, 4), "high": round(high, 4)}


def measured(rows: list[Row], bits: float = 1.0) -> dict[str, Any]:
    """The metrics of some rows, as an evaluation writes them."""
    f1 = [row["f1"]["ours"] for row in rows]
    low, high = bootstrap_interval(f1, 500, 0)
    tasks = {
        "n": len(rows),
        "exact": rate([row["exact"] for row in rows]),
        "errors": rate([not row["answer"] for row in rows]),
        "f1": round(sum(f1) / len(f1), 4),
        "f1_low": round(low, 4),
        "f1_high": round(high, 4),
    }
    return {"eval": {"tasks": tasks}, "lm": {"test": {"bits": bits, "bytes": 1000}}}


def drawn(seed: int, rates: list[float] | None = None) -> list[Row]:
    """Outcomes of one system on the tasks: each has a chance of its own to be done right."""
    rng = random.Random(seed)
    chances = rates or [random.Random(f"task {i}").betavariate(2, 1) for i in range(TASKS)]
    return [
        {
            "id": f"tasks-{i:03d}", "suite": "tasks", "task": f"task {i}",
            "exact": rng.random() < chance, "answer": rng.random() < chance,
            "f1": {"ours": round(min(1.0, max(0.0, rng.gauss(chance, 0.2))), 6)},
        }
        for i, chance in enumerate(chances)
    ]  # fmt: skip


def write(folder: Path, rows: list[Row] | None, metrics: dict[str, Any]) -> Path:
    for name, figures in metrics.items():
        write_json(folder / "metrics" / f"{name}.json", figures)
    shutil.rmtree(folder / "evaluations", ignore_errors=True)
    if rows is not None:
        (folder / "evaluations").mkdir(parents=True)
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "evaluations" / "eval.jsonl").write_text(text, encoding="utf-8")
    return folder


def state(folder: Path, rows: list[Row], bits: float = 1.0) -> FolderResults:
    return FolderResults(write(folder, rows, measured(rows, bits)))


def flipped(rows: list[Row], count: int, key: str = "exact") -> list[Row]:
    """A copy in which `count` of the items that were right are wrong."""
    rows = copy.deepcopy(rows)
    right = [row for row in rows if row[key]]
    for row in random.Random(0).sample(right, count):
        row[key] = False
    return rows


def statuses(report: Any) -> dict[str, str]:
    return {verdict.name: verdict.status for verdict in report.verdicts}


def test_identical_results_pass(tmp_path: Path) -> None:
    rows = drawn(0)
    report = compare(state(tmp_path / "a", rows), state(tmp_path / "b", rows), SPEC)
    assert set(statuses(report).values()) == {"same"} and not report.regressed
    assert report.level == SPEC.level / 4


@pytest.mark.parametrize("key, figure", [("exact", "exact"), ("answer", "errors")])
def test_a_loss_of_five_in_a_hundred_items_is_caught(tmp_path: Path, key: str, figure: str) -> None:
    """Ten of two hundred items that were right are wrong and none the other way: p is 2^-10, below 0.05 / 4."""
    rows = drawn(0)
    worse = flipped(rows, 10, key)
    report = compare(state(tmp_path / "a", rows), state(tmp_path / "b", worse), SPEC)
    assert [verdict.name for verdict in report.regressed] == [figure]
    assert "10 of 200 items lost, 0 won, p = 0.00098" in report.regressed[0].line
    back = compare(state(tmp_path / "a", worse), state(tmp_path / "b", rows), SPEC)
    assert statuses(back)[figure] == "better" and not back.regressed


def test_a_loss_of_numbers_is_caught_by_the_paired_bootstrap(tmp_path: Path) -> None:
    rows = drawn(0)
    worse = copy.deepcopy(rows)
    for row in worse[::4]:
        row["f1"]["ours"] = round(max(0.0, row["f1"]["ours"] - 0.1), 6)
    report = compare(state(tmp_path / "a", rows), state(tmp_path / "b", worse), SPEC)
    assert [verdict.name for verdict in report.regressed] == ["overlap"]
    assert report.regressed[0].test == "paired bootstrap"


def test_a_few_items_may_be_noise_and_a_tolerance_lets_more_pass(tmp_path: Path) -> None:
    rows = drawn(0)
    few, many = flipped(rows, 4), flipped(rows, 10)
    before = state(tmp_path / "a", rows)
    assert statuses(compare(before, state(tmp_path / "b", few), SPEC))["exact"] == "worse (noise)"
    loose = SPEC.model_copy(update={"figures": [SPEC.figures[0].model_copy(update={"tolerance": 0.06})]})
    assert statuses(compare(before, state(tmp_path / "b", many), loose))["exact"] == "worse (tolerated)"


def test_noise_passes_in_at_least_95_of_100_draws(tmp_path: Path) -> None:
    """Two systems that are equally good at every task, drawn apart: a whole gate fails in less than one of twenty."""
    failed = sum(
        bool(compare(state(tmp_path / "a", drawn(seed)), state(tmp_path / "b", drawn(seed + 1000)), SPEC).regressed)
        for seed in range(200)
    )
    assert failed <= 10


def test_without_rows_the_stated_intervals_decide(tmp_path: Path) -> None:
    rows = drawn(0)
    before = FolderResults(write(tmp_path / "a", None, measured(rows)))
    few = compare(before, FolderResults(write(tmp_path / "b", None, measured(flipped(rows, 10)))), SPEC)
    assert statuses(few)["exact"] == "worse (noise)"  # less is seen than item by item
    many = compare(before, FolderResults(write(tmp_path / "b", None, measured(flipped(rows, 40)))), SPEC)
    assert [verdict.name for verdict in many.regressed] == ["exact"]
    assert many.regressed[0].test == "stated intervals"
    one_side = compare(before, state(tmp_path / "c", flipped(rows, 40)), SPEC)
    assert one_side.regressed[0].test == "stated intervals"
    with pytest.raises(UserError, match="of different runs"):  # rows of one side must still be those of its metrics
        compare(before, FolderResults(write(tmp_path / "d", flipped(rows, 40), measured(rows))), SPEC)


def test_a_figure_without_items_is_held_to_its_tolerance(tmp_path: Path) -> None:
    rows = drawn(0)
    before = state(tmp_path / "a", rows, 1.0)
    assert statuses(compare(before, state(tmp_path / "b", rows, 1.019), SPEC))["bits"] == "worse (tolerated)"
    assert statuses(compare(before, state(tmp_path / "b", rows, 1.021), SPEC))["bits"] == "regressed"
    assert statuses(compare(before, state(tmp_path / "b", rows, 0.9), SPEC))["bits"] == "better"


def test_what_cannot_be_compared_is_an_error_and_no_pass(tmp_path: Path) -> None:
    rows = drawn(0)
    before = state(tmp_path / "a", rows)

    def refused(rows: list[Row] | None, metrics: dict[str, Any], match: str) -> None:
        with pytest.raises(UserError, match=match):
            compare(before, FolderResults(write(tmp_path / "b", rows, metrics)), SPEC)
        with pytest.raises(UserError):  # whichever side it is
            compare(FolderResults(tmp_path / "b"), before, SPEC)

    metrics = measured(rows)
    del metrics["eval"]["tasks"]["exact"]
    refused(rows, metrics, r"eval.json has no tasks.exact.rate")
    other = copy.deepcopy(rows)
    other[7]["task"] = "another"
    refused(other, measured(other), "1 items of tasks are not the same .* tasks-007")
    renamed = copy.deepcopy(rows)
    renamed[7]["id"] = "tasks-900"
    refused(renamed, measured(renamed), "2 items of tasks are not the same")
    refused(rows[:-1], measured(rows[:-1]), "tasks.n is 200 .* and 199")
    refused(flipped(rows, 10), measured(rows), "of different runs")
    halved = copy.deepcopy(rows)
    del halved[3]["f1"]
    refused(halved, measured(rows), "item tasks-003 has no f1.ours")
    (tmp_path / "b" / "metrics" / "lm.json").unlink()
    with pytest.raises(UserError, match=r"lm.json is not there"):
        compare(before, state_without_lm(tmp_path / "b", rows), SPEC)


def state_without_lm(folder: Path, rows: list[Row]) -> FolderResults:
    return FolderResults(write(folder, rows, {"eval": measured(rows)["eval"]}))


def test_an_optional_figure_may_be_missing_on_both_sides_only(tmp_path: Path) -> None:
    rows = drawn(0)
    figure = Figure(
        name="by hand", file="eval", metric="hand.rate", better="higher", tolerance=0.0, suite="hand", item="exact",
        optional=True,
    )  # fmt: skip
    spec = SPEC.model_copy(update={"figures": [figure]})
    before, now = state(tmp_path / "a", rows), state(tmp_path / "b", rows)
    assert statuses(compare(before, now, spec)) == {"by hand": "not measured"}
    metrics = measured(rows)
    metrics["eval"]["hand"] = {"rate": 0.5}
    with pytest.raises(UserError, match=r"hand.rate"):
        compare(before, FolderResults(write(tmp_path / "b", rows, metrics)), spec)


def test_items_are_read_as_the_spec_says() -> None:
    row = {"id": "1", "suite": "s", "found": True, "rank": {"hybrid": 3, "bm25": None}}
    assert reader("found")(row) == 1.0 and reader("not found")(row) == 0.0
    assert reader("ndcg@10 of rank.hybrid")(row) == pytest.approx(0.5)
    assert reader("ndcg@10 of rank.bm25")(row) == 0.0
    assert reader("ndcg@10 of rank.dense")(row) is None and reader("nothing")(row) is None
    assert reader("not nothing")(row) is None and reader("rank.bm25")(row) is None


def test_the_figures_of_the_project_are_measured_and_distinct() -> None:
    """Every figure of gate.yaml stands in the committed metrics, and its name is its own."""
    spec = load_spec()
    names = [figure.name for figure in spec.figures]
    assert len(set(names)) == len(names)
    for figure in spec.figures:
        metrics = read_json(Path("data/metrics") / f"{figure.file}.json")
        assert isinstance(at(metrics, figure.metric), float), figure.name
        assert all(at(metrics, path) is not None for path in figure.same), figure.name


def test_a_fault_in_the_spec_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "gate.yaml"
    file.write_text("level: 0.05\nbootstrap_samples: 1000\nseed: 0\nidentity: {}\nfigures: [{name: a}]\n")
    with pytest.raises(UserError, match=r"gate.yaml: figures.0.file") as caught:
        load_spec(file)
    assert "\n" not in str(caught.value)


def project(folder: Path, rows: list[Row]) -> Path:
    """A project in git whose metrics are committed and whose rows are not."""
    (folder / "params.yaml").write_text("seed: 0\n")
    write(folder / "data", rows, measured(rows))
    (folder / ".gitignore").write_text("/data/evaluations\n")
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first"]):
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)
    return folder


def test_a_revision_has_its_committed_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = drawn(0)
    monkeypatch.chdir(project(tmp_path, rows))
    assert not run_gate("HEAD", SPEC).regressed
    worse = flipped(rows, 60)
    write(tmp_path / "data", worse, measured(worse))
    report = run_gate("HEAD", SPEC)
    assert [(verdict.name, verdict.test) for verdict in report.regressed] == [("exact", "stated intervals")]
    shutil.rmtree(tmp_path / "data" / "metrics")
    with pytest.raises(UserError, match=r"eval.json is not there"):
        run_gate("HEAD", SPEC)
    for name in ("no-such-revision", "--help"):
        with pytest.raises(UserError, match="is no folder and no revision"):
            open_results(name)
    with pytest.raises(UserError, match=r"other.json is not in git at HEAD"):
        open_results("HEAD").metrics("other")


def test_rows_of_a_revision_come_from_the_cache_of_dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = drawn(0)
    monkeypatch.chdir(project(tmp_path, rows))
    dvc = [sys.executable, "-m", "dvc"]
    (tmp_path / ".gitignore").unlink()
    for command in (
        [*dvc, "init", "-q"],
        [*dvc, "add", "-q", "data/evaluations/eval.jsonl"],
        ["git", "add", "-A"],
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "rows"],
    ):
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    worse = flipped(rows, 10)
    (tmp_path / "data" / "evaluations" / "eval.jsonl").unlink()
    write(tmp_path / "data", worse, measured(worse))
    report = run_gate("HEAD", SPEC)
    assert [(verdict.name, verdict.test) for verdict in report.regressed] == [("exact", "McNemar")]


def test_an_empty_name_is_not_the_folder_that_one_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`llmm gate --baseline "$BASE"` where nobody has set it would compare the build with itself and pass."""
    write(tmp_path / "data", rows := drawn(0), measured(rows))
    (tmp_path / "params.yaml").touch()
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli.llmm, ["gate", "--baseline", ""])
    assert isinstance(done.exception, UserError) and str(done.exception).startswith("'' is no folder and no revision")


def test_rows_may_hold_any_character() -> None:
    row = {"id": "a\u2028b\x85c\u2029", "suite": "s"}
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for _ in range(2))
    assert parse_rows(text, "x") == [row, row]
    with pytest.raises(UserError, match="line 2: no row"):
        parse_rows(json.dumps(row) + "\n\n", "x")


def test_the_command_says_what_regressed_and_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = drawn(0)
    worse = flipped(rows, 20)
    before, now = write(tmp_path / "before", rows, measured(rows)), tmp_path / "now"
    (now / "data").mkdir(parents=True)
    (now / "params.yaml").write_text("seed: 0\n")
    monkeypatch.chdir(now)
    monkeypatch.setattr("agents.capstone.gate.load_spec", lambda: SPEC)

    def gate(*words: str) -> Any:
        return CliRunner().invoke(cli.llmm, ["gate", "--baseline", str(before), *words])

    write(now / "data", rows, measured(rows))
    passed = gate()
    assert passed.exit_code == 0 and "exact" in passed.output and "same" in passed.output
    write(now / "data", worse, measured(worse))
    failed = gate()
    assert failed.exit_code == 1
    assert len(failed.output.splitlines()) == 1 and failed.output.startswith("regressed: exact: ")
    found = gate("--json")
    answer = json.loads(found.output)
    assert found.exit_code == 1 and answer["passed"] is False
    assert [v["name"] for v in answer["verdicts"] if v["status"] == "regressed"] == ["exact"]
