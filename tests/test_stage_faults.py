"""Faults that any stage survives: full disk, kill -9, two runs at once, dvc's death, damaged artifacts, bad params."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from llmm.errors import UserError
from llmm.files import atomic_folder, atomic_path, read_json, write_json, write_text
from llmm.lineage import LINEAGE_FILE, open_artifact, seal
from llmm.params import load_params

ROOT = Path(__file__).parents[1]
LIMIT = 200_000  # bytes that a file may have where the disk is "full"


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_text(Path("params.yaml"), (ROOT / "params.yaml").read_text())
    return tmp_path


def start(body: str, project: Path, through_dvc: bool = False, **options) -> "subprocess.Popen[str]":
    """A process of the stage `toy`, whose main has `body`; by a script that is called dvc if so wished."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    write_text(
        project / "toy.py",
        "import os, time\nfrom pathlib import Path\nfrom llmm.files import *\nfrom pipelines.stage import run_stage\n"
        f"def main(params):\n{lines}\nrun_stage('toy', main)\n",
    )
    command = [sys.executable, "toy.py"]
    if through_dvc:
        write_text(project / "dvc", "import subprocess, sys\nsubprocess.run(sys.argv[1:])\n")
        command = [sys.executable, str(project / "dvc"), "sh", "-c", f"{sys.executable} toy.py; true"]
    # a test run in the background of a shell has Ctrl-C switched off, and its children would inherit that
    options.setdefault("preexec_fn", lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    return subprocess.Popen(
        command,
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def full_disk() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))


def wait_until(condition, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


# full disk -----------------------------------------------------------------------------------------------------------

WRITERS = {
    "text": "write_text(Path('out/file'), 'x' * 10**6)",
    "numpy": "import numpy as np\nwith atomic_path(Path('out/file')) as path:\n    np.zeros(10**6).tofile(path)",
    "npz": "import numpy as np\nwith atomic_folder(Path('out')) as folder:\n"
    "    np.savez(folder / 'a.npz', a=np.zeros(10**6))",
    "parquet": "import pyarrow as pa, pyarrow.parquet as pq, os\nwith atomic_folder(Path('out')) as folder:\n"
    "    pq.write_table(pa.table({'a': [os.urandom(1000) for _ in range(2000)]}), folder / 'a.parquet')",
    "safetensors": "import numpy as np\nfrom safetensors.numpy import save_file\n"
    "with atomic_folder(Path('out')) as folder:\n    save_file({'a': np.zeros(10**6)}, folder / 'a.safetensors')",
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_one_line_and_leaves_the_old_output(project, writer):
    write_text(project / "out" / "file", "old")
    run = start(WRITERS[writer], project, preexec_fn=full_disk)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 1
    (line,) = err.splitlines()
    assert line.startswith("toy: no room on the disk for out")
    assert (project / "out" / "file").read_text() == "old"
    assert [path.name for path in (project / "out").iterdir()] == ["file"]  # nothing half-written beside it
    assert not [path for path in project.iterdir() if path.name.startswith(".out")]


def test_other_faults_keep_their_name(tmp_path):
    with pytest.raises(ZeroDivisionError), atomic_path(tmp_path / "file") as path:
        path.write_text("half")
        raise ZeroDivisionError
    with pytest.raises(PermissionError), atomic_folder(tmp_path / "folder"):
        raise PermissionError(13, "no")
    assert list(tmp_path.iterdir()) == []


# kill -9, two runs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["path", "folder"])
def test_kill_9_leaves_the_old_output_and_the_next_run_clears_up(project, kind):
    target = project / "out"
    write = "temporary" if kind == "path" else "(temporary / 'file')"
    old, new = (target, target) if kind == "path" else (target / "file", target / "file")
    write_text(old, "old")
    body = f"with atomic_{kind}(Path('out')) as temporary:\n    {write}.write_text('new')\n"
    run = start(body + "    Path('ready').touch()\n    time.sleep(60)", project)
    wait_until((project / "ready").exists)
    run.kill()
    run.communicate()
    assert old.read_text() == "old"
    assert [path for path in project.iterdir() if path.name.startswith(".out.")]

    run = start(body, project)
    _, err = run.communicate(timeout=30)
    assert run.returncode == 0, err
    assert new.read_text() == "new"
    assert not [path for path in project.iterdir() if path.name.startswith(".out.")]


def test_what_a_living_process_is_writing_is_left_alone(tmp_path):
    with atomic_path(tmp_path / "file") as slow:
        slow.write_text("slow")
        write_text(tmp_path / "file", "fast")
    assert (tmp_path / "file").read_text() == "slow"


def test_a_second_run_is_refused_and_a_killed_one_holds_no_lock(project):
    first = start("Path('ready').touch()\ntime.sleep(60)", project)
    wait_until((project / "ready").exists)
    second = start("pass", project)
    _, err = second.communicate(timeout=30)
    assert second.returncode == 1
    assert err == "toy: another process is running the stage toy in this folder: wait for it or stop it\n"
    first.kill()
    first.communicate()
    third = start("pass", project)
    _, err = third.communicate(timeout=30)
    assert third.returncode == 0, err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_run_the_finally_blocks(project, number, code):
    body = "try:\n    Path('ready').touch()\n    time.sleep(60)\nfinally:\n    Path('cleared').touch()"
    run = start(body, project)
    wait_until((project / "ready").exists)
    run.send_signal(number)
    _, err = run.communicate(timeout=30)
    assert run.returncode == code
    assert (project / "cleared").exists()
    assert "Traceback" not in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("reaped", [True, False])
def test_a_stage_does_not_outlive_dvc(project, number, reaped):
    body = "Path('pid').write_text(str(os.getpid()))\nPath('ready').touch()\ntime.sleep(60)"
    dvc = start(body, project, through_dvc=True)
    wait_until((project / "ready").exists)
    trainer = int((project / "pid").read_text())
    dvc.send_signal(number)
    if reaped:
        dvc.wait(10)
    wait_until(lambda: ended(trainer), 10)
    dvc.communicate()


# artifacts -----------------------------------------------------------------------------------------------------------


def make(folder: Path, kind: str, content: str, parents=()):
    with atomic_folder(folder) as temporary:
        write_text(temporary / "content", content)
        return seal(temporary, kind, list(parents), folder)


def test_an_artifact_opens_and_says_what_it_is(tmp_path):
    made = make(tmp_path / "a", "tokenizer", "one")
    assert open_artifact(tmp_path / "a", "tokenizer") == made


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (lambda a: (a / "content").write_text("on"), "content is damaged or was edited"),
        (lambda a: (a / "content").unlink(), "content is missing from the tokenizer"),
        (lambda a: (a / LINEAGE_FILE).unlink(), "lineage.json is not there"),
        (lambda a: (a / LINEAGE_FILE).write_text("{"), "lineage.json is no readable JSON"),
        (lambda a: (a / LINEAGE_FILE).write_text("[]"), "lineage.json is no lineage record"),
        (
            lambda a: (a / LINEAGE_FILE).write_text('{"kind": 1, "files": 2, "sha256": 3, "made_from": 4}'),
            "no lineage record",
        ),
        (lambda a: write_json(a / LINEAGE_FILE, read_json(a / LINEAGE_FILE) | {"files": {}}), "was edited"),
        (lambda a: write_json(a / LINEAGE_FILE, read_json(a / LINEAGE_FILE) | {"made_from": 4}), "no lineage record"),
    ],
)
def test_a_damaged_artifact_is_one_line_that_names_the_file(tmp_path, fault, words):
    make(tmp_path / "a", "tokenizer", "one")
    fault(tmp_path / "a")
    with pytest.raises(UserError, match=words) as told:
        open_artifact(tmp_path / "a", "tokenizer")
    assert str(tmp_path / "a") in str(told.value) and "\n" not in str(told.value)


