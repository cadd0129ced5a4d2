"""What a mask does to a model's law, and what it should do.

Masking token by token renormalises at every step, so it draws from another law than the model's own restricted to the
texts that are allowed. How far off it is, and how a draw is weighted to make up for it: README, section 3.
Sources: Koo et al. 2024 (2407.08103), Park et al. 2024 (2405.21047), section 3.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from agents.tool_agent.regular import DEAD
from agents.tool_agent.token_masks import TokenMasks

Law = npt.NDArray[np.float64]


class Chain:
    """A model of tokens that looks at the last one alone: `first` (V + 1,), `after[token]` (V, V + 1); the last column
    is the end of the text. Small enough that everything about it can be worked out."""

    def __init__(self, first: Law, after: Law) -> None:
        """Raises ValueError where a row is no law."""
        rows = np.vstack([first, after])
        if (rows < 0).any() or not np.allclose(rows.sum(1), 1) or after.shape != (len(first) - 1, len(first)):
            raise ValueError("expected V + 1 laws over V tokens and the end")
        self.rows = rows  # row 0 is the beginning, row 1 + t follows token t

    def next(self, text: Sequence[int]) -> Law:
        """(V + 1,): the law of what follows `text`."""
        law: Law = self.rows[1 + text[-1] if len(text) else 0]
        return law

    def probability(self, text: Sequence[int]) -> float:
        """Of the finished `text`."""
        steps = (float(self.next(text[:i])[token]) for i, token in enumerate(text))
        return math.prod(steps) * float(self.next(text)[-1])


def texts(masks: TokenMasks) -> Iterator[tuple[int, ...]]:
    """All token sequences that are allowed, of a finite language."""
    waiting: list[tuple[tuple[int, ...], int]] = [((), 0)]
    while waiting:
        text, state = waiting.pop()
        if masks.may_end(state):
            yield text
        reached = masks.reached(state)
        waiting += [((*text, token), int(reached[token])) for token in np.flatnonzero(reached != DEAD).tolist()]


def masked(law: Law, masks: TokenMasks, state: int) -> Law:
    """What `masks` leaves of `law` (V + 1,) in `state`, not yet divided: its sum is Z, (3.1).

    Raises ValueError where all that is allowed has probability zero.
    """
    kept = law * np.append(masks.allowed(state), masks.may_end(state))
    if not kept.sum() > 0:
        raise ValueError("everything that the grammar allows has probability zero here")
    return kept


def log_weight(chain: Chain, masks: TokenMasks, text: Sequence[int]) -> float:
    """ln w = Σ ln Z_t of a finished `text`: the model's probability of it over that of drawing it under the mask.

    README (3.2). -inf for a text that is not allowed; raises ValueError as `masked` does.
    """
    state, total = 0, 0.0
    for step, token in enumerate([*text, None]):
        law = masked(chain.next(text[:step]), masks, state)
        total += float(np.log(law.sum()))
        if token is None:
            return total if masks.may_end(state) else -np.inf
        state = int(masks.reached(state)[token])
        if state == DEAD:
            return -np.inf
    raise AssertionError


def completion(chain: Chain, masks: TokenMasks, length: int) -> Law:
    """(length + 1, S, V + 1): the probability that the text ends in an allowed way within so many more tokens, by the
    state and the last token, of which index 0 stands for none yet. From the end backwards, (3.4)."""
    states, vocabulary = len(masks.automaton.accepting), len(masks.tokens)
    found = np.zeros((length + 1, states, vocabulary + 1))
    ends = masks.automaton.accepting[:, None] * chain.rows[None, :, -1]
    found[0] = ends
    for left in range(1, length + 1):
        for state in range(states):
            reached = masks.reached(state)
            tokens = np.flatnonzero(reached != DEAD)
            onwards = found[left - 1][reached[tokens], 1 + tokens]
            found[left, state] = ends[state] + chain.rows[:, tokens] @ onwards
    return found


def conditional(law: Law, masks: TokenMasks, state: int, onwards: Law) -> Law:
    """(V + 1,): the next token of the model given that the text will be allowed in the end, (3.5).

    `onwards` (S, V + 1) is `completion` with one token less to go. Raises ValueError where that cannot be.
    """
    reached = masks.reached(state)
    kept = np.zeros_like(law)
    tokens = np.flatnonzero(reached != DEAD)
    kept[tokens] = law[tokens] * onwards[reached[tokens], 1 + tokens]
    kept[-1] = law[-1] * masks.may_end(state)
    if not kept.sum() > 0:
        raise ValueError("no allowed text of this length goes on from here")
    normalised: Law = kept / kept.sum()
    return normalised


def effective_sample_size(log_weights: Sequence[float] | Law) -> float:
    """(Σ w)² / Σ w²: as many draws from the right law would say as much, (3.6). From 1 to the number of draws."""
    logs = np.asarray(log_weights, dtype=np.float64)
    weights = np.exp(logs - logs.max())
    return float(weights.sum() ** 2 / (weights**2).sum())
