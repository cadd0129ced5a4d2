"""The flows by Prefect against a server of the tests' own: stored batches, retries, artifacts, faults of the server."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest
from toy_flow import TOY

from llmm.errors import UserError
from llmm.files import write_text
from llmm.params import load_params
from pipelines.flows.engine import Options, Outcome, run_plainly
from pipelines.flows.parameters import overridden
from pipelines.flows.server import Server, free_port
from pipelines.flows.settings import answers, running_server

ROOT = Path(__file__).parents[1]
PARAMS = load_params(ROOT / "params.yaml")


@pytest.fixture(scope="session")
def api_url() -> Iterator[str]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        os.environ |= {"PREFECT_HOME": home, "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
        os.environ |= {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL"}
        from prefect.settings import PREFECT_API_URL
        from prefect.testing.utilities import prefect_test_harness

        with prefect_test_harness(server_startup_timeout=180):
            yield str(PREFECT_API_URL.value())


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project with its own stored results, and the toy's folder beside it."""
    from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings

    toy = tmp_path / "toy"
    (toy / "fail").mkdir(parents=True)
    monkeypatch.setenv("TOY_FOLDER", str(toy))
    monkeypatch.chdir(tmp_path)
    write_text(Path("params.yaml"), (ROOT / "params.yaml").read_text())
    with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: str(tmp_path / "storage")}):
        yield tmp_path


def by_prefect(options: Options = Options(), params=PARAMS, runner="threads") -> Outcome:  # noqa: B008
    from prefect import flow

    from pipelines.flows.fanout import run_in_home

    def run() -> Outcome:
        return run_in_home(TOY, params, options, runner)

    return flow(name="toy")(run)()


def scored(project: Path) -> list[str]:
    log = project / "toy" / "log"
    return log.read_text().splitlines() if log.exists() else []


def test_a_flow_gives_the_metrics_and_rows_of_a_plain_run(api_url, project):
    flow, plain = by_prefect(), run_plainly(TOY, PARAMS, Options(), project / "figures")
    assert flow.rows == plain.rows
    assert json.dumps(flow.report.metrics) == json.dumps(plain.report.metrics)
    (folder,) = (project / ".prefect" / "reports").iterdir()
    assert json.loads((folder / "metrics.json").read_text()) == plain.report.metrics
    assert (folder / "values.svg").exists()


def test_what_is_stored_is_scored_again_only_for_other_parameters_or_on_demand(api_url, project):
    assert by_prefect().reused == 0
    assert by_prefect().reused == 6
    assert len(scored(project)) == 6
    other = by_prefect(params=overridden(PARAMS, "rag_eval", top_k=3))
    assert other.reused == 0 and other.rows[0]["pair"] == [0, 3]
    assert by_prefect(Options(fresh=True)).reused == 0
    assert len(scored(project)) == 18


def test_the_stored_rows_of_other_code_are_not_used(api_url, project, monkeypatch):
    by_prefect()
    monkeypatch.setattr("pipelines.flows.revisions.of_code", lambda module: "edited")
    assert by_prefect().reused == 0


def test_a_stored_result_that_was_cut_short_is_scored_again(api_url, project):
    by_prefect()
    stored = [file for file in (project / "storage").rglob("*") if file.is_file()]
    for file in stored[:2]:
        file.write_bytes(file.read_bytes()[:40])
    outcome = by_prefect()
    assert len(outcome.rows) == 16
    assert len(scored(project)) == 8


def test_a_failing_batch_is_retried_then_reported_and_alone_redone(api_url, project):
    write_text(project / "toy" / "fail" / "cubes-2", "1")
    write_text(project / "toy" / "fail" / "squares-4", "3")
    with pytest.raises(UserError, match=r"1 of 6 batches failed 3 times, the first \(squares 4-8\) with RuntimeError"):
        by_prefect(Options(workers=3))
    assert scored(project).count("cubes 2-4") == 2
    assert scored(project).count("squares 4-8") == 3
    before = len(scored(project))
    assert by_prefect().reused == 5
    assert scored(project)[before:] == ["squares 4-8"]


def test_artifacts_are_there_to_look_at(api_url, project):
    from prefect.client.orchestration import get_client

    by_prefect(Options(suites=("cubes",)))
    with get_client(sync_client=True) as client:
        newest_last = sorted(client.read_artifacts(limit=200), key=lambda artifact: artifact.created)
    found = {artifact.key: artifact for artifact in newest_last}
    assert {key: found[key].type for key in found if key and key.startswith("toy")} == {
        "toy-report": "markdown",
        "toy-metrics": "table",
        "toy-means-by-suite": "table",
        "toy-values": "image",
        "toy-progress": "progress",
    }
    assert {"metric": "items", "value": 6} in json.loads(found["toy-metrics"].data)
    assert found["toy-values"].data.startswith("data:image/svg+xml;base64,")


