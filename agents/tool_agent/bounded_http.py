"""HTTP with a model server that is not trusted: it learns the key that is meant for it and nothing else, and it can
neither hold a turn for ever nor fill the memory.
"""

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextvars import ContextVar
from threading import Thread
from typing import TypeVar

import httpx2 as httpx
import openai

MOST_BYTES = 8_000_000
_END = ContextVar("_END", default=math.inf)  # of what a thread asks for, on the clock of time.monotonic
T = TypeVar("T")


def within(seconds: float, ask: Callable[[], T]) -> T:
    """What `ask` gives; raises TimeoutError after `seconds`.

    No timeout of a socket bounds a whole request: a header may drip for ever. So it has a thread of its own, which is
    left behind; it may hold a socket until the process ends, but sends no further request.
    """
    given: Future[T] = Future()
    end = time.monotonic() + seconds

    def work() -> None:
        _END.set(end)
        try:
            given.set_result(ask())
        except Exception as error:
            given.set_exception(error)

    Thread(target=work, daemon=True).start()
    return given.result(seconds)


def bounded_client(key: str, timeout: float) -> httpx.Client:
    """A client for `openai`, to be used under `within`, that sends `key` as its only secret.

    Raises httpx.ReadTimeout where a read takes `timeout` seconds, the time of `within` is over, or an answer has more
    than MOST_BYTES; compressed ones are not asked for and not unpacked, since a megabyte can hold a thousand.
    """

    def rewrite(request: httpx.Request) -> None:
        if time.monotonic() > _END.get():  # nobody waits for the answer any more
            raise httpx.ReadTimeout("the time is over", request=request)
        length = str(len(request.read()))
        request.headers.clear()  # of OPENAI_ORG_ID, OPENAI_CUSTOM_HEADERS, statistics
        request.headers.update(
            {
                "host": request.url.netloc.decode(),
                "authorization": f"Bearer {key}",
                "user-agent": "llmm",
                "accept": "application/json",
                "accept-encoding": "identity",
                "connection": "keep-alive",
                "content-type": "application/json",
                "content-length": length,
                "x-stainless-raw-response": "true",  # by which the library knows what to make of the answer
            }
        )

    def keep_packed(response: httpx.Response) -> None:
        response.headers.pop("content-encoding", None)

    return openai.DefaultHttpxClient(
        transport=_BoundedTransport(),
        event_hooks={"request": [rewrite], "response": [keep_packed]},
        timeout=timeout,
        follow_redirects=False,
    )


class _BoundedTransport(httpx.HTTPTransport):
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        assert isinstance(response.stream, httpx.SyncByteStream)
        response.stream = _BoundedStream(response.stream, request)
        return response


class _BoundedStream(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream, request: httpx.Request) -> None:
        self._stream, self._request = stream, request

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for chunk in self._stream:
            size += len(chunk)
            if time.monotonic() > _END.get() or size > MOST_BYTES:
                raise httpx.ReadTimeout("the answer takes too long or is too long", request=self._request)
            yield chunk

    def close(self) -> None:
        self._stream.close()
