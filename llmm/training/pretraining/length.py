"""How long a run is: the steps that its recipe says, or those that fit into a time.

Schedules ask how many steps there are in all. A run that is to end at a time answers from its own speed so far, anew
at every step, so a machine that slows down shortens the run and its cooldown still ends at zero.
"""

import time
from dataclasses import dataclass
from typing import Protocol

UNKNOWN = 10**9  # steps, as long as the speed is not known


class Length(Protocol):
    """Tells a training loop when to stop."""

    def steps(self, done: int) -> int:
        """The number of steps in all, as it looks after `done`; `done` itself ends the run."""
        ...


@dataclass(frozen=True)
class Steps:
    """A number that is known from the start."""

    count: int

    def steps(self, done: int) -> int:
        """`count`, whenever it is asked for."""
        return self.count


class Until:
    """As many steps as are over at `deadline`, a value of `time.perf_counter`, with time for `after` more behind it.

    `after` is what comes behind the training, such as a scoring, in steps. The first step is no measure of the others:
    it compiles.
    """

    SETTLED = 8  # steps from which on the speed is known

    def __init__(self, deadline: float, after: float = 0.0) -> None:
        self.deadline, self.after = deadline, after
        self._since = 0.0

    def steps(self, done: int) -> int:
        """Asked once before every step, `done` being 0, 1, 2, …"""
        now = time.perf_counter()
        if done <= 1:
            self._since = now
        if now >= self.deadline:
            return done
        if done < self.SETTLED:
            return UNKNOWN
        seconds_a_step = (now - self._since) / (done - 1)
        return max(done, done + int((self.deadline - now) / seconds_a_step - self.after))
