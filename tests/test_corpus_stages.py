"""The four stages from source to tokens, as DVC runs them, on a small folder of files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmm.params import load_params
from llmm.training.pretraining.data import TokenShards
from llmm.training.tokenizer.folder import load_text_tokenizer

ROOT = Path(__file__).parents[1]


def run(folder: Path, stage: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", f"pipelines.{stage}"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def fault(folder: Path, stage: str) -> str:
    result = run(folder, stage)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1, "one line"
    return result.stderr


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with params.yaml and twelve files of this project's source as text."""
    text = (ROOT / "params.yaml").read_text()
    for key, value in {
        "source: stdlib": "source: files",
        "path: ''": "path: texts",
        "vocab_size: 2048": "vocab_size: 500",
    }.items():
        assert text.count(f" {key} ") == 1
        text = text.replace(f" {key} ", f" {value} ")
    (tmp_path / "params.yaml").write_text(text)
    (tmp_path / "texts").mkdir()
    for path in sorted((ROOT / "llmm").glob("*.py")) + sorted((ROOT / "llmm" / "corpus").glob("*.py")):
        (tmp_path / "texts" / f"{path.parent.name}_{path.name}").write_text(path.read_text())
    load_params(tmp_path / "params.yaml")
    return tmp_path


def test_from_source_to_tokens(project: Path) -> None:
    assert "is not there" in fault(project, "prepare")
    assert "is not there" in fault(project, "tokenizer")
    for stage in ("source", "prepare", "tokenizer", "tokenize"):
        result = run(project, stage)
        assert result.returncode == 0, result.stderr
    shards = TokenShards.open(project / "data" / "tokens")
    metrics = json.loads((project / "data/metrics/prepare.json").read_text())
    tokenizer = load_text_tokenizer(project / "data" / "tokenizer")
    for split in ("train", "val", "test"):
        text = tokenizer.decode(shards.tokens(split).tolist(), skip_special_tokens=True)
        assert len(text.encode()) == shards.bytes(split) == metrics["bytes"][split]
        assert len(shards.starts(split)) - 1 == metrics["documents"][split] > 0

    for stage in ("prepare", "tokenize"):
        assert json.loads((project / f"data/timings/{stage}.json").read_text())["mb_per_second"] > 0

    # an unchanged source leaves its record alone, a changed one is noticed, by `prepare` too
    record = project / "data" / "source.json"
    os.utime(record, (0, 0))
    assert "unchanged" in run(project, "source").stdout
    assert record.stat().st_mtime == 0
    (project / "texts" / "new.md").write_text(
        "# New\n\nA new document that nobody has seen before, long enough to stay.\n"
    )
    assert "run `dvc repro` again" in fault(project, "prepare")
    assert run(project, "source").returncode == 0
    assert run(project, "prepare").returncode == 0
    assert "belongs to corpus" in fault(project, "tokenize"), "the tokenizer is of the corpus before"


def test_a_corpus_below_the_vocabulary_is_one_line(project: Path) -> None:
    for path in (project / "texts").iterdir():
        path.unlink()
    (project / "texts" / "one.txt").write_text(
        "Only a little text.\n\nIn a few paragraphs.\n\nToo few for merges.\n\n" * 3
    )
    assert run(project, "source").returncode == 0
    assert "too few to split by document" in run(project, "prepare").stdout
    message = fault(project, "tokenizer")
    assert message.startswith("tokenizer: tokenizer.vocab_size: the corpus is too small for 500 tokens")
    assert not (project / "data" / "tokenizer").exists()


def test_an_empty_source_is_one_line(project: Path) -> None:
    for path in (project / "texts").iterdir():
        path.unlink()
    assert "holds no file of a known kind" in fault(project, "source")
