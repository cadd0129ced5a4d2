"""The agent's loop: turns of the model and results of tools, under budgets, for many tasks at once.

Nothing that a model writes is executed but a call that fits a tool's schema, and code only in the sandbox. What a
tool says is text: it cannot end a turn, open one or call anything.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agents.tool_agent.policy import Policy, Turn
from agents.tool_agent.tools import Toolbox
from agents.tool_agent.trace import Step, Trace
from llmm.training.lora.chat import Message


@dataclass(frozen=True)
class Limits:
    """Budgets of one task, but for the seconds: those of all tasks that are worked on together."""

    steps: int = 4  # turns of the model
    turn_tokens: int = 160  # of one turn
    tokens: int = 600  # of all turns
    seconds: float = 60.0


class _Run:
    """One conversation on its way."""

    def __init__(self, task: str, history: Sequence[Message], policy: str) -> None:
        self.trace = Trace(task, policy, list(history))
        self.messages = [*history, Message("user", task)]
        self.seen: set[str] = set()
        self.done = False

    def finish(self, stop: str, answer: str = "") -> None:
        self.trace.stop, self.trace.answer, self.done = stop, answer, True  # type: ignore[assignment]

    def take(self, turn: Turn, tools: Toolbox) -> None:
        """Carry out one turn of the model."""
        message = turn.message
        if message is None:
            self.trace.steps.append(Step("unfinished", "", turn.tokens))
            self.finish("unfinished")
        elif message.role == "assistant":
            self.trace.steps.append(Step("assistant", message.text, turn.tokens))
            self.finish("answer", message.text)
        elif (canonical := _canonical(message.text)) in self.seen:
            self.trace.steps.append(Step("tool_call", message.text, turn.tokens, "error: the same call again", False))
            self.finish("loop")
        else:
            self.seen.add(canonical)
            result = tools.call(message.text)
            self.trace.steps.append(Step("tool_call", message.text, turn.tokens, result.text, result.ok))
            self.messages += [message, Message("tool_result", result.text)]


def run_tasks(
    tasks: Sequence[tuple[str, Sequence[Message]]],
    policy: Policy,
    tools: Toolbox,
    limits: Limits | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> list[Trace]:
    """Work on all (task, history) pairs together, so that the model writes their turns in one batch."""
    limits = limits or Limits()
    deadline = clock() + limits.seconds
    runs = [_Run(task, history, policy.name) for task, history in tasks]
    for _ in range(limits.steps):
        for run in runs:
            if not run.done and clock() > deadline:
                run.finish("time")
            elif not run.done and run.trace.tokens >= limits.tokens:
                run.finish("tokens")
            elif not run.done and not policy.fits(run.messages, limits.turn_tokens):
                run.finish("context")
        active = [run for run in runs if not run.done]
        if not active:
            break
        for run, turn in zip(active, policy.turns([run.messages for run in active], limits.turn_tokens), strict=True):
            run.take(turn, tools)
    for run in runs:
        if not run.done:
            run.finish("steps")
    return [run.trace for run in runs]


def _canonical(call: str) -> str:
    """The call with sorted keys and without spaces in its arguments: what the loop guard compares."""
    try:
        return json.dumps(json.loads(call), sort_keys=True).replace(" ", "")
    except (ValueError, RecursionError):
        return call
