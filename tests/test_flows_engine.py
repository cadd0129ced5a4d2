"""The engine without Prefect: plans, rows, retries, revisions."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from toy_evaluation import ToyEvaluation
from toy_flow import TOY

from llmm.errors import UserError
from llmm.evaluation import Batch, batches_of
from llmm.files import write_text
from llmm.lineage import seal
from llmm.params import load_params
from pipelines.flows import engine, revisions
from pipelines.flows.engine import Options, default_workers, run_plainly

ROOT = Path(__file__).parents[1]
PARAMS = load_params(ROOT / "params.yaml")


@pytest.fixture(autouse=True)
def toy(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_FOLDER", str(tmp_path))
    monkeypatch.setattr(engine, "RETRY_DELAYS", (0.0, 0.0))
    (tmp_path / "fail").mkdir()
    return tmp_path


def scored(folder):
    return (folder / "log").read_text().splitlines()


def test_rows_come_in_the_order_of_the_batches_whatever_the_workers(toy):
    outcomes = [run_plainly(TOY, PARAMS, Options(workers=workers), toy / "figures") for workers in (1, 4)]
    assert outcomes[0].rows == outcomes[1].rows
    assert [row["id"] for row in outcomes[0].rows[:3]] == ["squares-0", "squares-1", "squares-2"]
    assert outcomes[0].report.metrics == outcomes[1].report.metrics
    assert outcomes[0].rows[1]["pair"] == [1, PARAMS.rag_eval.top_k]  # as JSON reads it back, not a tuple
    assert all(figure.exists() for figure in outcomes[0].report.figures)


def test_suites_and_limit_choose_items(toy):
    outcome = run_plainly(TOY, PARAMS, Options(suites=("squares",), limit=5), toy / "figures")
    assert [row["id"] for row in outcome.rows] == [f"squares-{i}" for i in range(5)]
    assert sorted(scored(toy)) == ["squares 0-4", "squares 4-5"]


def test_an_unknown_suite_is_named(toy):
    with pytest.raises(UserError, match="no suite 'cubs': expected some of cubes, squares"):
        run_plainly(TOY, PARAMS, Options(suites=("cubs",)), toy / "figures")


def test_a_batch_that_fails_once_is_scored_again(toy):
    write_text(toy / "fail" / "cubes-2", "1")
    assert len(run_plainly(TOY, PARAMS, Options(), toy / "figures").rows) == 16
    assert scored(toy).count("cubes 2-4") == 2


def test_a_batch_that_keeps_failing_is_reported_in_one_line_after_the_others(toy):
    write_text(toy / "fail" / "squares-4", "9")
    with pytest.raises(UserError) as fault:
        run_plainly(TOY, PARAMS, Options(), toy / "figures")
    message = str(fault.value)
    assert "1 of 6 batches failed 3 times, the first (squares 4-8) with RuntimeError: planted failure" in message
    assert "\n" not in message
    assert scored(toy).count("squares 4-8") == 3
    assert len(set(scored(toy))) == 6


def test_an_interrupted_run_begins_no_further_batch(toy, monkeypatch):
    def interrupt(gathered, batch, rows):
        raise KeyboardInterrupt

    monkeypatch.setattr(engine.Gathered, "add", interrupt)
    write_text(toy / "slow", "0.2")
    with pytest.raises(KeyboardInterrupt):
        run_plainly(TOY, PARAMS, Options(workers=1), toy / "figures")
    assert len(scored(toy)) <= 2  # of 6: the one that ended and the one that had begun


@pytest.mark.parametrize(
    "rows",
    [
        [{"id": "a", "suite": "squares"}],
        [{"id": "a", "suite": "cubes"}] * 2,
        [{"suite": "squares"}] * 2,
        [{"id": "a", "suite": "squares", "value": float("nan")}] * 2,
    ],
)
def test_rows_that_break_the_rules_are_refused(toy, monkeypatch, rows):
    monkeypatch.setattr(ToyEvaluation, "run", lambda self, batch: rows)
    with pytest.raises(ValueError, match=r"expected|JSON"):
        engine.score(
            TOY.factory, PARAMS.model_dump(mode="json"), Batch("squares", 0, 2), revisions.Revisions("", "", "")
        )


@pytest.mark.parametrize("items", [0, 1, 15, 16, 17, 100])
def test_batches_cover_every_item_once(items):
    batches = batches_of("suite", items, 16)
    assert [i for batch in batches for i in range(batch.start, batch.stop)] == list(range(items))
    assert all(1 <= len(batch) <= 16 for batch in batches)


@pytest.mark.parametrize("value", ["0", "two", "-1", ""])
def test_a_wrong_number_of_workers_is_named(monkeypatch, value):
    monkeypatch.setenv("LLMM_WORKERS", value)
    with pytest.raises(UserError, match="LLMM_WORKERS"):
        default_workers()


def test_code_files_are_what_the_module_imports_and_no_more():
    names = {file.relative_to(ROOT).as_posix() for file in revisions.code_files("toy_evaluation")}
    assert {"tests/toy_evaluation.py", "llmm/evaluation.py", "llmm/params.py", "llmm/errors.py"} <= names
    assert "llmm/statistics.py" not in names
    assert not any("site-packages" in name for name in names)


def test_the_code_revision_changes_with_an_imported_file_only(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "sums"
    for name, text in {"__init__": "", "a": "from sums.b import f", "b": "f = 1", "c": "g = 1"}.items():
        write_text(package / f"{name}.py", text)
    before = revisions.of_code("sums.a")
    write_text(package / "c.py", "g = 2")
    assert revisions.of_code("sums.a") == before
    write_text(package / "b.py", "f = 2")
    assert revisions.of_code("sums.a") != before


def test_the_revision_of_artifacts_follows_their_content_and_refuses_damage(tmp_path):
    folder = tmp_path / "model"
    write_text(folder / "weights", "1")
    seal(folder, "model", [])
    artifacts = ((folder, "model"),)
    first = revisions.of_artifacts(artifacts)
    assert revisions.of_artifacts(artifacts) == first
    write_text(folder / "weights", "2")
    with pytest.raises(UserError, match="damaged"):
        revisions.of_artifacts(artifacts)
    seal(folder, "model", [])
    assert revisions.of_artifacts(artifacts) != first


def test_a_plain_stage_never_imports_prefect(toy):
    code = "import sys, pipelines.rag_eval, pipelines.agent_eval; print([m for m in sys.modules if m == 'prefect'])"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_rows_read_back_equal(toy):
    outcome = run_plainly(TOY, PARAMS, Options(), toy / "figures")
    engine.write_outcome(outcome, toy / "metrics.json", toy / "rows.jsonl")
    assert [json.loads(line) for line in (toy / "rows.jsonl").read_text().splitlines()] == outcome.rows
    assert json.loads((toy / "metrics.json").read_text()) == outcome.report.metrics
