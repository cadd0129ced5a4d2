"""What a team did with one message: who was asked what, what came of it at which price, and how it ended."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from agents.multi_agent.budget import Budget, BudgetSpent
from agents.tool_agent.trace import Trace

# done: the team has answered; budget: it was spent before that; nothing: no member had a call or an answer
Outcome = Literal["", "done", "budget", "nothing"]


@dataclass(frozen=True)
class Turn:
    """An agent's work on one request: the calls that it made, what it answered, and why it ended (see Trace)."""

    who: str
    asked: str
    calls: tuple[str, ...]
    results: tuple[str, ...]  # of the calls, in their order
    failed: tuple[str, ...]  # those of the calls that came back as an error
    answer: str
    stop: str
    tokens: int  # read and written

    @classmethod
    def of(cls, trace: Trace, tokens: int) -> "Turn":
        """What a trace shows, at this price."""
        called = [step for step in trace.steps if step.role == "tool_call"]
        results = tuple(str(step.result) for step in called)
        failed = tuple(step.text for step in called if not step.ok)
        return cls(trace.policy, trace.task, tuple(trace.calls), results, failed, trace.answer, trace.stop, tokens)


@dataclass
class Transcript:
    """The turns of a team under one budget; `calls` and `answer` are what it delivers in the end."""

    message: str
    budget: Budget
    turns: list[Turn] = field(default_factory=list)
    calls: tuple[str, ...] = ()
    answer: str = ""
    outcome: Outcome = ""

    @property
    def going(self) -> bool:
        """Whether the team is still at work."""
        return not self.outcome

    def add(self, turn: Turn) -> None:
        """Note a turn and pay for it; where the budget is spent the work ends."""
        self.turns.append(turn)
        try:
            self.budget.take(turn.tokens, len(turn.calls))
        except BudgetSpent:
            self.outcome = self.outcome or "budget"

    def finish(self, calls: tuple[str, ...], answer: str = "") -> None:
        """Deliver, unless the work has ended before."""
        if self.going:
            self.calls, self.answer = calls, answer
            self.outcome = "done" if calls or answer else "nothing"

    @property
    def broken(self) -> tuple[str, ...]:
        """The delivered calls that failed when they were last carried out."""
        last = {call: call in turn.failed for turn in self.turns for call in turn.calls}
        return tuple(call for call in self.calls if last.get(call, False))

    def right(self, wanted: Sequence[str]) -> bool:
        """Whether the calls `wanted`, these and in this order, were delivered within the budget and have worked."""
        return self.outcome == "done" and list(self.calls) == list(wanted) and not self.broken

    def to_json(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)
