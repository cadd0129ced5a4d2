"""Every command of the README runs, and every generated part is what the metrics say."""

import re
import shutil

import pytest
from conftest import ROOT, runner, where_they_belong_together

from llmm.ladder.chain import standings
from pipelines.documents import DOCUMENTS, render
from pipelines.summary import collect

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = [block.strip().splitlines() for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)]


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block[0])
def test_commands_in_their_order(smoke, block):
    run = runner(smoke)
    shutil.rmtree(smoke / "exported", ignore_errors=True)
    try:
        for command in block:
            done = run(command)
            assert done.stdout.strip(), command
            assert "Traceback" not in done.stderr, command
            if command.endswith("--no-prefect"):  # the same bytes as by Prefect, which the copy has in git
                assert run("git status --porcelain data/metrics").stdout == "", command
    finally:
        run("git checkout -q . && dvc checkout -q -f")


def test_both_evaluations_are_run_without_prefect():
    commands = {command for block in BLOCKS for command in block}
    assert {f"python -m pipelines.{name} --no-prefect" for name in ("rag_eval", "agent_eval")} <= commands


def test_the_setup_commands_are_targets_of_the_makefile():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"make ([a-z]+)", README))
    assert named <= targets


def test_the_message_that_the_readme_shows_is_the_message():
    from llmm.errors import UserError
    from llmm.params import load_params, validate

    raw = load_params(ROOT / "params.yaml").model_dump()
    raw["pretrain"]["n_head"] = 5
    with pytest.raises(UserError) as raised:
        validate(raw)
    assert f"source: {raised.value}" in README


def test_links_and_pictures_are_there():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_generated_parts_are_what_the_metrics_say(document, tmp_path, monkeypatch):
    monkeypatch.chdir(where_they_belong_together(document.as_posix(), "data", tmp_path))
    text = document.read_text(encoding="utf-8")
    assert render(text, collect()) == text


def test_every_milestone_that_is_built_stands_passed(monkeypatch):
    monkeypatch.chdir(ROOT)
    fallen = [
        f"{standing.milestone.id} is {standing.state}: {standing.reason}"
        for standing in standings()
        if standing.state not in ("passed", "not built")
    ]
    assert fallen == [], "`dvc repro llmm/ladder/dvc.yaml` checks them again"
