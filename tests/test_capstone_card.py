"""The model card: every figure in it is one of the metrics."""

import copy
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tokenizers import Tokenizer

from agents.capstone.model_card import MARK, make_card, read_build, write_card
from llmm import cli, paths
from llmm.errors import UserError
from llmm.files import read_json, write_json
from llmm.lineage import Artifact, seal
from tests.tiny_build import ROOT, SIZES, build, small_tokenizer


@pytest.fixture
def tokenizer() -> Tokenizer:
    return small_tokenizer()


@pytest.fixture
def project(tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> dict[str, Artifact]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("seed: 0\n")
    return build(tmp_path, tokenizer, SIZES)


@pytest.fixture
def made(project: dict[str, Artifact], tmp_path: Path) -> dict[str, Any]:
    """The committed metrics beside small artifacts of every kind."""
    model, words = project["model"], project["tokenizer"]
    parents: dict[str, list[Artifact]] = {"corpus": [], "encoder": [model]}
    for kind, of in parents.items():
        (tmp_path / "data" / kind).mkdir()
        (tmp_path / "data" / kind / "file").write_text(kind)
        project[kind] = seal(tmp_path / "data" / kind, kind, of)
    (tmp_path / paths.INDEX).mkdir()
    (tmp_path / paths.INDEX / "file").write_text("index")
    project["index"] = seal(tmp_path / paths.INDEX, "index", [project["corpus"], project["encoder"]])
    assert words.sha256
    for name in ("params.yaml", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    metrics = {file.stem: read_json(file) for file in (ROOT / paths.METRICS).glob("*.json")}
    for stage in ("pretrain", "lm_eval", "finetune"):
        metrics[stage]["model"] = model.short
    for name, figures in metrics.items():
        write_json(paths.METRICS / f"{name}.json", figures)
    return metrics


def test_the_card_is_read_by_the_hub_s_library(made: dict[str, Any]) -> None:
    from huggingface_hub import ModelCard

    card = ModelCard(make_card())
    data = card.data.to_dict()
    assert data["license"] == "mit" and data["pipeline_tag"] == "text-generation"
    assert data["library_name"] == "transformers" and data["base_corpus"] == made["prepare"]["source"]
    assert MARK in card.text and "## What it cannot do" in card.text


def test_every_figure_is_that_of_the_metrics(made: dict[str, Any]) -> None:
    card = make_card()
    agent = made["agent_eval"]["suites"]["new_phrasings"]
    for system in ("agent", "regex_router", "no_tools", "random_weights"):
        exact = agent[system]["exact"]
        assert f"{exact['rate']:.3f} ({exact['low']:.3f} to {exact['high']:.3f})" in card
    for value in (*made["baselines"]["test"].values(), made["lm_eval"]["test"]["bits_per_byte"]):
        assert f"{value:.3f}" in card
    assert f"{made['pretrain']['parameters']:,} parameters" in card
    for artifact in read_build().artifacts.values():
        assert artifact.sha256 in card


def test_other_metrics_give_another_card(made: dict[str, Any]) -> None:
    """Every number that the card takes from metrics follows them: with all replaced, the old ones are gone."""
    before = read_build()
    after = replace(before, metrics={name: _replaced(tree) for name, tree in before.metrics.items()})
    old, new = make_card(before), make_card(after)
    decimals = {word for word in _numbers(old) if "." in word}
    assert decimals & _numbers(new) <= _numbers(f"# A small {made['prepare']['source']}")


def _replaced(tree: Any, value: float = 0.4321) -> Any:
    if isinstance(tree, dict):
        return {key: _replaced(item, value) for key, item in tree.items()}
    if isinstance(tree, list):
        return [_replaced(item, value) for item in tree]
    if isinstance(tree, bool | str):
        return (
            tree if not isinstance(tree, str) or not tree.replace(".", "").replace("e+", "").isdigit() else str(value)
        )
    return value if isinstance(tree, float) else round(1e6 * value)


def _numbers(card: str) -> set[str]:
    """Numbers in the text and tables, without the hashes and the sample."""
    text = "\n".join(line for line in card.splitlines() if not line.startswith("    ") and "`" not in line)
    return set(re.findall(r"(?<![\w.])\d[\d,]*(?:\.\d+)?", text.partition("# A small")[2]))


def test_a_card_of_another_text_claims_nothing_about_its_licence(made: dict[str, Any]) -> None:
    build = read_build()
    corpus = build.params.corpus.model_copy(update={"source": "files", "path": "notes"})
    metrics = copy.deepcopy(build.metrics)
    metrics["prepare"]["source"] = "files notes"
    for name, suite in (("rag_eval", "hand_written"), ("agent_eval", "hand_written")):
        tree = metrics[name]["suites"] if name == "agent_eval" else metrics[name]
        del tree[suite]
    card = make_card(replace(build, params=build.params.model_copy(update={"corpus": corpus}), metrics=metrics))
    assert 'license: "other"' in card and "Python Software Foundation" not in card and "hand-written" not in card


def test_missing_or_foreign_metrics_are_an_error(made: dict[str, Any]) -> None:
    file = paths.METRICS / "agent_eval.json"
    figures = read_json(file)
    file.unlink()
    with pytest.raises(UserError, match=r"agent_eval.json is not there"):
        make_card()
    del figures["suites"]["new_values"]["agent"]
    write_json(file, figures)
    with pytest.raises(UserError, match=r"agent_eval.json has no suites.new_values.agent"):
        make_card()
    write_json(paths.METRICS / "lm_eval.json", made["lm_eval"] | {"model": "0123456789ab"})
    with pytest.raises(UserError, match=r"lm_eval.json is about model 0123456789ab"):
        make_card()


def test_the_command_prints_or_writes_and_replaces_only_cards(made: dict[str, Any]) -> None:
    def card(*words: str) -> Any:
        return CliRunner().invoke(cli.llmm, ["card", *words])

    printed = card()
    assert printed.exit_code == 0 and printed.output == make_card()
    assert card("README.md").exit_code == 0 and Path("README.md").read_text() == printed.output
    assert card("README.md").exit_code == 0  # a card of ours
    Path("README.md").write_text("my own words")
    with pytest.raises(UserError, match="is no card"):
        write_card(Path("README.md"))
