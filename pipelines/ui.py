"""`make ui`: Prefect's page on a free port with both flows ready to run; Ctrl-C ends all of it."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

from llmm.errors import UserError
from llmm.files import write_json
from llmm.params import load_params
from pipelines.flows.server import Server
from pipelines.flows.settings import HOME, UI_RECORD, configure
from pipelines.stage import only_one

DEPLOYMENTS = ("rag-eval/local", "agent-eval/local")


def main() -> None:
    """Start server and flows, say where they are, wait for the end."""
    load_params()  # a fault in params.yaml is told here, not in a log
    configure()
    with only_one("ui"), _server() as server, _flows(server) as flows:
        write_json(UI_RECORD, {"api_url": server.api_url})
        print(f"Prefect: {server.address}", flush=True)
        print(f"  run a flow: {server.address}/deployments, choose one, Run > Custom run; or in a shell:", flush=True)
        for name in DEPLOYMENTS:
            print(f"  PREFECT_API_URL={server.api_url} .venv/bin/prefect deployment run {name} -p limit=20", flush=True)
        print(
            f"  while it runs, `dvc repro` shows its evaluations there too; logs in {HOME}/; Ctrl-C ends it", flush=True
        )
        while True:
            for process, what in ((server.process, "the server"), (flows, "the flows")):
                if process.poll() is not None:
                    raise UserError(f"{what} ended with exit code {process.returncode}: see the logs in {HOME}/")
            time.sleep(0.5)


@contextlib.contextmanager
def _server() -> Iterator[Server]:
    server = Server(HOME, with_ui=True)
    try:
        print("starting Prefect (about ten seconds) ...", flush=True)
        if not server.wait(seconds=90):
            raise UserError(f"Prefect's server did not start: see {server.log}")
        yield server
    finally:
        UI_RECORD.unlink(missing_ok=True)
        server.stop()


@contextlib.contextmanager
def _flows(server: Server) -> Iterator["subprocess.Popen[bytes]"]:
    with (HOME / "flows.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.flows.serve", str(os.getpid())],
            env=os.environ | {"PREFECT_API_URL": server.api_url, "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for this process, which ends the others in order
        )
    try:
        _wait_for_deployments(server, process)
        yield process
    finally:
        _end_with_children(process)


def _wait_for_deployments(server: Server, process: "subprocess.Popen[bytes]") -> None:
    """Return when both flows are there to be run. Raises UserError where they do not come."""
    deadline = time.monotonic() + 90
    missing = list(DEPLOYMENTS)
    while missing:
        if process.poll() is not None or time.monotonic() > deadline:
            raise UserError(f"the flows could not be served: see {HOME}/flows.log")
        missing = [name for name in missing if not _is_served(server, name)]
        time.sleep(0.2)


def _is_served(server: Server, name: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{server.api_url}/deployments/name/{name}", timeout=5):
        return True
    return False


def _end_with_children(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM to `process` and to the flow runs that it started; SIGKILL to what is left after five seconds."""
    import psutil

    family: list[psutil.Process] = []
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(process.pid)
        family = [*root.children(recursive=True), root]
    for member in family:
        with contextlib.suppress(psutil.Error):
            member.terminate()
    _, alive = psutil.wait_procs(family, timeout=5)
    for member in alive:
        with contextlib.suppress(psutil.Error):
            member.kill()
    process.wait()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main()
    except UserError as error:
        print(f"ui: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("\nPrefect has ended")
