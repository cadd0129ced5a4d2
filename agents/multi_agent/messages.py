"""Agents that write letters to each other over a post that loses, repeats and reorders them. README, section 6.

Nobody waits for anybody: an agent acts on a letter or on silence. A letter names what it is about, a request is written
again until it is answered, and whoever is asked twice answers from memory instead of acting twice. So every errand is
done exactly once, although no letter is sure to arrive.
Source: Gray 1978, Notes on data base operating systems, on the two generals and what can be had instead.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

Kind = Literal["work", "result", "check", "verdict"]
Act = Callable[[str], str]  # what an errand asks for → what came of it, with its effect


@dataclass(frozen=True)
class Letter:
    """From one agent to another, about one attempt at one errand."""

    sender: str
    to: str
    kind: Kind
    errand: int
    attempt: int
    text: str = ""


class Agent(Protocol):
    """Acts on letters and on silence."""

    name: str

    def receive(self, letter: Letter) -> list[Letter]:
        """Act on a letter; the letters to send."""
        ...

    def silence(self) -> list[Letter]:
        """Nothing is under way any more; the letters to send, again."""
        ...

    def crash(self) -> None:
        """Lose what is not on disk."""
        ...


@dataclass
class Ledger:
    """What survives a crash: results by errand and attempt, written together with the effect that they speak of."""

    results: dict[tuple[int, int], str] = field(default_factory=dict)

    def once(self, errand: int, attempt: int, act: Callable[[], str]) -> str:
        """The result of `act`, which is done at most once for an attempt at an errand."""
        key = (errand, attempt)
        if key not in self.results:
            self.results[key] = act()
        return self.results[key]


@dataclass
class Worker:
    """Does errands, each attempt once however often it is asked."""

    name: str
    act: Callable[[str, int], str]  # (errand in words, attempt) → result
    ledger: Ledger = field(default_factory=Ledger)

    def receive(self, letter: Letter) -> list[Letter]:
        """A request; answered from the ledger where it was met before."""
        result = self.ledger.once(letter.errand, letter.attempt, lambda: self.act(letter.text, letter.attempt))
        return [Letter(self.name, letter.sender, "result", letter.errand, letter.attempt, result)]

    def silence(self) -> list[Letter]:
        """Whoever asked will ask again."""
        return []

    def crash(self) -> None:
        """The ledger is on disk, and there is nothing else."""


@dataclass
class Critic:
    """Says yes or no to results. It remembers nothing, since its verdict is a function of the letter."""

    name: str
    accepts: Callable[[int, str], bool]  # (errand, result) → whether it is believed

    def receive(self, letter: Letter) -> list[Letter]:
        """A result to look at."""
        verdict = "yes" if self.accepts(letter.errand, letter.text) else "no"
        return [Letter(self.name, letter.sender, "verdict", letter.errand, letter.attempt, verdict)]

    def silence(self) -> list[Letter]:
        """Whoever asked will ask again."""
        return []

    def crash(self) -> None:
        """There is nothing to lose."""


@dataclass
class _Progress:
    """One errand: the attempt that is under way, its result once it is known, and whether it is accepted."""

    attempt: int = 0
    result: str | None = None
    accepted: bool = False


class Coordinator:
    """Hands out errands, has results checked, and asks again for what was refused, at most `attempts` times.

    Its progress is on disk: written before a letter about it is sent.
    """

    name = "coordinator"

    def __init__(self, errands: Sequence[str], workers: Sequence[str], critic: str = "", attempts: int = 1) -> None:
        self.errands, self.workers, self.critic, self.attempts = list(errands), list(workers), critic, attempts
        self.progress = [_Progress() for _ in errands]

    @property
    def done(self) -> bool:
        """Whether every errand is done."""
        return all(one.accepted for one in self.progress)

    @property
    def results(self) -> list[str | None]:
        """In the order of the errands, whatever order they came in."""
        return [one.result for one in self.progress]

    def receive(self, letter: Letter) -> list[Letter]:
        """A result or a verdict. What is not about the attempt that is under way came late or twice."""
        one = self.progress[letter.errand]
        if one.accepted or letter.attempt != one.attempt:
            return []
        if letter.kind == "result" and one.result is None:
            one.result = letter.text
            one.accepted = not self.critic
        elif letter.kind == "verdict" and one.result is not None:
            if letter.text == "yes" or one.attempt + 1 == self.attempts:
                one.accepted = True
            else:
                one.attempt, one.result = one.attempt + 1, None
        else:
            return []
        return [] if one.accepted else [self._request(letter.errand)]

    def silence(self) -> list[Letter]:
        """Ask again for all that is still open, which is also how it begins."""
        return [self._request(errand) for errand, one in enumerate(self.progress) if not one.accepted]

    def crash(self) -> None:
        """All of it is on disk."""

    def _request(self, errand: int) -> Letter:
        one = self.progress[errand]
        if one.result is None:
            worker = self.workers[errand % len(self.workers)]
            return Letter(self.name, worker, "work", errand, one.attempt, self.errands[errand])
        return Letter(self.name, self.critic, "check", errand, one.attempt, one.result)


def by_name(agents: Sequence[Agent]) -> Mapping[str, Agent]:
    """Raises ValueError where two have the same name: a letter would not know whom to reach."""
    found = {agent.name: agent for agent in agents}
    if len(found) != len(agents):
        raise ValueError("two agents of one name")
    return found
