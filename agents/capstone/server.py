"""The capstone's HTTP server: the OpenAI-compatible API and the chat page, on this machine alone unless told otherwise.

A page of another site can make a browser send requests here, so: a request that says which site it comes from must come
from this one, and while the server listens on the loopback address alone, it must be addressed by a name of that
address, since any other name (DNS rebinding) is a foreign site's. What is asked and answered is never logged.
"""

import asyncio
import base64
import hashlib
import ipaddress
import os
import re
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from agents.capstone.chat_protocol import Answer, ApiError, Call, End, event, read_request
from agents.capstone.engine import ROWS
from agents.capstone.service import Event, Service
from llmm.errors import UserError

MOST_BYTES = 1 << 18  # of a request's body
_SECONDS_TO_END = 10  # for requests in hand when the server is told to stop: what a tool may take
_PAGE = Path(__file__).with_name("page.html")


def serve(host: str = "127.0.0.1", port: int = 8000, rows: int = ROWS) -> None:
    """Serve the assistant of this project until interrupted, `rows` answers at a time.

    Raises UserError where an artifact is missing or the address cannot be had.
    """
    listening = listen(host, port)  # first: a port that is taken needs no model
    with listening:
        import torch

        from agents.tool_agent.agent import load_agent

        torch.set_num_threads(max(1, (os.cpu_count() or 1) - 1))  # one core for the web and the tools
        # the engine's thread wants the interpreter back after each of many short operations, sooner than Python's 5 ms
        sys.setswitchinterval(0.0005)
        agent = load_agent()
        for call in (
            '{"name":"search_docs","arguments":{"query":"warm up"}}',
            '{"name":"python","arguments":{"code":"1"}}',
        ):
            agent.tools.call(call)  # what is made at the first use is made now, and once
        service = Service(agent.policy.model, agent.policy.codec, agent.tools, rows)
        address = _address(listening)
        beyond = "" if is_loopback(host) else ", for everyone who can reach this machine, without a password"
        print(f"{address} (chat page), {address}/v1 (OpenAI-compatible API){beyond}; ctrl-C ends it", flush=True)
        run(service, listening, host)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at `host` and `port` (0: any that is free). Raises UserError where it cannot."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except (OSError, UnicodeError) as error:  # no such address, or nothing that could be one
        why = str(getattr(error, "strerror", error)).partition(" (")[0]  # the address is said twice otherwise
        raise UserError(f"cannot listen at {host} port {port} ({why}): choose another --host or --port") from None


def run(service: Service, listening: socket.socket, host: str) -> None:
    """Answer what arrives at `listening` until a signal to stop. Raises UserError where the engine breaks down."""
    server = Server(service, host)
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:  # the ordinary end, which uvicorn tells again
        pass
    finally:
        service.close()
        service.engine.join()
    if (fault := service.engine.fault) is not None:
        raise UserError(f"the engine broke down ({type(fault).__name__}: {fault}): start the server again")


class Server(uvicorn.Server):
    """A server that gives up the requests in hand when it is told to stop, and stops when its engine breaks down."""

    def __init__(self, service: Service, host: str) -> None:
        self.service = service
        super().__init__(
            uvicorn.Config(
                make_app(service, host),
                access_log=False,
                log_level="warning",
                lifespan="off",
                server_header=False,
                timeout_graceful_shutdown=_SECONDS_TO_END,
            )
        )

    async def on_tick(self, counter: int) -> bool:
        """See uvicorn: ten times a second, whether to stop."""
        return await super().on_tick(counter) or self.service.engine.fault is not None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        self.service.close()
        await super().shutdown(sockets)