def test_missing_and_wrong_kinds_are_named(tmp_path):
    make(tmp_path / "a", "tokenizer", "one")
    with pytest.raises(UserError, match="a holds a tokenizer, but a model was expected"):
        open_artifact(tmp_path / "a", "model")
    with pytest.raises(UserError, match="b is not there: `dvc repro` makes the model"):
        open_artifact(tmp_path / "b", "model")


def test_swapped_artifacts_say_what_belongs_to_what(tmp_path):
    first, second = make(tmp_path / "a", "tokenizer", "one"), make(tmp_path / "b", "tokenizer", "two")
    model = make(tmp_path / "m", "model", "weights", [first])
    model.require(first)
    with pytest.raises(UserError, match=f"belongs to tokenizer {first.short}, but .*b is {second.short}"):
        model.require(second)
    with pytest.raises(UserError, match="does not say which tokenizer"):
        first.require(second)


# params.yaml ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("  n_layer:", "  n_layers:", "pretrain.n_layers is no key"),
        ("  n_layer:", "  n_layers:", "did you mean n_layer"),
        ("seed: 0 ", "seed: zero ", "seed = 'zero'"),
        ("seed: 0 ", "seed: 0.5 ", "seed = 0.5"),
        ("  n_head: 3 ", "  n_head: 5 ", "n_head: 5 does not divide d_model"),
        ("  vocab_size: 2048", "  vocab_size: 5000000000", "vocab_size"),
        ("  source: stdlib", "  source: web", "corpus.source = 'web'"),
        ("  source: stdlib", "  source: files", "path: '' but source 'files' needs"),
        ("pretrain:", "pretrain: [", "params.yaml"),
        ("seed: 0 ", "seed: 0\nseed: 1 ", "params.yaml:5"),
        ("seed: 0 ", "seed: &a [*a] ", "seed"),
        ("seed: 0 ", "seed: ", "seed = None"),
        ("seed: 0 ", "seed: \t0 ", "params.yaml:4: no valid YAML"),
    ],
)
def test_a_fault_in_params_is_one_line_with_the_key(project, old, new, words):
    text = Path("params.yaml").read_text()
    assert old in text
    Path("params.yaml").write_text(text.replace(old, new, 1))
    with pytest.raises(UserError) as told:
        load_params()
    assert words in str(told.value) and "params.yaml" in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize("content", [b"", b"3", b"- a", b"\xff\xfe\x00", b"\x00", b"a: !!python/object:os.system {}"])
def test_no_params_at_all_is_one_line(project, content):
    Path("params.yaml").write_bytes(content)
    with pytest.raises(UserError, match=r"params\.yaml") as told:
        load_params()
    assert "\n" not in str(told.value)


def test_a_stage_tells_a_fault_in_params_in_one_line(project):
    (project / "params.yaml").unlink()
    run = start("pass", project)
    _, err = run.communicate(timeout=30)
    assert (run.returncode, err) == (1, "toy: params.yaml is not there: run this in the project's folder\n")
