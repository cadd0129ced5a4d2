"""The whole pipeline at toy size, through dvc and Prefect: what it makes, what it redoes, what it survives."""

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from conftest import ROOT, copy_project, environment, runner

from llmm.lineage import open_artifact

pytestmark = pytest.mark.slow
METRICS = ("prepare", "tokenizer", "tokenize", "baselines", "pretrain", "lm_eval", "finetune", "encoder", "index",
           "rag_eval", "agent_eval")  # fmt: skip
HOLD_THE_LOCK = """
import time
from pipelines.stage import only_one
with only_one("index"):
    print("held", flush=True)
    time.sleep(60)
"""
CHAIN = {"tokenizer": ["corpus"], "tokens": ["corpus", "tokenizer"], "model": ["tokenizer"], "adapter": ["model"],
         "encoder": ["model"], "index": ["corpus", "encoder"]}  # fmt: skip


def ran(output: str) -> list[str]:
    """The stages that dvc says it ran."""
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def test_one_command_makes_everything_and_ends_with_a_summary(smoke):
    log = (smoke / "repro.log").read_text()
    assert sorted(ran(log)) == sorted((*METRICS, "source"))
    for words in ("Beside its baselines", "What the model writes", "Figures", "Try next"):
        assert words in log
    for name in METRICS:
        assert json.loads((smoke / f"data/metrics/{name}.json").read_text())
        assert json.loads((smoke / f"data/timings/{name}.json").read_text())["peak_memory_mib"] > 0


def test_every_artifact_names_its_parents(smoke):
    opened = {kind: open_artifact(smoke / "data" / kind, kind) for kind in ("corpus", *CHAIN)}
    for child, parents in CHAIN.items():
        for parent in parents:
            opened[child].require(opened[parent])


def test_a_second_run_has_nothing_to_do(smoke):
    assert ran(runner(smoke)("dvc repro").stdout) == ["source"]


def test_the_model_opens_in_transformers_and_the_adapter_in_peft(smoke):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from llmm.training.lora.adapter import load_tuned
    from llmm.transformers.gpt import load_gpt

    data = smoke / "data"
    ids = torch.tensor([AutoTokenizer.from_pretrained(data / "model")("def main():\n    return 12").input_ids])
    theirs = AutoModelForCausalLM.from_pretrained(data / "model").eval()
    with torch.inference_mode():
        assert (theirs(ids).logits - load_gpt(data / "model")(ids)).abs().max() <= 1e-5
        tuned = PeftModel.from_pretrained(theirs, data / "adapter").eval()
        ours, _ = load_tuned(data / "adapter", data / "model", data / "tokenizer")
        assert (tuned(ids).logits - ours(ids)).abs().max() <= 1e-4


def test_a_changed_parameter_redoes_what_depends_on_it_and_shows_the_difference(smoke):
    run = runner(smoke)
    done = run("dvc exp run -S encoder.temperature=0.2 -n warmer")
    assert sorted(ran(done.stdout)) == ["agent_eval", "encoder", "index", "rag_eval", "source"]
    difference = json.loads(run("dvc metrics diff --json").stdout)
    assert any(path.endswith("encoder.json") for path in difference)
    assert "warmer" in run("dvc exp show --csv").stdout
    run("git checkout -q . && dvc checkout -q -f")
    assert ran(run("dvc repro").stdout) == ["source"]  # the run cache knows both


def test_an_experiment_in_a_temporary_folder_leaves_the_workspace_alone(smoke):
    run = runner(smoke)
    before = run("git status --porcelain").stdout
    run("dvc exp run --temp -S pretrain.steps=20 -S finetune.steps=10 -n short")
    assert run("git status --porcelain").stdout == before
    assert "short" in run("dvc exp list").stdout


def test_a_wrong_parameter_is_one_line_before_any_work(smoke):
    run = runner(smoke)
    done = run("dvc exp run --temp -S pretrain.n_head=3", check=False)
    assert done.returncode != 0
    assert "params.yaml: pretrain.n_head: 3 does not divide d_model = 64" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_swapped_and_truncated_artifacts_are_refused_by_name(smoke, tmp_path):
    shutil.copytree(smoke / "data", tmp_path / "data")
    shutil.copy(smoke / "params.yaml", tmp_path)
    run = runner(tmp_path)
    weights = tmp_path / "data/model/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    done = run("llmm generate hello", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "model.safetensors is damaged" in done.stderr and done.stderr.count("\n") == 1

    shutil.rmtree(tmp_path / "data/model")
    run("cp -r data/tokenizer data/model")
    assert "holds a tokenizer, but a model was expected" in run("llmm generate hello", check=False).stderr

    shutil.rmtree(tmp_path / "data/model")
    shutil.copytree(smoke / "data/model", tmp_path / "data/model")
    record = json.loads((tmp_path / "data/adapter/lineage.json").read_text())
    record["made_from"]["model"] = "0" * 64
    (tmp_path / "data/adapter/lineage.json").write_text(json.dumps(record))
    done = run("llmm agent 'what is 2 times 3?'", check=False)
    assert done.returncode == 1 and "belongs to model 000000000000" in done.stderr


