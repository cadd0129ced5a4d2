"""A Prefect server as a child process that cannot outlive its parent.

Prefect's own temporary server is left running when the process that started it is killed; this one looks twice a second
whether its parent is still there.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path


def free_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A Prefect server on a free port of 127.0.0.1, started at once; `wait` until it answers."""

    def __init__(self, home: Path, with_ui: bool) -> None:
        home.mkdir(parents=True, exist_ok=True)
        port = free_port()
        self.address = f"http://127.0.0.1:{port}"
        self.api_url = f"{self.address}/api"
        self.log = home / "server.log"
        environment = {key: value for key, value in os.environ.items() if key != "PREFECT_API_URL"}
        # without these the page asks port 4200, whatever port it came from
        environment |= {"PREFECT_SERVER_API_PORT": str(port), "PREFECT_UI_API_URL": self.api_url}
        if not with_ui:
            environment |= {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pipelines.flows.server", str(port), str(os.getpid())],
                cwd=Path(__file__).parents[2],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the parent, which ends this one in order
            )

    def wait(self, seconds: float) -> bool:
        """Whether the server answers within `seconds`. The first start of a home makes its database: about 10 s."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.api_url}/health", timeout=2):
                return True
            time.sleep(0.1)
        return False

    def stop(self, seconds: float = 5) -> None:
        """End the server, at the latest after `seconds` by force."""
        self.process.terminate()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def follow_parent_into_death(parent: int) -> None:
    """Send SIGTERM to this process when its parent is no longer `parent`, and end it by force five seconds later.

    The parent tells its own number: it may be gone before this process has come so far as to ask for it.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
        os._exit(143)

    threading.Thread(target=watch, daemon=True, name="follow-parent").start()


def main(port: int, parent: int) -> None:
    """Serve until a signal comes or the parent goes."""
    follow_parent_into_death(parent)
    import uvicorn

    uvicorn.run(
        "prefect.server.api.server:create_app",
        factory=True,
        host="127.0.0.1",
        port=port,
        log_level="error",
        lifespan="on",
        timeout_graceful_shutdown=2,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
