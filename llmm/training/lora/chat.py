"""Conversations and their tokens: the one place that knows where a turn begins, ends and who wrote it.

A turn is its role's special token, its text and `<|end|>`. Text is encoded with special tokens switched off, so that
no user, passage or tool result can forge a turn by spelling one out.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from tokenizers import Tokenizer

from llmm.training.lora.truecase import truecased

Role = Literal["system", "context", "user", "assistant", "tool_call", "tool_result"]
END = "<|end|>"
MODEL_ROLES: tuple[Role, ...] = ("assistant", "tool_call")  # what the model writes; the choice is its routing decision


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    text: str


Conversation = Sequence[Message]


def as_read(conversation: Conversation) -> list[Message]:
    """The conversation as the model reads it: what a user shouts in small letters (truecase.py), the rest as it is."""
    return [replace(said, text=truecased(said.text)) if said.role == "user" else said for said in conversation]


def call_text(name: str, arguments: dict[str, Any]) -> str:
    """A tool call as the model writes it: compact JSON, the keys in this order."""
    return json.dumps({"name": name, "arguments": arguments}, separators=(",", ":"), ensure_ascii=False)


def passages_text(passages: Sequence[tuple[str, str]]) -> str:
    """The text of a context turn for (title, text) passages."""
    return "\n\n".join(f"[{title}]\n{text.strip()}" for title, text in passages)


class ChatCodec:
    """Conversations to token ids and back, for one tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self.tokenizer.encode_special_tokens = True  # spelled-out special tokens become ordinary text
        self.end = self._id(END)
        self.role_ids: dict[Role, int] = {
            role: self._id(f"<|{role}|>")
            for role in ("system", "context", "user", "assistant", "tool_call", "tool_result")
        }
        self.special_ids = sorted(
            index for index, token in tokenizer.get_added_tokens_decoder().items() if token.special
        )
        self.vocab_size = tokenizer.get_vocab_size()

    def _id(self, token: str) -> int:
        index = self.tokenizer.token_to_id(token)
        if index is None:
            raise ValueError(f"the tokenizer has no token {token}")
        return index

    def text_ids(self, text: str) -> list[int]:
        """Token ids of plain text."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def turn(self, message: Message) -> list[int]:
        """Token ids of one turn, as it is read, with its role and `<|end|>`."""
        (read,) = as_read([message])
        return [self.role_ids[read.role], *self.text_ids(read.text), self.end]

    def prompt(self, conversation: Conversation) -> list[int]:
        """Token ids of a conversation, ready for the model's next turn."""
        return [token for message in conversation for token in self.turn(message)]

    def example(self, conversation: Conversation, decision_weight: float = 1.0) -> tuple[list[int], list[float]]:
        """Token ids and, for each, what it counts in the loss.

        That is 0 where the model does not write it, 1 in an answer that follows a tool's result, most of which is that
        result again, and `decision_weight` where the model calls a tool or answers on its own.
        """
        ids: list[int] = []
        weights: list[float] = []
        before: Role | None = None
        for message in conversation:
            turn = self.turn(message)
            restated = before == "tool_result" and message.role == "assistant"
            weight = (1.0 if restated else decision_weight) if message.role in MODEL_ROLES else 0.0
            ids += turn
            weights += [weight] * len(turn)
            before = message.role
        return ids, weights

    def read_turn(self, generated: Sequence[int]) -> Message | None:
        """The turn in `generated`, or None where it does not start with a role of the model or is not ended."""
        roles = {self.role_ids[role]: role for role in MODEL_ROLES}
        if len(generated) < 2 or generated[0] not in roles or generated[-1] != self.end:
            return None
        text = self.tokenizer.decode(list(generated[1:-1]), skip_special_tokens=False)
        return Message(roles[generated[0]], text)
