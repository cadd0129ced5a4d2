"""Which tokens may come next: an automaton over bytes, asked for a whole vocabulary at once.

A model writes tokens, and a token may end in the middle of a word of the grammar. Tokens that begin alike are followed
through the automaton together, along the tree of their prefixes, and what a state allows is worked out once.
README, section 2. Source: Willard & Louf 2023 (2307.09702), section 3, whose index this is.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from agents.tool_agent.regular import DEAD, Automaton


class TokenMasks:
    """The masks of one automaton for one vocabulary of byte strings; an empty one stands for a token that is never
    allowed, such as a special token. `transitions` counts the edges of the automaton that were followed."""

    def __init__(self, automaton: Automaton, tokens: Sequence[bytes]) -> None:
        self.automaton, self.tokens = automaton, list(tokens)
        self.transitions = 0
        self._tree = _prefix_tree(self.tokens)
        self._reached: dict[int, npt.NDArray[np.int32]] = {}

    def reached(self, state: int) -> npt.NDArray[np.int32]:
        """(V,): the state after each token from `state`, DEAD for a token that may not come, (2.2)."""
        if state not in self._reached:
            found = np.full(len(self.tokens), DEAD, np.int32)
            self._follow(self._tree, state, found)
            self._reached[state] = found
        return self._reached[state]

    def allowed(self, state: int) -> npt.NDArray[np.bool_]:
        """(V,): the tokens after which the text can still be completed."""
        return self.reached(state) != DEAD

    def may_end(self, state: int) -> bool:
        """Whether the text may end here."""
        return bool(self.automaton.accepting[state])

    def _follow(self, node: "_Node", state: int, found: npt.NDArray[np.int32]) -> None:
        waiting = [(node, state)]
        while waiting:
            node, state = waiting.pop()
            found[node.ends] = state
            for byte, below in node.below.items():
                self.transitions += 1
                after = int(self.automaton.table[state, byte])
                if after != DEAD:  # no token that begins so is allowed: none of them is looked at
                    waiting.append((below, after))


def masks_one_by_one(automaton: Automaton, tokens: Sequence[bytes], state: int) -> npt.NDArray[np.int32]:
    """`TokenMasks.reached`, each token by itself from its first byte: (2.1), the definition."""
    return np.array([automaton.run(token, state) if token else DEAD for token in tokens], np.int32)


def edges_one_by_one(automaton: Automaton, tokens: Sequence[bytes], state: int) -> int:
    """How many edges `masks_one_by_one` follows; a token is given up where it is DEAD."""
    edges = 0
    for token in tokens:
        at = state
        for byte in token:
            edges += 1
            at = int(automaton.table[at, byte])
            if at == DEAD:
                break
    return edges


class _Node:
    """A prefix of tokens: the numbers of those that end here, and the longer prefixes by their next byte."""

    def __init__(self) -> None:
        self.ends: list[int] = []
        self.below: dict[int, _Node] = {}


def _prefix_tree(tokens: Sequence[bytes]) -> _Node:
    root = _Node()
    for number, token in enumerate(tokens):
        node = root
        for byte in token:
            node = node.below.setdefault(byte, _Node())
        if token:
            node.ends.append(number)
    return root
