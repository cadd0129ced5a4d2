"""dvc.yaml names every module and every parameter that decides a stage's result."""

import re
from pathlib import Path

import pytest
from conftest import ROOT
from ruamel.yaml import YAML

from pipelines.flows.revisions import code_files

STAGES = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
# how artifacts are read and written, where memory comes from, what a person sees: none of it shapes a result
FRAME = {
    *(f"llmm/{name}.py" for name in ("allocator", "device", "errors", "files", "lineage", "params", "paths")),
    *(f"llmm/{name}.py" for name in ("figures", "stage")),
    *(f"llmm/corpus/{name}.py" for name in ("document", "headings", "splits", "store")),
    *(f"llmm/training/pretraining/{name}.py" for name in ("progress", "folder")),
    "pipelines/stage.py",
}
# samples and verdicts that a run shows on its way
SHOWN = {
    "pretrain": {
        *(f"llmm/transformers/gpt/{name}.py" for name in ("decode", "generate", "sampling")),
        "llmm/training/pretraining/verdict.py",
    }
}
MADE = {
    next(iter(out)) if isinstance(out, dict) else out
    for stage in STAGES.values() for kind in ("outs", "metrics", "plots") for out in stage.get(kind, [])
}  # fmt: skip
EVALUATIONS = {"rag_eval": "llmm.training.rag.evaluation", "agent_eval": "agents.tool_agent.evaluation"}


def _modules(stage: str) -> set[str]:
    modules = [f"pipelines.{stage}", *([EVALUATIONS[stage]] if stage in EVALUATIONS else [])]
    files = {Path(file).resolve().relative_to(ROOT).as_posix() for module in modules for file in code_files(module)}
    return {file for file in files - FRAME - SHOWN.get(stage, set()) if not file.endswith("__init__.py")}


@pytest.mark.parametrize("stage", STAGES)
def test_every_module_that_a_stage_imports_is_a_dependency(stage):
    deps = STAGES[stage]["deps"]
    missing = [file for file in _modules(stage) if not any(file == dep or file.startswith(f"{dep}/") for dep in deps)]
    assert missing == []


@pytest.mark.parametrize("stage", STAGES)
def test_dependencies_exist_or_are_made_by_a_stage(stage):
    for dep in STAGES[stage]["deps"]:
        assert dep in MADE or (ROOT / dep).exists(), dep


@pytest.mark.parametrize("stage", STAGES)
def test_nothing_comes_from_elsewhere(stage):
    """What a stage reads is code, phrasings and evaluation sets that people wrote, or another stage's output: no
    weights that were not trained here."""
    for dep in set(STAGES[stage]["deps"]) - MADE:
        found = [ROOT / dep] if (ROOT / dep).is_file() else list((ROOT / dep).rglob("*"))
        files = [file for file in found if file.is_file() and "__pycache__" not in file.parts]
        assert files, dep
        written = {".py", ".yaml", ".txt", ".jsonl", ".md"}
        assert {file.suffix for file in files} <= written and sum(file.stat().st_size for file in files) < 1 << 20, dep


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_says_what_it_is_for_and_keeps_metrics_in_git(stage):
    assert STAGES[stage]["desc"]
    for kind in ("metrics", "plots"):
        for out in STAGES[stage].get(kind, []):
            # as `outs` without a cache they would switch off the run cache
            assert next(iter(out.values()))["cache"] is False
    assert not any("persist" in str(out) for out in STAGES[stage].get("outs", []))


def test_parameters_are_documented_in_place_and_presets_name_known_ones():
    text = (ROOT / "params.yaml").read_text()
    undocumented = [line for line in text.splitlines() if re.match(r"\s*\w+: \S", line) and "#" not in line]
    assert undocumented == []
    params = YAML(typ="safe").load(text)
    for preset in (ROOT / "presets").glob("*.yaml"):
        for section, values in YAML(typ="safe").load(preset.read_text()).items():
            assert set(values) <= set(params[section]), preset
