"""`llmm serve`: what the pipeline made, behind the server."""

import socket
from pathlib import Path

import uvicorn

from agents.capstone.assistant import Assistant
from agents.capstone.engine import Engine
from agents.capstone.server import LOOPBACK, make_app
from agents.tool_agent.agent import artifacts, load_agent
from llmm import paths
from llmm.errors import UserError


def serve(host: str, port: int, rows: int) -> None:
    """Serve until interrupted. Raises UserError where an artifact is missing or the address cannot be had."""
    listening = listen(host, port)
    assistant, weights = load_assistant(rows)
    shown = f"[{host}]" if ":" in host else host
    print(
        f"http://{shown}:{listening.getsockname()[1]}  (chat page; clients of OpenAI: /v1; Ctrl-C ends it)", flush=True
    )
    hosts = LOOPBACK if host in (*LOOPBACK, "::1") else ("*",)
    server_of(assistant, weights, hosts).run(sockets=[listening])


def load_assistant(rows: int, data: Path = paths.DATA) -> tuple[Assistant, str]:
    """The assistant over what is under `data`, and a short name of its weights."""
    agent = load_agent(data)
    engine = Engine(agent.policy.model, rows)
    return Assistant(engine, agent.policy.codec, agent.tools), artifacts(data)["adapter"].short


def server_of(assistant: Assistant, weights: str = "", hosts: tuple[str, ...] = LOOPBACK) -> uvicorn.Server:
    """A server that waits at most two seconds for answers on their way when it is to end."""
    app = make_app(assistant, weights, hosts)
    return uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2))


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises UserError where it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise UserError(f"{host}:{port}: {error.strerror or error}: choose another --host or --port") from None
