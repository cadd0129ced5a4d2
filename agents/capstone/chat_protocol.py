"""What OpenAI's chat completions API asks and answers: requests read and checked, answers and errors written.

Source: OpenAI's API reference, "Create chat completion". What an answer here has beyond it, its clients ignore or hand
on: `trace`, the calls of tools; `citations`, the sources that a search brought; `ended`, why the agent stopped. An
assistant's message that is sent back with its `trace` is read as it was written, calls and results in their places.
`max_tokens` and `completion_tokens` count every token that the model writes for an answer: calls of tools, and the
tokens that begin and end a turn, with its text.
"""

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from llmm.training.lora.chat import Message
from llmm.transformers.gpt.sampling import Sampler

# what is asked for in other words here is refused rather than ignored: it would change the answer
_ONLY: dict[str, Any] = {
    "n": 1,
    "tools": [],
    "functions": [],
    "logprobs": False,
    "logit_bias": {},
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "response_format": {"type": "text"},
}


class ApiError(Exception):
    """An error as the API has it, with its HTTP status."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code

    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        kind = "rate_limit_error" if self.status == 429 else "invalid_request_error"
        if self.status >= 500:
            kind = "server_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


class _Part(BaseModel):
    type: Literal["text"]
    text: str


class _Called(BaseModel):
    call: str
    result: str

    @field_validator("call")
    @classmethod
    def _names_a_tool(cls, call: str) -> str:
        """As it was sent, a call names its tool; what is no JSON the model wrote itself, and no tool has taken it."""
        try:
            read = json.loads(call)
        except (ValueError, RecursionError):
            return call
        if isinstance(read, dict) and not isinstance(read.get("name"), str):
            raise PydanticCustomError("no_call", "expected a call as it was sent, with the name of its tool")
        return call


class _Said(BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[_Part]
    trace: list[_Called] = []

    def messages(self) -> list[Message]:
        """The turns that it stands for."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        calls = self.trace if self.role == "assistant" else []
        turns = [(Message("tool_call", made.call), Message("tool_result", made.result)) for made in calls]
        return [*(message for turn in turns for message in turn), Message(_ROLES[self.role], text)]


class _StreamOptions(BaseModel):
    include_usage: bool = False


class _Body(BaseModel):
    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    model: str
    messages: list[_Said] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None


@dataclass(frozen=True)
class Asked:
    """A request for the next message. `max_tokens` None leaves the number of tokens to the server."""

    model: str
    history: list[Message]
    task: str
    sampler: Sampler
    seed: int | None
    max_tokens: int | None
    stop: tuple[str, ...]
    stream: bool
    include_usage: bool


def read_request(body: bytes) -> Asked:
    """The request in `body`. Raises ApiError 400 that names the parameter; without a temperature it is 0."""
    try:
        asked = _Body.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        param = ".".join(str(part) for part in first["loc"]) or None
        raise ApiError(400, f"{param or 'the body'}: {first['msg']}", param) from None
    for name, only in _ONLY.items():
        if (asked.model_extra or {}).get(name) not in (None, only):
            raise ApiError(400, f"{name}: only {json.dumps(only)} is supported", name, "unsupported_parameter")
    *history, last = [message for said in asked.messages for message in said.messages()]
    if last.role != "user" or not last.text.strip():
        raise ApiError(400, "messages: the last one must be the user's, with some text", "messages")
    stop = (asked.stop,) if isinstance(asked.stop, str) else tuple(asked.stop or ())
    if "" in stop:
        raise ApiError(400, "stop: a stop string must not be empty", "stop")
    return Asked(
        asked.model,
        history,
        last.text,
        Sampler(temperature=asked.temperature or 0.0, top_p=1.0 if asked.top_p is None else asked.top_p),
        asked.seed,
        asked.max_completion_tokens or asked.max_tokens,
        stop,
        bool(asked.stream),
        bool(asked.stream_options and asked.stream_options.include_usage),
    )


_ROLES: dict[str, Literal["system", "user", "assistant"]] = {
    "system": "system",
    "developer": "system",  # the newer name of the same
    "user": "user",
    "assistant": "assistant",
}


@dataclass(frozen=True)
class Call:
    """A call of a tool, the n-th of its answer; without a result while it runs."""

    number: int
    call: str
    result: str | None = None
    ok: bool | None = None


@dataclass(frozen=True)
class Citation:
    """A source that a search brought, and the line of it that was shown."""

    source: str
    quote: str


@dataclass(frozen=True)
class End:
    """Why the agent stopped, what it read and wrote in tokens (`cached` of those read needed no reading), and the
    sources that it was shown."""

    ended: str
    read: int
    cached: int
    written: int
    citations: list[Citation]

    @property
    def finish_reason(self) -> str:
        """ "stop" for an answer, "length" where a budget ended the run."""
        return "stop" if self.ended == "answer" else "length"

    @property
    def usage(self) -> dict[str, Any]:
        """The tokens of all turns: the prompt of each turn is the whole conversation."""
        return {
            "prompt_tokens": self.read,
            "prompt_tokens_details": {"cached_tokens": self.cached},
            "completion_tokens": self.written,
            "total_tokens": self.read + self.written,
        }


@dataclass
class Answer:
    """Writes one answer, whole or in chunks."""

    model: str
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, text: str, calls: Sequence[Call], end: End) -> dict[str, Any]:
        """A chat completion."""
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": end.finish_reason}
        made = self._named("chat.completion", [choice])
        return {**made, "usage": end.usage, "trace": [asdict(call) for call in calls], **_ending(end)}

    def begin(self) -> dict[str, Any]:
        """The first chunk."""
        return self._chunk({"role": "assistant", "content": ""})

    def text(self, text: str) -> dict[str, Any]:
        """More of the text."""
        return self._chunk({"content": text})

    def call(self, call: Call) -> dict[str, Any]:
        """A call of a tool, once when it is made and once with its result."""
        return {**self._chunk({}), "trace": [asdict(call)]}

    def end(self, end: End) -> dict[str, Any]:
        """The last chunk of the choice."""
        return {**self._chunk({}, end.finish_reason), **_ending(end)}

    def usage(self, end: End) -> dict[str, Any]:
        """The chunk that a client asks for with `include_usage`."""
        return {**self._named("chat.completion.chunk", []), "usage": end.usage}

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return self._named("chat.completion.chunk", [choice])

    def _named(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model, "choices": choices}


def _ending(end: End) -> dict[str, Any]:
    return {"citations": [asdict(citation) for citation in end.citations], "ended": end.ended}


def event(value: dict[str, Any] | str) -> bytes:
    """One server-sent event: JSON, or a text as it is."""
    return f"data: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}\n\n".encode()
