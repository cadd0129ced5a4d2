"""How long one waits: requests that come at random, and a server that is faster when there is more to do.

Arrivals are a Poisson stream of `rate` requests a second. README, section 2. Sources: Kleinrock 1975, "Queueing
Systems", volume 1, sections 3.5 and 5.6; Little 1961, "A proof for the queuing formula L = λW"; Erlang 1917.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from agents.capstone.batching_law import step_seconds


def mean_wait_one_row(rate: float, mean: float, second_moment: float) -> float:
    """Mean seconds until one's turn where answers are given one by one and take `mean` seconds, with E[S²] =
    `second_moment`: the formula of Pollaczek and Khinchine, (2.2). Raises ValueError where more comes than is done."""
    load = rate * mean
    if load >= 1:
        raise ValueError(f"a load of {load:g}: the queue grows without end")
    return rate * second_moment / (2 * (1 - load))


def birth_death(rate: float, served: Callable[[int], float], most: int) -> NDArray[np.float64]:
    """Law of the number of requests in a server, 0 to `most`, which finishes `served(n)` a second while n are in it.
    Equation (2.3). Whoever comes to a full server goes away."""
    logs = np.concatenate([[0.0], np.cumsum([math.log(rate / served(n)) for n in range(1, most + 1)])])
    weights = np.exp(logs - logs.max())
    return weights / weights.sum()


def mean_seconds(law: NDArray[np.float64], rate: float) -> float:
    """Mean seconds from arrival to end of those who are let in, by Little's law. Equation (2.1)."""
    return float(np.arange(len(law)) @ law) / (rate * (1 - law[-1]))


def batch_rate(rows: int, fixed: float, per_row: float, tokens: float) -> Callable[[int], float]:
    """Answers of `tokens` tokens on average that a batch of at most `rows` finishes a second, by the number of requests
    in the server. Equation (2.4)."""

    def served(requests: int) -> float:
        running = min(requests, rows)
        return running / (tokens * step_seconds(running, fixed, per_row))

    return served


def erlang_c(servers: int, load: float) -> float:
    """Probability of having to wait where there are `servers` of constant speed, and `load` of them are busy on
    average. Equation (2.5). Raises ValueError where more comes than is done."""
    if load >= servers:
        raise ValueError(f"a load of {load:g} on {servers} servers: the queue grows without end")
    blocked = 1.0  # Erlang's B, by its recursion
    for n in range(1, servers + 1):
        blocked = load * blocked / (n + load * blocked)
    return blocked / (1 - load / servers * (1 - blocked))


def sojourn_quantile(q: float, rate: float, service_rate: float) -> float:
    """Seconds within which the share `q` of requests is through, with one row and exponential times. Equation (2.6).

    Raises ValueError where more comes than is done.
    """
    if rate >= service_rate:
        raise ValueError(f"{rate:g} come a second and {service_rate:g} are done: the queue grows without end")
    return -math.log1p(-q) / (service_rate - rate)


def serve(
    arrivals: Sequence[float], lengths: Sequence[int], rows: int, fixed: float, per_row: float
) -> NDArray[np.float64]:
    """Seconds from arrival to end of each request, on a virtual clock: continuous batching, request by request.

    `arrivals` ascend; a step begins as soon as somebody is there, and who comes during a step joins at its end.
    """
    left: dict[int, int] = {}  # request -> tokens to come
    through, now, coming = np.empty(len(arrivals)), 0.0, 0
    while coming < len(arrivals) or left:
        if not left:
            now = max(now, arrivals[coming])
        while coming < len(arrivals) and len(left) < rows and arrivals[coming] <= now:
            left[coming] = lengths[coming]
            coming += 1
        now += step_seconds(len(left), fixed, per_row)
        for request in list(left):
            left[request] -= 1
            if not left[request]:
                del left[request]
                through[request] = now - arrivals[request]
    return through