def _pretraining_in(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words = process.info["cmdline"] or []
        if "pipelines.pretrain" in words and process.info["cwd"] == str(folder):
            found.append(process)
    return found


def _wait(condition, seconds=90.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_when_dvc_dies_so_does_the_trainer_and_the_next_run_goes_on(smoke, how):
    run = runner(smoke)
    command = ["dvc", "repro", "pretrain"]
    # a number of its own for each case: dvc's run cache would bring back the other one's model without training
    run(f"sed -i 's/  steps: 60 /  steps: {400 + how} /' params.yaml")
    try:
        dvc = subprocess.Popen(command, cwd=smoke, env=environment(smoke), stdout=subprocess.DEVNULL)
        _wait(lambda: list((smoke / ".work/pretrain").glob("*/checkpoint.pt")))
        dvc.send_signal(how)
        dvc.wait()
        _wait(lambda: not _pretraining_in(smoke), 20)
        # a dvc that is killed leaves its lock behind; it names a process that is gone
        done = run("dvc repro pretrain")
        assert "going on from the checkpoint" in done.stdout
    finally:
        run("git checkout -q . && rm -rf .work && dvc checkout -q -f")


def test_a_second_run_at_the_same_time_is_refused(smoke):
    run = runner(smoke)
    holder = subprocess.Popen(
        ["python", "-c", HOLD_THE_LOCK],
        cwd=smoke, env=environment(smoke), stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert holder.stdout is not None and holder.stdout.readline()
        done = run("python -m pipelines.index", check=False)
        assert done.returncode == 1
        assert done.stderr.strip().startswith("index: another process is running the stage index in this folder")
    finally:
        holder.kill()


def test_a_folder_of_ones_own_goes_through_every_stage(tmp_path):
    """Prose, without a Python object in sight; then an edited file is noticed."""
    folder = copy_project(tmp_path / "project")
    notes = tmp_path / "notes"
    notes.mkdir()
    for i in range(24):
        topic = ["rivers", "bridges", "bread", "clocks", "glass", "sails"][i % 6]
        sections = "\n\n".join(
            f"## Part {j} of {topic} {i}\n\nThe {topic} of valley {i * 13 + j} were measured in {1500 + 7 * i + j}. "
            f"A keeper numbered {i * j + 11} wrote that {topic} need patience. Nobody doubted the {topic} there.\n"
            for j in range(6)
        )
        (notes / f"{topic}{i}.md").write_text(f"# On {topic} {i}\n\n{sections}")
    (notes / "broken.md").write_bytes(b"\xff\xfe\x00bad")
    (notes / "huge.txt").write_text("one line of glass and sails " * 40_000)
    run = runner(folder)
    run("llmm preset smoke")
    text = (folder / "params.yaml").read_text()
    text = text.replace("source: stdlib ", "source: files ").replace("path: '' ", f"path: {notes} ")
    text = text.replace("vocab_size: 512 ", "vocab_size: 320 ")
    (folder / "params.yaml").write_text(text)
    assert len(ran(run("dvc repro").stdout)) == 12
    prepared = json.loads((folder / "data/metrics/prepare.json").read_text())
    assert sum(prepared["skipped"].values()) == 1  # the broken one
    assert ran(run("dvc repro").stdout) == ["source"]
    answer = json.loads(run("llmm ask --json 'What do rivers need?'").stdout)
    assert answer["found"] in (True, False)
    (notes / "bread2.md").write_text((notes / "bread2.md").read_text() + "\nA new sentence about ovens.\n")
    assert ran(run("dvc repro prepare").stdout) == ["source", "prepare"]


def test_an_interrupted_evaluation_goes_on_where_it_was(smoke):
    """Everything an evaluation scored is stored: run again with nothing changed, it scores nothing."""
    done = runner(smoke)("python -m pipelines.rag_eval")
    assert "of them from an earlier run" in done.stdout
    runner(smoke)("git checkout -q data/timings visualizations")


def test_the_lock_is_true_to_the_tree():
    """No stage of the committed pipeline would run again, but for the one that always looks at the source."""
    done = runner(ROOT)("dvc repro --dry --allow-missing")
    assert set(ran(done.stdout)) <= {"source"}
