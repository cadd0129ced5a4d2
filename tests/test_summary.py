"""The summary that ends `make repro`: what it reads, and that gaps and broken files do not stop it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from llmm.files import write_json, write_text
from pipelines import documents, summary

ROOT = Path(__file__).parents[1]


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


SYSTEMS = {"agent": 0.9, "regex_router": 0.5}


def retrieval(value):
    return {"recall@1": 0.1, "ndcg@10": value, "ndcg@10_low": value - 0.02, "ndcg@10_high": value + 0.02}


def fill():
    metrics, timings = Path("data/metrics"), Path("data/timings")
    write_json(metrics / "prepare.json", {"source": "three files"})
    write_json(
        metrics / "lm_eval.json",
        {"test": {"bits_per_byte": 1.3, "interval": [1.2, 1.4]}, "sample": {"prompt": "def ", "text": "f(x)[0]: [/b]"}},
    )
    write_json(metrics / "baselines.json", {"test": {"xz": 1.9, "ngram_5": 1.6}})
    suite = {"bm25": retrieval(0.34), "dense": retrieval(0.2), "hybrid": retrieval(0.3)}
    write_json(metrics / "rag_eval.json", {"retrieval_names_removed": suite})
    rates = {
        system: {
            "exact": {"rate": rate, "low": 0.0, "high": 1.0},
            "answer": {"rate": 1 - rate, "low": 0.0, "high": 1.0},
        }
        for system, rate in SYSTEMS.items()
    }
    write_json(metrics / "agent_eval.json", {"suites": {"new_values": {"tasks": 9, **rates}}})
    write_json(timings / "pretrain.json", {"seconds": 250.4, "peak_memory_mib": 1500, "threads": [2, "[red]"]})
    write_text(Path("data/model/model.safetensors"), "x" * 1000)
    write_text(Path("visualizations/rag_eval/retrieval.svg"), "<svg/>")


def test_figures_stand_beside_their_baselines(project):
    fill()
    found = summary.collect()
    model, hybrid, agent, answers = found.measures
    assert (model.value, model.interval) == (1.3, (1.2, 1.4))
    assert model.baselines == {"xz": 1.9, "ngram_5": 1.6}
    assert model.beats_all  # lower is better
    assert hybrid.baselines == {"BM25": 0.34, "dense": 0.2}
    assert not hybrid.beats_all
    assert (agent.value, agent.interval, agent.baselines) == (0.9, (0.0, 1.0), {"regex router": 0.5})
    assert (answers.unit, round(answers.value, 9), answers.baselines) == ("right answers", 0.1, {"regex router": 0.5})
    assert agent.beats_all and not answers.beats_all
    assert found.source == "three files"
    assert found.artifacts == [
        {"name": "model", "path": "data/model", "bytes": 1000, "what": "the GPT; opens in transformers"}
    ]
    assert found.figures == ["visualizations/rag_eval/retrieval.svg"]
    assert "finetune" in found.missing and "rag_eval" not in found.missing


def test_the_cost_of_a_run_that_went_on_is_not_taken_for_that_of_a_whole_one(project):
    fill()
    pretrain = {
        "seconds": 250.4,
        "peak_memory_mib": 15,
        "device": "cpu",
        "dtype": "float32",
        "tokens_per_second": 1,
        "went_on_from_step": 0,
    }
    evaluation = {"seconds": 9.0, "peak_memory_mib": 20, "batches_reused": 0}
    for changed, marked in (({}, ""), ({"went_on_from_step": 3}, "pretrain"), ({"batches_reused": 3}, "agent_eval")):
        stages = {"pretrain": pretrain, "agent_eval": evaluation}
        for stage, timing in stages.items():
            known = {key: value for key, value in changed.items() if key in timing}
            write_json(Path(f"data/timings/{stage}.json"), timing | known)
        table = documents.costs(summary.collect())
        assert [stage for stage in stages if f"| {stage} (the rest of a run) |" in table] == (
            [marked] if marked else []
        )


def test_what_a_person_sees(project, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    fill()
    summary.show(summary.collect())
    shown = capsys.readouterr().out
    for words in ("three files", "1.300", "1.200 to 1.400", "xz 1.900, ngram_5 1.600", "4 min 10 s", "1500 MiB"):
        assert words in shown
    assert "def f(x)[0]: [/b]" in shown  # what the model writes is no markup
    assert "Not run yet" in shown and "finetune" in shown


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"test": 5}', '{"test": {"bits_per_byte": "low"}}', "{}"])
def test_no_file_stops_it(project, capsys, content):
    for folder in ("metrics", "timings"):
        for name in summary.STAGES:
            write_text(Path("data") / folder / f"{name}.json", content)
    summary.show(summary.collect())
    assert "Try next" in capsys.readouterr().out


def test_an_empty_folder_gives_only_gaps(project):
    shown = subprocess.run(
        [sys.executable, "-m", "pipelines.summary", "--json"],
        env={"PYTHONPATH": str(ROOT)},
        cwd=project,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(shown.stdout)
    assert found["artifacts"] == found["measures"] == found["stages"] == []
    assert set(found["missing"]) == set(summary.STAGES) - {"source"}


def test_another_text_has_no_hand_written_questions(project):
    fill()
    assert "this text is another one" in documents.retrieval_hand_written(summary.collect())


def test_hand_written_answers_stand_beside_the_simplest_of_citations(project):
    fill()
    metrics = Path("data/metrics/rag_eval.json")
    cited = {"rate": 0.3, "low": 0.2, "high": 0.4}
    found = json.loads(metrics.read_text()) | {
        "hand_written": {"right_source_cited": cited, "bm25": {"recall@1": 0.37}}
    }
    write_json(metrics, found)
    (row,) = [one for one in summary.collect().measures if one.unit == "right source cited"]
    assert (row.value, row.interval, row.baselines) == (0.3, (0.2, 0.4), {"BM25's first passage": 0.37})
    assert not row.beats_all


def test_the_index_of_the_log_links_its_sections():
    log = (
        "# Log\n\n## M7 Mini GPT: lens\n\n### Not this\n\n## How much, at GPT-2's rate?\n\n## M7 Mini GPT: two heads\n"
    )
    assert documents.log_index(log).splitlines() == [
        "The pipeline:",
        "",
        "- [How much, at GPT-2's rate?](#how-much-at-gpt-2s-rate)",
        "",
        "The ladder:",
        "",
        "- M7 Mini GPT: [lens](#m7-mini-gpt-lens), [two heads](#m7-mini-gpt-two-heads)",
    ]
