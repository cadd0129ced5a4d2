"""One run of a team under one order of events, drawn at random: which letter arrives next, which is lost or comes
again, and who crashes. A seed is a schedule, so what goes wrong can be made to go wrong again. README, section 6.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

from agents.multi_agent.messages import Agent, Coordinator, Letter, by_name


@dataclass(frozen=True)
class Weather:
    """Probabilities: that a letter is lost, that it arrives once more later, that someone crashes before a letter
    arrives."""

    lost: float = 0.0
    again: float = 0.0
    crash: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """How a run ended. `stuck`: not done, and nobody has anything to say; `endless`: not done after the most events."""

    done: bool
    stuck: bool
    endless: bool
    results: tuple[str | None, ...]
    letters: int  # sent
    arrivals: int
    rounds: int  # of silence, the first request included


def run(
    coordinator: Coordinator, others: Sequence[Agent], weather: Weather, seed: int, most_events: int = 20_000
) -> Outcome:
    """Deliver letters in a random order until the coordinator is done and nothing is under way."""
    rng = random.Random(seed)
    agents = by_name([coordinator, *others])
    under_way: list[Letter] = []
    count: Counter[str] = Counter()
    for _ in range(most_events):
        if not under_way:
            if coordinator.done:
                break
            under_way = [letter for agent in agents.values() for letter in agent.silence()]
            count["letters"] += len(under_way)
            count["rounds"] += 1
            if not under_way:
                break
        if rng.random() < weather.crash:
            rng.choice(list(agents.values())).crash()
        letter = under_way.pop(rng.randrange(len(under_way)))
        if rng.random() < weather.again:
            under_way.append(letter)
        if rng.random() < weather.lost:
            continue
        count["arrivals"] += 1
        sent = agents[letter.to].receive(letter)
        count["letters"] += len(sent)
        under_way += sent
    return Outcome(
        coordinator.done,
        not coordinator.done and not under_way,
        not coordinator.done and bool(under_way),
        tuple(coordinator.results),
        count["letters"],
        count["arrivals"],
        count["rounds"],
    )


def expected_rounds(errands: int, lost: float, exchanges: int = 1) -> float:
    """Mean number of times that a coordinator has to ask, the first included, until all of `errands` are done, each
    after so many `exchanges` of a request and an answer that follow each other at once: (6.3).

    Where letters are lost independently and nothing arrives twice. An exchange succeeds with probability (1 - lost)²;
    after one that has failed the next round begins with it.
    """
    success = (1 - lost) ** 2
    total, still = 0.0, 1.0
    rounds = 0
    # P(one errand needs more than r rounds): fewer than `exchanges` successes before the r-th failure
    while still > 1e-15:
        total += still
        rounds += 1
        one_done = sum(_failures(k, exchanges, success) for k in range(rounds))
        still = 1 - one_done**errands
    return total


def _failures(k: int, successes: int, p: float) -> float:
    """Probability of k failures before the last of so many successes: the negative binomial law."""
    return comb(k + successes - 1, k) * p**successes * (1 - p) ** k