def test_dask_gives_the_same_rows(api_url, project, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{ROOT / 'tests'}")
    assert by_prefect(runner="dask").rows == by_prefect().rows
    assert len(scored(project)) == 6  # by Dask; the threads found them stored


def test_both_flows_explain_their_parameters_with_the_defaults_of_params_yaml(api_url):
    from pipelines.flows.agent_eval import agent_eval
    from pipelines.flows.rag_eval import rag_eval

    for flow in (rag_eval, agent_eval):
        assert flow.description
        schema = flow.parameters.properties
        assert all(schema[name].get("description") for name in schema), schema
    assert rag_eval.parameters.properties["top_k"]["default"] == PARAMS.rag_eval.top_k
    assert agent_eval.parameters.properties["max_steps"]["default"] == PARAMS.agent_eval.max_steps


# stages as processes -------------------------------------------------------------------------------------------------


def stage(project: Path, *arguments: str, api: str | None) -> "subprocess.Popen[str]":
    """Start `python -m toy_flow` in `project`, with PREFECT_API_URL = `api`."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT")}
    environment |= {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "LLMM_WORKERS": "1"}
    environment |= {"PREFECT_API_URL": api} if api else {}
    return subprocess.Popen(
        [sys.executable, "-m", "toy_flow", *arguments],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(condition, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def servers() -> set[int]:
    """Servers of this tree: a copy of the project, tested at the same time, has its own."""
    return {
        process.pid
        for process in psutil.process_iter(["cmdline", "cwd"])
        if "pipelines.flows.server" in (process.info["cmdline"] or []) and process.info["cwd"] == str(ROOT)
    }


def test_a_killed_run_leaves_only_the_missing_batches_to_the_next(api_url, project):
    write_text(project / "toy" / "slow", "0.4")
    first = stage(project, api=api_url)
    wait_until(lambda: len(scored(project)) == 3)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert not (project / "data" / "metrics" / "toy.json").exists()
    (project / "toy" / "slow").unlink()

    second = stage(project, api=api_url)
    out, err = second.communicate(timeout=60)
    assert second.returncode == 0, err
    # the third was under way when the run was killed, so it is scored a second time
    assert len(scored(project)) == 7 and len(set(scored(project))) == 6
    assert "2 of them from an earlier run" in out
    by_flow = (project / "data" / "metrics" / "toy.json").read_bytes()
    rows = (project / "data" / "evaluations" / "toy.jsonl").read_bytes()

    plain = stage(project, "--no-prefect", api=None)
    plain.communicate(timeout=60)
    assert (project / "data" / "metrics" / "toy.json").read_bytes() == by_flow
    assert (project / "data" / "evaluations" / "toy.jsonl").read_bytes() == rows
    assert (project / "visualizations" / "toy" / "values.svg").exists()


def test_a_dead_server_address_is_told_in_one_line_and_the_run_goes_on(api_url, project):
    before = servers()
    dead = f"http://127.0.0.1:{free_port()}/api"
    run = stage(project, api=dead)
    out, err = run.communicate(timeout=120)
    assert run.returncode == 0, err
    assert err.splitlines() == [f"toy: PREFECT_API_URL = {dead} does not answer: using a server of this run's own"]
    assert "toy: 6/6 batches" in out and len(out.splitlines()) < 8
    wait_until(lambda: servers() <= before, 10)  # its own server ends with it


def test_sigterm_ends_a_run_quickly_and_quietly(api_url, project):
    write_text(project / "toy" / "slow", "0.5")
    run = stage(project, api=api_url)
    wait_until(lambda: len(scored(project)) == 1)
    run.terminate()
    started = time.monotonic()
    _, err = run.communicate(timeout=60)
    assert run.returncode != 0
    assert time.monotonic() - started < 30
    assert "Traceback" not in err


def test_a_silent_address_costs_two_seconds_at_most():
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        assert not answers(f"http://127.0.0.1:{silent.getsockname()[1]}/api")
        assert time.monotonic() - started < 2.5
    assert not answers("no address at all")


@pytest.mark.parametrize(
    ("status", "said", "is_prefect"),
    [(200, b"true", True), (401, b"", True), (403, b"", True), (200, b"<html>", False), (404, b"true", False)],
)
def test_another_service_at_the_address_is_not_taken_for_prefect(status, said, is_prefect):
    class Other(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.handle_request, daemon=True).start()
        assert answers(f"http://127.0.0.1:{other.server_port}/api") == is_prefect


def test_a_server_does_not_outlive_a_parent_that_is_killed(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from pipelines.flows.server import Server;"
        f"print(Server(Path({str(tmp_path)!r}), with_ui=False).process.pid, flush=True); time.sleep(60)"
    )
    environment = os.environ | {"PREFECT_HOME": str(tmp_path)}
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=subprocess.PIPE)
    assert parent.stdout
    server = int(parent.stdout.readline())
    assert psutil.pid_exists(server)  # and is killed before it has come far: it must notice that too
    parent.kill()
    parent.communicate()
    wait_until(lambda: not psutil.pid_exists(server) or psutil.Process(server).status() == "zombie", 10)


def test_without_any_server_the_run_goes_on_plainly(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("PREFECT_API_URL", "PREFECT_HOME"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(Server, "wait", lambda self, seconds: False)
    said: list[str] = []
    with running_server(said.append) as api_url:
        assert api_url is None
    assert "did not start" in said[0] and "running without it" in said[0]
