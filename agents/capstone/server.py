"""The assistant over HTTP: an OpenAI-compatible interface and a chat page, `llmm serve`.

Whoever asks has a thread of its own for the agent's loop; the engine's thread decodes all of them together. What the
loop tells goes to the client as server-sent events, and where the client goes away the loop ends.
"""

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import anyio
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from agents.capstone.assistant import Assistant, Cancelled, Event, citations
from agents.capstone.engine import EngineBusy, EngineClosed
from agents.capstone.openai_api import MODEL, Answer, ChatRequest, error_body, finish_reason, usage_of
from agents.tool_agent.loop import Limits
from agents.tool_agent.trace import Trace
from llmm.errors import UserError

PAGE = Path(__file__).with_name("page.html")
MOST_BYTES = 256 * 1024  # of a request's body
LIMITS = Limits()
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def make_app(assistant: Assistant, name: str = "", hosts: tuple[str, ...] = LOOPBACK) -> FastAPI:
    """The application. `name` says which weights answer; `hosts` are the names that it may be called by: a page that
    has another name point to this machine is turned away."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await anyio.to_thread.run_sync(assistant.engine.close)

    app = FastAPI(title="llmm", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    app.middleware("http")(_guard)
    app.exception_handler(RequestValidationError)(_bad_request)
    app.exception_handler(HTTPException)(_http_error)

    @app.get("/", response_class=HTMLResponse)
    def page() -> HTMLResponse:
        headers = {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff"}
        return HTMLResponse(PAGE.read_text(encoding="utf-8"), headers=headers)

    @app.get("/health")
    def health() -> dict[str, Any]:
        running, waiting = assistant.engine.load
        return {"status": "ok", "running": running, "waiting": waiting, "weights": name}

    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "llmm"}]}

    @app.post("/v1/chat/completions")
    async def chat(asked: ChatRequest, request: Request) -> Response:
        if asked.model != MODEL:
            message = f"there is no model {asked.model!r}; there is {MODEL!r}"
            return JSONResponse(error_body(message, "invalid_request_error", "model_not_found", "model"), 404)
        answering = _Answering(assistant, asked)
        if asked.stream:
            first = await answering.next()  # a refusal is a status, not an event
            if isinstance(first, Exception):
                return _failed(first)
            return StreamingResponse(answering.events(first), media_type="text/event-stream")
        return await answering.whole(request)

    return app


class _Answering:
    """One answer: the loop in a thread, and what it tells in the event loop."""

    def __init__(self, assistant: Assistant, asked: ChatRequest) -> None:
        self.asked, self.answer = asked, Answer(MODEL)
        self.told: asyncio.Queue[Event | Trace | Exception] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def tell(item: Event | Trace | Exception) -> None:
            with contextlib.suppress(RuntimeError):  # the server has ended in the meantime
                loop.call_soon_threadsafe(self.told.put_nowait, item)

        self.policy = assistant.policy(tell, asked.sampler, asked.seed)
        most = min(asked.most_tokens or LIMITS.tokens, LIMITS.tokens)
        limits = Limits(LIMITS.steps, min(most, LIMITS.turn_tokens), most, LIMITS.seconds)

        def work() -> None:
            try:
                tell(assistant.answer(self.policy, asked.conversation(), limits))
            except Exception as error:  # all of it is told to the client
                tell(error)

        threading.Thread(target=work, name="answer", daemon=True).start()

    async def next(self) -> Event | Trace | Exception:
        """What is told next; the last thing is a trace or what went wrong."""
        return await self.told.get()

    async def events(self, first: Event | Trace) -> AsyncIterator[str]:
        """The stream of an answer. A call and its result stand in a field `event`, the whole trace in `trace`."""
        try:
            yield _event(self.answer.chunk({"role": "assistant", "content": ""}))
            item: Event | Trace | Exception = first
            while isinstance(item, Event):
                delta = {"content": item.text} if item.kind == "text" else {}
                beside = {} if item.kind == "text" else {"event": asdict(item)}
                yield _event(self.answer.chunk(delta, beside=beside))
                item = await self.next()
            if isinstance(item, Exception):
                yield _event(_error_of(item)[0])
                return
            yield _event(self.answer.chunk({}, finish_reason(item), _beside(item)))
            if self.asked.stream_options and self.asked.stream_options.include_usage:
                yield _event(self.answer.usage_chunk(usage_of(self.policy.tokens_read, item)))
            yield "data: [DONE]\n\n"
        finally:  # also where the client has gone
            self.policy.cancel()

    async def whole(self, request: Request) -> Response:
        """The answer in one piece: what a stream would have said, also where it did not come to an end."""
        said = ""
        try:
            while isinstance(item := await self._next_or_gone(request), Event):
                said += item.text if item.kind == "text" else ""
        finally:
            self.policy.cancel()
        if isinstance(item, Exception):
            return _failed(item)
        usage = usage_of(self.policy.tokens_read, item)
        return JSONResponse(self.answer.whole(said, item, usage, _beside(item)))

    async def _next_or_gone(self, request: Request) -> Event | Trace | Exception:
        """What is told next, or Cancelled where the client has gone meanwhile."""
        while True:
            try:
                return await asyncio.wait_for(self.next(), 0.5)
            except TimeoutError:
                if await request.is_disconnected():
                    return Cancelled()


def _beside(trace: Trace) -> dict[str, Any]:
    """Our own fields of an answer: how it came about, and what its searches brought."""
    return {"trace": trace.to_json(), "citations": citations(trace)}


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def _error_of(error: Exception) -> tuple[dict[str, Any], int]:
    """The body and the status for what went wrong."""
    if isinstance(error, EngineBusy):
        return error_body(f"{error}: try again later", "rate_limit_error", "queue_full"), 429
    if isinstance(error, (EngineClosed, Cancelled)):
        return error_body("the server is shutting down", "server_error"), 503
    if isinstance(error, UserError):
        return error_body(str(error), "invalid_request_error", "context_length_exceeded", "messages"), 400
    return error_body("the answer failed", "server_error"), 500


def _failed(error: Exception) -> JSONResponse:
    body, status = _error_of(error)
    return JSONResponse(body, status, headers={"Retry-After": "1"} if status == 429 else None)


async def _bad_request(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    return JSONResponse(error_body(f"{where}: {first['msg']}", "invalid_request_error", None, where or None), 400)


async def _http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse(error_body(str(error.detail), "invalid_request_error"), error.status_code)


async def _guard(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
    """Turn away what a page of another origin sends, and bodies that are too long or do not say how long they are."""
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
        return JSONResponse(error_body("pages of other origins may not ask here", "invalid_request_error"), 403)
    if request.method == "POST":
        length = request.headers.get("content-length", "")
        if not length.isdecimal():
            return JSONResponse(error_body("the length of the body is missing", "invalid_request_error"), 411)
        if int(length) > MOST_BYTES:
            message = f"the body has {length} bytes, at most {MOST_BYTES} are read"
            return JSONResponse(error_body(message, "invalid_request_error"), 413)
    return await go_on(request)