def make_app(service: Service, host: str) -> FastAPI:
    """The application, for a server bound to `host`."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(SameSite, loopback=is_loopback(host))
    page, policy = _page()
    started = int(time.time())
    models = {
        name: {"id": name, "object": "model", "created": started, "owned_by": "llm-engineering-mastery"}
        for name in service.served
    }

    @app.get("/")
    async def chat_page() -> HTMLResponse:
        headers = {
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        }
        return HTMLResponse(page, headers=headers)

    @app.get("/health")
    async def health() -> JSONResponse:
        running, waiting = service.engine.load
        closed = service.engine.closed
        state = {"status": "closed" if closed else "ok", "running": running, "waiting": waiting}
        return JSONResponse(state, 503 if closed else 200)

    @app.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        return {"object": "list", "data": list(models.values())}

    @app.get("/v1/models/{name}")
    async def one_model(name: str) -> dict[str, Any]:
        if name not in models:
            raise ApiError(404, f"there is no model {name!r:.80}", "model", "model_not_found")
        return models[name]

    @app.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        asked = read_request(await _body(request))
        events, answer = service.answer(asked), Answer(asked.model)
        if asked.stream:
            headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
            chunks = _chunks(events, answer, asked.include_usage)
            return StreamingResponse(chunks, media_type="text/event-stream", headers=headers)
        return JSONResponse(await _unless_gone(request, events, answer))

    @app.exception_handler(ApiError)
    async def refused(_: Request, error: ApiError) -> JSONResponse:
        return _refusal(error)

    @app.exception_handler(HTTPException)
    async def no_such_path(request: Request, error: HTTPException) -> JSONResponse:
        return _refusal(ApiError(error.status_code, f"{request.method} {request.url.path:.80}: {error.detail}"))

    @app.exception_handler(Exception)
    async def fault(_: Request, __: Exception) -> JSONResponse:
        return _refusal(ApiError(500, "a fault of the server"))

    return app


async def _chunks(events: AsyncIterator[Event], answer: Answer, include_usage: bool) -> AsyncIterator[bytes]:
    """The answer as server-sent events; an error that comes too late for a status is one of them."""
    yield event(answer.begin())
    async for happened in events:
        if isinstance(happened, str):
            yield event(answer.text(happened))
        elif isinstance(happened, Call):
            yield event(answer.call(happened))
        elif isinstance(happened, End):
            yield event(answer.end(happened))
            if include_usage:
                yield event(answer.usage(happened))
        else:
            yield event(happened.body())
    yield event("[DONE]")


async def _whole(events: AsyncIterator[Event], answer: Answer) -> dict[str, Any]:
    """The answer in one piece. Raises ApiError where it failed."""
    text, calls, end = "", {}, None
    async for happened in events:
        if isinstance(happened, str):
            text += happened
        elif isinstance(happened, Call):
            calls[happened.number] = happened
        elif isinstance(happened, End):
            end = happened
        else:
            raise happened
    assert end is not None
    return answer.whole(text, list(calls.values()), end)


async def _unless_gone(request: Request, events: AsyncIterator[Event], answer: Answer) -> dict[str, Any]:
    """The answer in one piece; when the client goes, it is given up."""
    whole = asyncio.ensure_future(_whole(events, answer))
    gone = asyncio.ensure_future(request.receive())  # the body was read: what comes next is that the client has gone
    try:
        await asyncio.wait({whole, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not whole.done():
            raise _gone()
        return whole.result()
    finally:
        whole.cancel()
        gone.cancel()


async def _body(request: Request) -> bytes:
    """The body of a request. Raises ApiError 415 where it is not JSON, 413 too long, 499 where the client goes."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ApiError(415, "expected the content type application/json")
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > MOST_BYTES:
                raise ApiError(413, f"the body has more than {MOST_BYTES} bytes", code="body_too_long")
    except ClientDisconnect:
        raise _gone() from None
    return bytes(body)


def _gone() -> ApiError:
    return ApiError(499, "the client has gone")


def _refusal(error: ApiError) -> JSONResponse:
    headers = {"Retry-After": "1"} if error.status == 429 else None
    return JSONResponse(error.body(), error.status, headers)


class SameSite:
    """Refuses what another site's page makes a browser send; see the module."""

    def __init__(self, app: ASGIApp, loopback: bool) -> None:
        self.app, self.loopback = app, loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http" and (fault := self._fault(Headers(scope=scope))):
            await _refusal(ApiError(403, fault, code="forbidden"))(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _fault(self, headers: Headers) -> str:
        host = headers.get("host", "")
        if self.loopback and not is_loopback(re.sub(r":\d+$", "", host.lower()).strip("[]")):
            return "this server is addressed as localhost, 127.0.0.1 or [::1]"
        origin = headers.get("origin")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            return "requests from pages of other sites are refused"
        return ""


def is_loopback(host: str) -> bool:
    """Whether `host` is a name or number of this machine for itself alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _page() -> tuple[str, str]:
    """The chat page, and the policy under which it runs: its own script and style, and requests to this server."""
    page = _PAGE.read_text(encoding="utf-8")
    allowed = [
        "default-src 'none'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
    for tag in ("script", "style"):
        (inline,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        allowed.append(f"{tag}-src 'sha256-{digest}'")
    return page, "; ".join(allowed)


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
