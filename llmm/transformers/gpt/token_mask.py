"""Which tokens may come next, so that the text stays in a regular language: a table, looked up once a token.

A token is a string of bytes. Following it through the byte automaton from every state gives an automaton over tokens;
that table is computed once and then each step of generation costs a row of it. Source: Willard and Louf 2023
(2307.09702), algorithm 4. README, section 5.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmm.errors import UserError
from llmm.transformers.gpt.regular_language import DEAD, Automaton, reaches


class TokenAutomaton:
    """`step` (S, V) is the state after each token, `allowed` (S, V) says which tokens leave a way to an end.

    `tokens` holds the bytes of each token; None for a special one, which no text contains. `end` is the token that
    closes the text: allowed exactly where the text so far is in the language.
    """

    def __init__(self, language: Automaton, tokens: Sequence[bytes | None], end: int) -> None:
        """Raises UserError where these tokens can spell no text of the language."""
        self.start, self.end = language.start, end
        self.step = token_steps(language.step, tokens)
        self.step[:, end] = DEAD
        alive = reaches(self.step, language.accepting)
        if not alive[self.start]:
            raise UserError("no text of the language can be spelt with this vocabulary: nothing could be generated")
        self.allowed = alive[self.step] & (self.step != DEAD)
        self.allowed[:, end] = language.accepting
        self._forbidden = torch.from_numpy(~self.allowed)

    def state(self, tokens: Sequence[int], state: int | None = None) -> int:
        """The state after `tokens`, from the start or from `state`."""
        state = self.start if state is None else state
        for token in tokens:
            state = int(self.step[state, token])
        return state

    def mask(self, logits_V: Tensor, state: int) -> Tensor:
        """Logits (V,) with -inf for every token that leaves no way to an end."""
        return logits_V.masked_fill(self._forbidden[state].to(logits_V.device), -torch.inf)


class TokenMask:
    """The logits processor of `generate` for one batch: follows each row through the automaton."""

    def __init__(self, automaton: TokenAutomaton) -> None:
        self.automaton = automaton
        self._states: dict[int, tuple[int, int]] = {}  # row → (tokens read, state)

    def __call__(self, rows: Sequence[int], generated: list[list[int]], logits_BV: Tensor) -> Tensor:
        """Logits (B, V) masked row by row; a row that has ended may only repeat its end, which nobody reads."""
        masked = []
        for row, tokens, logits_V in zip(rows, generated, logits_BV, strict=True):
            if tokens and tokens[-1] == self.automaton.end:
                masked.append(logits_V)
                continue
            read, state = self._states.get(row, (0, self.automaton.start))
            state = self.automaton.state(tokens[read:], state)
            self._states[row] = (len(tokens), state)
            masked.append(self.automaton.mask(logits_V, state))
        return torch.stack(masked)


def token_steps(byte_step: NDArray[np.int32], tokens: Sequence[bytes | None]) -> NDArray[np.int32]:
    """The byte automaton (S, 256) followed along the spelling of every token: (S, V). Special tokens lead nowhere."""
    steps = np.full((len(byte_step), len(tokens)), DEAD, np.int32)
    for token, spelling in enumerate(tokens):
        if spelling:
            states = np.arange(len(byte_step))
            for byte in spelling:
                states = byte_step[states, byte]
            steps[:, token] = states
    return steps
