"""Regular expressions as deterministic automata over bytes: what a call may look like, one byte after the other.

An expression is parsed into a tree, the tree becomes an automaton that guesses (nondeterministic, NFA: Thompson 1968),
and that one an automaton that need not (DFA), whose states are sets of the first one's: the subset construction of
Rabin & Scott 1959. README, section 1.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

DEAD = -1  # no continuation of the text is in the language any more
_ANY = frozenset(range(256)) - {ord("\n")}
_CLASSES = {
    "d": frozenset(b"0123456789"),
    "w": frozenset(b"0123456789_ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"),
    "s": frozenset(b" \t\n\r\f\v"),
}
_ESCAPED = {"n": ord("\n"), "t": ord("\t"), "r": ord("\r")}
_MOST_STATES = 20_000
_MOST_GUESSING_STATES = 200_000


@dataclass(frozen=True)
class Automaton:
    """`table[state, byte]` is the next state or DEAD; a text starts in state 0. Every state leads to an accepting one,
    since every part of an expression leads from its start to its end: a text that is not DEAD can be completed."""

    table: npt.NDArray[np.int32]  # (S, 256)
    accepting: npt.NDArray[np.bool_]  # (S,)

    def run(self, text: bytes, state: int = 0) -> int:
        """The state after `text`, DEAD where no word of the language goes on from it."""
        for byte in text:
            if state == DEAD:
                break
            state = int(self.table[state, byte])
        return state

    def accepts(self, text: bytes) -> bool:
        """Whether `text` as a whole is in the language."""
        state = self.run(text)
        return state != DEAD and bool(self.accepting[state])

    def forced(self, state: int) -> bytes:
        """What has to come next, whatever the text will be: bytes, as long as there is only one and the text may not
        end. A language of one endless word does not exist, so this ends."""
        written = bytearray()
        while not self.accepting[state] and len(only := np.flatnonzero(self.table[state] != DEAD)) == 1:
            written.append(int(only[0]))
            state = int(self.table[state, only[0]])
        return bytes(written)


def compile_regex(pattern: str) -> Automaton:
    """The automaton of `pattern`, which a text must match from its first byte to its last.

    Syntax, as in Python's `re` over bytes: literals (others than ASCII as their UTF-8 bytes), `.`, `[a-z]`, `[^a-z]`,
    `\\d \\w \\s`, `( )`, `(?: )`, `|`, `* + ? {m} {m,} {m,n}`. Raises ValueError for anything else, and where more than
    20,000 states would be needed: there can be 2ⁿ for n, README (1.4).
    """
    guessing = _Guessing()
    try:
        start, end = guessing.build(_Parser(pattern).parse())
    except RecursionError:
        raise ValueError(f"{pattern!r:.60}: brackets are nested too deeply") from None
    return _deterministic(guessing, start, end)


# --- the tree ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Bytes:
    """One byte out of a set."""

    members: frozenset[int]


@dataclass(frozen=True)
class _Sequence:
    parts: "tuple[_Node, ...]"


@dataclass(frozen=True)
class _Choice:
    options: "tuple[_Node, ...]"


@dataclass(frozen=True)
class _Repeat:
    """At least `low` times `part`, at most `high` times, None for no limit."""

    part: "_Node"
    low: int
    high: int | None


_Node = _Bytes | _Sequence | _Choice | _Repeat


class _Parser:
    """By recursive descent: a choice is made of sequences, a sequence of repeated atoms."""

    def __init__(self, pattern: str) -> None:
        self.pattern, self.at = pattern, 0

    def parse(self) -> _Node:
        tree = self._choice()
        if self.at < len(self.pattern):
            raise self._fault(f"unexpected {self.pattern[self.at]!r}")
        return tree

    def _fault(self, what: str) -> ValueError:
        return ValueError(f"{self.pattern!r}: {what} at {self.at}")

    def _takes(self, text: str) -> bool:
        found = self.pattern.startswith(text, self.at)
        self.at += len(text) if found else 0
        return found

    def _next(self) -> str:
        if self.at == len(self.pattern):
            raise self._fault("the expression ends")
        self.at += 1
        return self.pattern[self.at - 1]

    def _choice(self) -> _Node:
        options = [self._sequence()]
        while self._takes("|"):
            options.append(self._sequence())
        return options[0] if len(options) == 1 else _Choice(tuple(options))

    def _sequence(self) -> _Node:
        parts = []
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            parts.append(self._repeated())
        return _Sequence(tuple(parts))

    def _repeated(self) -> _Node:
        atom = self._atom()
        while True:
            if self._takes("*"):
                atom = _Repeat(atom, 0, None)
            elif self._takes("+"):
                atom = _Repeat(atom, 1, None)
            elif self._takes("?"):
                atom = _Repeat(atom, 0, 1)
            elif self._takes("{"):
                atom = self._counted(atom)
            else:
                return atom

    def _counted(self, atom: _Node) -> _Node:
        bounds, closed, _ = self.pattern[self.at :].partition("}")
        low, comma, high = bounds.partition(",")
        if not closed or not low.isdigit() or (high and not high.isdigit()):
            raise self._fault("expected {m}, {m,} or {m,n}")
        self.at += len(bounds) + 1
        most = (int(high) if high else None) if comma else int(low)
        if most is not None and most < int(low):
            raise self._fault(f"{low} is more than {most}")
        return _Repeat(atom, int(low), most)

    def _atom(self) -> _Node:
        char = self._next()
        if char == "(":
            self._takes("?:")
            inner = self._choice()
            if not self._takes(")"):
                raise self._fault("expected )")
            return inner
        if char == "[":
            return self._set()
        if char == ".":
            return _Bytes(_ANY)
        if char == "\\":
            return _Bytes(self._escape())
        if char in "*+?{":
            raise self._fault(f"nothing to repeat before {char!r}")
        if char in "^$":
            raise self._fault(f"{char!r} is not needed: all of the text has to match")
        return _Sequence(tuple(_Bytes(frozenset([byte])) for byte in char.encode()))

    def _escape(self) -> frozenset[int]:
        char = self._next()
        if char in _CLASSES:
            return _CLASSES[char]
        if ord(char) > 127 or (char.isalnum() and char not in _ESCAPED):
            raise self._fault(f"\\{char} is not known")
        return frozenset([_ESCAPED.get(char, ord(char))])

    def _set(self) -> _Node:
        negated = self._takes("^")
        members: set[int] = set()
        first = True  # a ] that comes first stands for itself
        while first or not self._takes("]"):
            first = False
            low = self._member()
            if len(low) == 1 and self._takes("-"):
                if self._takes("]"):  # a minus at the end stands for itself
                    members |= low | {ord("-")}
                    break
                high = self._member()
                if len(high) != 1 or min(high) < min(low):
                    raise self._fault("a range goes from a smaller byte to a larger one")
                members.update(range(min(low), min(high) + 1))
            else:
                members |= low
        return _Bytes(frozenset(range(256)) - members if negated else frozenset(members))

    def _member(self) -> frozenset[int]:
        char = self._next()
        if char == "\\":
            return self._escape()
        if ord(char) > 127:
            raise self._fault(f"{char!r} has more than one byte: write it outside of [ ]")
        return frozenset([ord(char)])


# --- the automaton that guesses ---------------------------------------------------------------------------------------


@dataclass
class _Guessing:
    """States with edges that read a byte out of a set, and edges that read nothing."""

    reading: list[list[tuple[frozenset[int], int]]] = field(default_factory=list)
    silent: list[list[int]] = field(default_factory=list)

    def state(self) -> int:
        self.reading.append([])
        self.silent.append([])
        if len(self.silent) > _MOST_GUESSING_STATES:
            raise ValueError("the expression is too long")
        return len(self.silent) - 1

    def build(self, node: _Node) -> tuple[int, int]:
        """Start and end of the part for `node`: a path between them spells a word of it, (1.1), (1.2)."""
        start, end = self.state(), self.state()
        match node:
            case _Bytes(members):
                self.reading[start].append((members, end))
            case _Sequence(parts):
                at = start
                for part in parts:
                    first, last = self.build(part)
                    self.silent[at].append(first)
                    at = last
                self.silent[at].append(end)
            case _Choice(options):
                for option in options:
                    first, last = self.build(option)
                    self.silent[start].append(first)
                    self.silent[last].append(end)
            case _Repeat(part, low, high):
                self._repeat(part, low, high, start, end)
        return start, end

    def _repeat(self, part: _Node, low: int, high: int | None, start: int, end: int) -> None:
        at = start
        for _ in range(low):
            first, last = self.build(part)
            self.silent[at].append(first)
            at = last
        if high is None:
            first, last = self.build(part)
            self.silent[at] += [first, end]
            self.silent[last] += [first, end]
            return
        for _ in range(high - low):
            first, last = self.build(part)
            self.silent[at] += [first, end]
            at = last
        self.silent[at].append(end)

    def closure(self, states: Iterable[int]) -> frozenset[int]:
        """The states with all that are reached from them without reading."""
        found, waiting = set(states), list(states)
        while waiting:
            for state in self.silent[waiting.pop()]:
                if state not in found:
                    found.add(state)
                    waiting.append(state)
        return frozenset(found)


# --- the automaton that does not --------------------------------------------------------------------------------------


def _deterministic(guessing: _Guessing, start: int, end: int) -> Automaton:
    """One state for each set of states that the guessing automaton can be in after the same text, (1.3)."""
    first = guessing.closure([start])
    numbers, waiting, rows = {first: 0}, [first], []
    while waiting:
        states = waiting.pop(0)
        by_byte: dict[int, set[int]] = {}
        for state in states:
            for members, target in guessing.reading[state]:
                for byte in members:
                    by_byte.setdefault(byte, set()).add(target)
        row = np.full(256, DEAD, np.int32)
        closures: dict[frozenset[int], frozenset[int]] = {}  # most bytes lead to the same few sets
        for byte, targets in by_byte.items():
            key = frozenset(targets)
            if key not in closures:
                closures[key] = guessing.closure(key)
            reached = closures[key]
            if reached not in numbers:
                if len(numbers) == _MOST_STATES:
                    raise ValueError(f"the expression needs more than {_MOST_STATES:,} states")
                numbers[reached] = len(numbers)
                waiting.append(reached)
            row[byte] = numbers[reached]
        rows.append(row)
    return Automaton(np.stack(rows), np.array([end in states for states in numbers]))
