"""What an agent did for one task, as JSON without times: replayed, it comes out the same."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from llmm.errors import UserError
from llmm.files import read_json, write_json
from llmm.training.lora.chat import Message

# answer: the model answered; steps, tokens, time, context: a budget was used up; loop: the same call came again;
# unfinished: the model's turn did not end within its tokens
Stop = Literal["answer", "steps", "tokens", "time", "context", "loop", "unfinished"]


def called_tool(call: str) -> str:
    """The name of the tool that a call asks for, "" where it is no call."""
    try:
        return str(json.loads(call)["name"])
    except (ValueError, RecursionError, KeyError, TypeError):
        return ""


@dataclass(frozen=True)
class Step:
    """One turn of the model and, for a call, what the tool said. `text` is the turn as the model wrote it."""

    role: Literal["assistant", "tool_call", "unfinished"]
    text: str
    tokens: int
    result: str | None = None
    ok: bool | None = None

    @property
    def tool(self) -> str:
        """Name of the tool called, "" for none."""
        return called_tool(self.text) if self.role == "tool_call" else ""


@dataclass
class Trace:
    """A task, the steps taken, the answer ("" where there is none) and why it ended."""

    task: str
    policy: str
    history: list[Message] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    answer: str = ""
    stop: Stop = "steps"

    @property
    def calls(self) -> list[str]:
        """The calls as the model wrote them."""
        return [step.text for step in self.steps if step.role == "tool_call"]

    @property
    def tokens(self) -> int:
        """Tokens that the model wrote."""
        return sum(step.tokens for step in self.steps)

    def to_json(self) -> dict[str, Any]:
        """JSON-able, without times."""
        return asdict(self)

    @staticmethod
    def from_json(value: dict[str, Any]) -> "Trace":
        """The inverse of `to_json`. Raises UserError where a part is missing."""
        try:
            return Trace(
                value["task"],
                value["policy"],
                [Message(**message) for message in value["history"]],
                [Step(**step) for step in value["steps"]],
                value["answer"],
                value["stop"],
            )
        except (KeyError, TypeError) as error:
            raise UserError(
                f"this is no trace of an agent ({error}): expected task, policy, history, steps, answer, stop"
            ) from None

    def save(self, path: Path) -> None:
        """Write the trace as JSON."""
        write_json(path, self.to_json())

    @staticmethod
    def load(path: Path) -> "Trace":
        """Read what `save` wrote."""
        return Trace.from_json(read_json(path))
