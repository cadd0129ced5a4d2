"""`make ui`: the page comes from this machine alone, both flows can be run, and nothing is left behind."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil

from llmm.files import write_text

ROOT = Path(__file__).parents[1]


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode("utf-8", "replace")


def test_the_page_is_local_serves_both_flows_and_ends_without_a_trace(tmp_path):
    write_text(tmp_path / "params.yaml", (ROOT / "params.yaml").read_text())
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT")}
    ui = subprocess.Popen(
        [sys.executable, "-m", "pipelines.ui"],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert ui.stdout
        lines = iter(ui.stdout.readline, "")
        address = next(line.split()[1] for line in lines if line.startswith("Prefect: "))
        index = get(address)
        wanted = re.findall(r'(?:src|href)="([^"]+)"', index)
        assert wanted and all(link.startswith("/") for link in wanted)
        assert all(get(address + link) for link in wanted if link.startswith("/assets/"))
        assert f'"api_url":"{address}/api"' in get(f"{address}/ui-settings")
        for name in ("rag-eval", "agent-eval"):
            assert "workers" in get(f"{address}/api/deployments/name/{name}/local")
        family = psutil.Process(ui.pid).children(recursive=True)
        assert len(family) >= 2
        ui.send_signal(signal.SIGTERM)
        assert ui.wait(30) == 143
        deadline = time.monotonic() + 10
        while any(process.is_running() for process in family):
            assert time.monotonic() < deadline, family
            time.sleep(0.1)
        assert not (tmp_path / ".prefect" / "ui.json").exists()
    finally:
        with contextlib.suppress(psutil.Error):
            for process in [*psutil.Process(ui.pid).children(recursive=True), psutil.Process(ui.pid)]:
                process.kill()
