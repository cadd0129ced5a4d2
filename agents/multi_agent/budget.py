"""One budget of tokens and tool calls for a whole team: whoever works takes from it."""

from dataclasses import dataclass, field


class BudgetSpent(Exception):
    """More was taken than there was."""


@dataclass
class Budget:
    """Tokens, read and written by all agents together, and tool calls. What a turn costs is known when it is over, so
    the last one may pass the limit: then the budget is spent, and what was made after that does not count."""

    tokens: int
    calls: int
    spent_tokens: int = field(default=0, init=False)
    spent_calls: int = field(default=0, init=False)

    @property
    def spent(self) -> bool:
        """Whether more was taken than there was; at the limit there is still nothing wrong."""
        return self.spent_tokens > self.tokens or self.spent_calls > self.calls

    def take(self, tokens: int, calls: int = 0) -> None:
        """Note what a turn has cost. Raises BudgetSpent from the turn on that passes a limit, and ValueError for less
        than nothing."""
        if min(tokens, calls) < 0:
            raise ValueError(f"{tokens} tokens and {calls} calls: nobody can take less than nothing")
        self.spent_tokens += tokens
        self.spent_calls += calls
        if self.spent:
            raise BudgetSpent(
                f"{self.spent_tokens} of {self.tokens} tokens and {self.spent_calls} of {self.calls} calls taken"
            )
