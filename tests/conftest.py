"""A copy of the project in which the whole pipeline has run at toy size, made once for the tests that need it.

`make test` runs two processes side by side (pytest-xdist). All tests of a file stay in one of them, so that what a file
sets up is set up once, and all tests on the copy stay together, whatever their file.
"""

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
# in this order, the longest first: then both processes end at about the same time
FIRST = (
    "smoke", "test_lora_finetune", "test_pipeline", "test_flows", "test_pretraining", "test_gpt", "test_agent_loop",
    "test_ladder_chain", "test_agent_evidence",
)  # fmt: skip

if "PYTEST_XDIST_WORKER" in os.environ:  # before any test imports a library that reads it
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test the group of those that run in the same process, and put the longest groups first."""
    groups = {item: _group(item) for item in items}
    for item, group in groups.items():
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: FIRST.index(groups[item]) if groups[item] in FIRST else len(FIRST))


def _group(item: pytest.Item) -> str:
    if "smoke" in getattr(item, "fixturenames", ()):
        return "smoke"
    # two files count the Prefect servers of this tree
    return "test_flows" if item.path.stem.startswith("test_flows") else item.path.stem


def project_files() -> list[str]:
    """Files that git tracks, or would if they were added, as they are in the working tree."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def copy_project(folder: Path) -> Path:
    """The project's files in a git repository of their own, with this environment's `.venv`."""
    for name in project_files():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    for command in (
        ["git", "init", "-q", "-b", "main"],
        ["git", "add", "-A"],
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "copy"],
    ):
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


def where_they_belong_together(document: str, measured: str, scratch: Path) -> Path:
    """The working tree, or the last commit, in `scratch`, where `measured` has changed and `document` has not.

    Who runs the pipeline has other seconds than the README, whose own are those of the commit.
    """

    def touched(name: str) -> bool:
        status = ["git", "status", "--porcelain", "--", name]
        return bool(subprocess.run(status, cwd=ROOT, check=True, capture_output=True).stdout)

    if touched(document) or not touched(measured):
        return ROOT
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(scratch, filter="data")
    return scratch


def environment(folder: Path) -> dict[str, str]:
    """What a shell in `folder` has once the environment is active."""
    # and __pycache__ is written, as on most machines
    foreign = ("PREFECT", "DVC_", "LLMM_", "PYTHONDONTWRITEBYTECODE")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
    return clean | {
        "PATH": f"{ROOT / '.venv/bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(folder),
        "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.org",
        "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@example.org",
    }  # fmt: skip


def runner(folder: Path) -> Run:
    """Runs a shell command in `folder`; fails the test where it fails, unless `check` is False."""

    def run(command: str, check: bool = True, timeout: float = 600) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            command, shell=True, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=timeout
        )
        if check:
            assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done

    return run


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which `make repro PRESET=smoke` has run."""
    folder = copy_project(tmp_path_factory.mktemp("smoke"))
    done = runner(folder)("make repro PRESET=smoke", timeout=1500)
    (folder / "repro.log").write_text(done.stdout + done.stderr)
    runner(folder)("git add -A && git commit -qm smoke")
    return folder
