"""Prefect's surroundings: a home inside the project, no telemetry, a server that answers or none.

Call `configure` before `prefect` is imported: it reads the environment once, at import.
"""

import contextlib
import http.client
import importlib
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from llmm.files import read_json
from pipelines.flows.server import Server

HOME = Path(".prefect")
UI_RECORD = HOME / "ui.json"  # where the server of `make ui` is, while it runs


def configure() -> None:
    """Set the environment of this process and its children: home, telemetry off, quiet console.

    Logs still go to the server, where the UI shows them. What the user has set stays, but for the home: results that an
    earlier run stored must be found again.
    """
    os.environ["PREFECT_HOME"] = str(HOME.absolute())
    os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
    os.environ["DO_NOT_TRACK"] = "1"
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW", "ignore")


def answers(api_url: str, seconds: float = 2.0) -> bool:
    """Whether a server of Prefect answers at `api_url` (which ends in /api) within `seconds`.

    Its word that it is well is `true`; a server that asks who we are first is taken for one.
    """
    try:
        with urllib.request.urlopen(f"{api_url.rstrip('/')}/health", timeout=seconds) as response:
            return response.read(16).strip() == b"true"
    except urllib.error.HTTPError as refusal:
        return refusal.code in (401, 403)
    except (OSError, ValueError, http.client.HTTPException):  # nobody there, no address, no HTTP
        return False


@contextlib.contextmanager
def running_server(say: Callable[[str], None]) -> Iterator[str | None]:
    """Yield the API address of a server, with PREFECT_API_URL set to it, or None where none could be started.

    In this order: PREFECT_API_URL if it answers, the server of a running `make ui`, one of our own that ends with this
    process. `say` is told in one line what the user could not expect.
    """
    configure()
    given = os.environ.get("PREFECT_API_URL")
    if given and answers(given):
        yield given
        return
    if given:
        say(f"PREFECT_API_URL = {given} does not answer: using a server of this run's own")
    if ui := _ui_of_this_project():
        os.environ["PREFECT_API_URL"] = ui
        yield ui
        return
    server = Server(HOME, with_ui=False)
    os.environ["PREFECT_API_URL"] = server.api_url
    importlib.import_module("prefect.flows")  # takes a second, better spent while the server starts
    if not server.wait(seconds=90):
        server.stop()
        os.environ.pop("PREFECT_API_URL")
        say(f"Prefect's server did not start (see {server.log}): running without it")
        yield None
        return
    # Prefect sends its last logs and events while the interpreter exits, so the server ends after this process
    yield server.api_url


def _ui_of_this_project() -> str | None:
    if not UI_RECORD.is_file():
        return None
    url = read_json(UI_RECORD).get("api_url", "")
    return url if answers(url) else None
