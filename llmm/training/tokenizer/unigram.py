"""Unigram: a word is cut in the most probable way, or in any way with its probability.

Kudo 2018 (arXiv:1804.10959). Every token has a probability, a cut of a word the product of those of its tokens. The
cuts of a word of n bytes are the paths through a lattice with n + 1 nodes, in which each token that stands somewhere in
the word is an edge; sums and maxima over all 2^(n-1) paths take one pass from left to right (README 4.1 and 4.2).
"""

import math
import random
from collections.abc import Mapping

LogProbs = Mapping[bytes, float]  # token -> log of its probability, natural
Edge = tuple[int, bytes, float]  # where it begins, the token, its log-probability


def edges(word: bytes, log_probs: LogProbs, longest: int) -> list[list[Edge]]:
    """For every end 0 to n the tokens that end there. `longest` bounds the length of a token."""
    return [
        [
            (start, word[start:end], log_probs[word[start:end]])
            for start in range(max(0, end - longest), end)
            if word[start:end] in log_probs
        ]
        for end in range(len(word) + 1)
    ]


def longest_token(log_probs: LogProbs) -> int:
    """Bytes of the longest token."""
    return max(map(len, log_probs))


def viterbi(word: bytes, log_probs: LogProbs, longest: int | None = None) -> tuple[list[bytes], float]:
    """The most probable cut of a word and its log-probability. Raises ValueError where no cut exists."""
    best: list[tuple[float, int]] = [(0.0, 0)]
    for incoming in edges(word, log_probs, longest or longest_token(log_probs))[1:]:
        ways = [(best[start][0] + log_prob, start) for start, _, log_prob in incoming]
        best.append(max(ways, key=lambda way: way[0], default=(-math.inf, 0)))
    if best[-1][0] == -math.inf:
        raise ValueError(f"no cut of {word!r}: some byte is no token")
    cut, end = [], len(word)
    while end:
        start = best[end][1]
        cut.append(word[start:end])
        end = start
    return cut[::-1], best[-1][0]


def forward(lattice: list[list[Edge]]) -> list[float]:
    """log α: the log of the summed probability of all cuts of the first i bytes, for i = 0 to n (README 4.2)."""
    alpha = [0.0]
    for incoming in lattice[1:]:
        alpha.append(_log_sum_exp([alpha[start] + log_prob for start, _, log_prob in incoming]))
    return alpha


def expected_counts(word: bytes, log_probs: LogProbs, longest: int) -> tuple[dict[bytes, float], float]:
    """How often each token is expected in a cut of the word (README 4.3), and the word's log-probability."""
    lattice = edges(word, log_probs, longest)
    alpha = forward(lattice)
    total = alpha[-1]
    counts: dict[bytes, float] = {}
    beta = [-math.inf] * len(word) + [0.0]  # log of the summed probability of all cuts of what follows
    for end in range(len(word), 0, -1):
        for start, token, log_prob in lattice[end]:
            through = log_prob + beta[end]
            beta[start] = _log_sum_exp([beta[start], through])
            counts[token] = counts.get(token, 0.0) + math.exp(alpha[start] + through - total)
    return counts, total


def sample(word: bytes, log_probs: LogProbs, rng: random.Random, temperature: float = 1.0) -> list[bytes]:
    """A cut drawn with probability ∝ P(cut)^(1/temperature): from the end back, each edge by its share (README 4.7)."""
    tempered = {token: log_prob / temperature for token, log_prob in log_probs.items()}
    lattice = edges(word, tempered, longest_token(log_probs))
    alpha = forward(lattice)
    if alpha[-1] == -math.inf:
        raise ValueError(f"no cut of {word!r}: some byte is no token")
    cut, end = [], len(word)
    while end:
        shares = [math.exp(alpha[start] + log_prob - alpha[end]) for start, _, log_prob in lattice[end]]
        end, token, _ = rng.choices(lattice[end], shares)[0]
        cut.append(token)
    return cut[::-1]


def _log_sum_exp(values: list[float]) -> float:
    largest = max(values, default=-math.inf)
    if largest == -math.inf:
        return largest
    return largest + math.log(sum(math.exp(value - largest) for value in values))
