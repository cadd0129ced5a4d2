"""An HTTP client for a model server that is not trusted: it learns the key that is meant for it and nothing else, and
it can neither hold a turn for ever nor fill the memory.
"""

import time
from collections.abc import Iterator

import httpx2 as httpx
import openai

MOST_BYTES = 8_000_000
# what a request needs, and a mark by which the library knows what to make of the answer; of its own it would add
# OPENAI_ORG_ID, OPENAI_CUSTOM_HEADERS and statistics
_NEEDED = {
    "host", "connection", "accept", "accept-encoding", "content-type", "content-length", "user-agent",
    "x-stainless-raw-response",
}  # fmt: skip


def bounded_client(key: str, timeout: float) -> httpx.Client:
    """A client for `openai` that sends `key` as its only secret.

    `timeout` seconds for each read, and for the whole of an answer once it has begun: then httpx.ReadTimeout, as for a
    body beyond MOST_BYTES.
    """

    def strip(request: httpx.Request) -> None:
        for name in set(request.headers) - _NEEDED:
            del request.headers[name]
        request.headers["authorization"] = f"Bearer {key}"

    return openai.DefaultHttpxClient(
        transport=_BoundedTransport(timeout), event_hooks={"request": [strip]}, timeout=timeout, follow_redirects=False
    )


class _BoundedTransport(httpx.HTTPTransport):
    def __init__(self, timeout: float) -> None:
        super().__init__()
        self._timeout = timeout

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        assert isinstance(response.stream, httpx.SyncByteStream)
        response.stream = _BoundedStream(response.stream, self._timeout, request)
        return response


class _BoundedStream(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream, timeout: float, request: httpx.Request) -> None:
        self._stream, self._request, self._timeout = stream, request, timeout

    def __iter__(self) -> Iterator[bytes]:
        deadline, size = time.monotonic() + self._timeout, 0
        for chunk in self._stream:
            size += len(chunk)
            if time.monotonic() > deadline or size > MOST_BYTES:
                raise httpx.ReadTimeout("the answer takes too long or is too long", request=self._request)
            yield chunk

    def close(self) -> None:
        self._stream.close()
