"""What an OpenAI-compatible client sends and reads, for the part of the interface that this server has.

Fields that are not known are ignored, as OpenAI's own servers add new ones often; fields that would change the answer
and are not supported are refused. Source: OpenAI API reference, Chat completions.
"""

import time
import uuid
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator

from agents.tool_agent.trace import Trace
from llmm.training.lora.chat import Message
from llmm.transformers.gpt.sampling import Sampler

MODEL = "assistant"
_FINISH = {"answer": "stop", "tokens": "length", "unfinished": "length", "context": "length"}


class ChatMessage(BaseModel):
    """One turn. Content is text, or a list of parts that are text."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str

    @field_validator("content", mode="before")
    @classmethod
    def _joined(cls, content: Any) -> Any:
        if isinstance(content, list):
            if not all(isinstance(part, dict) and part.get("type") == "text" for part in content):
                raise ValueError("only parts of the type text can be read")
            return "".join(str(part.get("text", "")) for part in content)
        return content

    def turn(self) -> Message:
        """As the model reads it."""
        return Message("system" if self.role == "developer" else self.role, self.content)


class StreamOptions(BaseModel):
    """Whether the last chunk counts the tokens."""

    include_usage: bool = False


class ChatRequest(BaseModel):
    """The body of POST /v1/chat/completions."""

    model: str
    messages: list[ChatMessage] = Field(min_length=1, max_length=100)
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: float = Field(default=0.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: int = 0
    max_tokens: int | None = Field(default=None, ge=1, le=4096)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=4096)
    n: Literal[1] = 1
    tools: None = None  # the assistant has tools of its own
    response_format: None = None
    logprobs: Literal[False] | None = None

    @field_validator("messages")
    @classmethod
    def _ends_with_a_question(cls, messages: list[ChatMessage]) -> list[ChatMessage]:
        if messages[-1].role != "user":
            raise ValueError("the last message must be the user's")
        return messages

    @property
    def most_tokens(self) -> int | None:
        """Tokens that the model may write for the whole answer, its calls included."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def sampler(self) -> Sampler:
        """How tokens are drawn. Unlike OpenAI's servers, one that is asked for no temperature is greedy."""
        return Sampler(self.temperature, top_p=self.top_p)

    def conversation(self) -> list[Message]:
        """As the model reads it."""
        return [message.turn() for message in self.messages]


class Answer:
    """One answer on its way: makes the objects that a client reads."""

    def __init__(self, model: str) -> None:
        self.id, self.created, self.model = f"chatcmpl-{uuid.uuid4().hex}", int(time.time()), model

    def chunk(
        self, delta: dict[str, Any], finish: str | None = None, beside: Mapping[str, Any] = MappingProxyType({})
    ) -> dict[str, Any]:
        """A piece of a streamed answer; `beside` it stand fields of our own, which clients of OpenAI ignore."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**self._head("chat.completion.chunk"), "choices": [choice], **beside}

    def usage_chunk(self, usage: dict[str, int]) -> dict[str, Any]:
        """The last chunk of a stream with `include_usage`."""
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": usage}

    def whole(self, said: str, trace: Trace, usage: dict[str, int], beside: Mapping[str, Any]) -> dict[str, Any]:
        """An answer in one piece."""
        message = {"role": "assistant", "content": said, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason(trace)}
        return {**self._head("chat.completion"), "choices": [choice], "usage": usage, **beside}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def usage_of(read: int, trace: Trace) -> dict[str, int]:
    """Tokens read (of all turns together: each reads the conversation again) and written."""
    return {"prompt_tokens": read, "completion_tokens": trace.tokens, "total_tokens": read + trace.tokens}


def finish_reason(trace: Trace) -> str:
    """Why the answer ended, in the words of the interface."""
    return _FINISH.get(trace.stop, "stop")


def error_body(message: str, kind: str, code: str | None = None, parameter: str | None = None) -> dict[str, Any]:
    """An error as clients of OpenAI read it."""
    return {"error": {"message": message, "type": kind, "param": parameter, "code": code}}
