"""The messages of the chat completions API: a conversation of ours to theirs, and their answer to a turn of ours.

Source: OpenAI's API reference, "Create chat completion", of which vLLM, llama.cpp, Ollama and others speak the part
that is used here. Answers are read by that part alone: servers differ in the rest.
"""

import json
from typing import Any

from pydantic import BaseModel, Field

from agents.tool_agent.policy import Turn
from llmm.training.lora.chat import Conversation, Message, call_text


class _Function(BaseModel):
    name: str
    arguments: Any = None


class _Call(BaseModel):
    function: _Function


class _Said(BaseModel):
    content: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(BaseModel):
    message: _Said
    finish_reason: str | None = None


class _Usage(BaseModel):
    completion_tokens: int | None = Field(None, ge=0)


class _Completion(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


def read_turn(body: bytes, max_tokens: int) -> Turn:
    """The turn in a server's answer. Of several calls it is the first: the loop carries out one call a turn.

    Arguments that are no JSON stay the text that they are, which no tool takes. A turn whose tokens the server does
    not count, counts `max_tokens`. Raises ValueError where the answer is no chat completion.
    """
    answer = _Completion.model_validate_json(body)
    choice = answer.choices[0]
    counted = answer.usage.completion_tokens if answer.usage else None
    tokens = max_tokens if counted is None else counted
    if choice.finish_reason == "length":
        return Turn(None, tokens)
    if choice.message.tool_calls:
        function = choice.message.tool_calls[0].function
        return Turn(Message("tool_call", _utf8(call_text(function.name, _parsed(function.arguments)))), tokens)
    return Turn(Message("assistant", _utf8(choice.message.content or "")), tokens)


def to_messages(conversation: Conversation) -> list[dict[str, Any]]:
    """A conversation for the API; a call and its result share an id, and passages are told as the user's."""
    messages: list[dict[str, Any]] = []
    for number, message in enumerate(conversation):
        if message.role == "tool_call":
            name, arguments = _named(message.text)
            call = {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": arguments}}
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        elif message.role == "tool_result":  # the loop puts it right behind its call
            messages.append({"role": "tool", "tool_call_id": f"call_{number - 1}", "content": _utf8(message.text)})
        else:
            role = "user" if message.role == "context" else message.role
            messages.append({"role": role, "content": _utf8(message.text)})
    return messages


def _named(call: str) -> tuple[str, str]:
    """Name and arguments of a call. What is no object is put into one, since many servers parse their history."""
    found = _parsed(call)
    name, arguments = (found.get("name"), found.get("arguments")) if isinstance(found, dict) else (None, call)
    return str(name or "none"), json.dumps(arguments if isinstance(arguments, dict) else {"malformed": arguments})


def _parsed(arguments: Any) -> Any:
    """The value of a JSON text, the text itself where it is none; nothing at all stands for no arguments."""
    try:
        return json.loads(arguments or "{}") if isinstance(arguments, str | None) else arguments
    except (ValueError, RecursionError):
        return arguments


def _utf8(text: str) -> str:
    """Halves of surrogate pairs as the escapes that they are in JSON: a text that can be sent and stored."""
    return text.encode(errors="backslashreplace").decode()
