"""Regular expressions over bytes, and the finite automaton that reads them.

The derivative of a language by a byte b is what may follow once b was read: {w : bw ∈ L}. A regular expression's
derivatives are regular expressions again, and up to trivial rewriting there are finitely many of them: they are the
states of the automaton, and "b" is the edge from each to its derivative. Source: Brzozowski 1964, "Derivatives of
regular expressions", theorems 4.4 and 5.2; the grouping of bytes: Owens, Reppy and Turon 2009. README, section 5.
"""

from dataclasses import dataclass
from functools import cache, reduce

import numpy as np
from numpy.typing import NDArray

from llmm.errors import UserError

DEAD = 0  # the state that no text leads out of


@dataclass(frozen=True)
class Regex:
    """A set of byte strings; the classes below are the ways to build one."""


@dataclass(frozen=True)
class Byte(Regex):
    """Every string of one byte that is in `choices`; with no choices, no string at all."""

    choices: frozenset[int]


@dataclass(frozen=True)
class Then(Regex):
    """Strings of `first` followed by strings of `rest`."""

    first: Regex
    rest: Regex


@dataclass(frozen=True)
class Either(Regex):
    """Strings of any of the `options`; a set, so that order and repetition make no new state."""

    options: frozenset[Regex]


@dataclass(frozen=True)
class Repeat(Regex):
    """Any number of strings of `inner`, none included."""

    inner: Regex


NOTHING = Byte(frozenset())
EMPTY: Regex = Repeat(NOTHING)  # the string of no bytes, and no other


# --- building, with the rewriting that keeps the number of states finite ----------------------------------------------


def sequence(first: Regex, rest: Regex) -> Regex:
    """`first` then `rest`."""
    if NOTHING in (first, rest):
        return NOTHING
    if first == EMPTY:
        return rest
    if isinstance(first, Then):  # to the right, so that (ab)c and a(bc) are one state
        return sequence(first.first, sequence(first.rest, rest))
    return first if rest == EMPTY else Then(first, rest)


def either(*options: Regex) -> Regex:
    """Any of the options."""
    flat: set[Regex] = set()
    for option in options:
        flat |= option.options if isinstance(option, Either) else {option}
    flat.discard(NOTHING)
    if not flat:
        return NOTHING
    return flat.pop() if len(flat) == 1 else Either(frozenset(flat))


def repeat(inner: Regex) -> Regex:
    """`inner` any number of times."""
    return inner if isinstance(inner, Repeat) else Repeat(inner)


def literal(text: bytes) -> Regex:
    """Exactly this text."""
    return reduce(lambda rest, byte: sequence(Byte(frozenset({byte})), rest), reversed(text), EMPTY)


# --- what a language holds --------------------------------------------------------------------------------------------


@cache
def has_empty(regex: Regex) -> bool:
    """Whether the string of no bytes is in it."""
    match regex:
        case Then(first, rest):
            return has_empty(first) and has_empty(rest)
        case Either(options):
            return any(map(has_empty, options))
        case Repeat():
            return True
    return False


@cache
def derivative(regex: Regex, byte: int) -> Regex:
    """What may follow `byte`: {w : byte w ∈ regex}."""
    match regex:
        case Byte(choices):
            return EMPTY if byte in choices else NOTHING
        case Then(first, rest):
            after_first = sequence(derivative(first, byte), rest)
            return either(after_first, derivative(rest, byte)) if has_empty(first) else after_first
        case Either(options):
            return either(*(derivative(option, byte) for option in options))
        case Repeat(inner):
            return sequence(derivative(inner, byte), regex)
    raise TypeError(f"{regex} is no regular expression")


@dataclass(frozen=True)
class Automaton:
    """`step` (S, 256) is the state after each byte, `accepting` (S,) says where a text may end.

    State 0 is dead: nothing that may end is reachable from it. Reading begins in state `start`, which is dead only
    where the language is empty.
    """

    step: NDArray[np.int32]
    accepting: NDArray[np.bool_]
    start: int

    def matches(self, text: bytes) -> bool:
        """Whether the whole of `text` is in the language."""
        state = self.start
        for byte in text:
            state = int(self.step[state, byte])
        return bool(self.accepting[state])


def automaton(regex: Regex | str) -> Automaton:
    """The automaton of an expression, or of a pattern in the notation of `parse`."""
    regex = parse(regex) if isinstance(regex, str) else regex
    classes = _byte_classes(regex)
    states: dict[Regex, int] = {NOTHING: DEAD}
    rows: list[NDArray[np.int32]] = [np.zeros(256, np.int32)]
    waiting = [] if regex == NOTHING else [regex]
    states.setdefault(regex, len(states))
    while waiting:
        state = waiting.pop(0)
        row = np.zeros(256, np.int32)
        for members in classes:
            after = derivative(state, members[0])
            if after not in states:
                states[after] = len(states)
                waiting.append(after)
            row[members] = states[after]
        rows.append(row)
    step = np.stack(rows)
    accepting = np.array([has_empty(state) for state in states])
    alive = reaches(step, accepting)
    step[~alive[step]] = DEAD
    return Automaton(step, accepting, states[regex] if alive[states[regex]] else DEAD)


def _byte_classes(regex: Regex) -> list[list[int]]:
    """Bytes that every choice in `regex` takes or leaves together: one derivative serves each class."""
    choices = sorted(set(_choices(regex)), key=sorted)
    classes: dict[tuple[bool, ...], list[int]] = {}
    for byte in range(256):
        classes.setdefault(tuple(byte in choice for choice in choices), []).append(byte)
    return list(classes.values())


def _choices(regex: Regex) -> list[frozenset[int]]:
    match regex:
        case Byte(choices):
            return [choices]
        case Then(first, rest):
            return _choices(first) + _choices(rest)
        case Either(options):
            return [choice for option in options for choice in _choices(option)]
        case Repeat(inner):
            return _choices(inner)
    return []


def reaches(step: NDArray[np.int32], accepting: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """States (S,) of an automaton `step` (S, any) that some text leads from to one where it may end.

    Grows backwards from the states that may end until nothing is added.
    """
    alive = accepting.copy()
    while (grown := alive | alive[step].any(axis=1)).sum() > alive.sum():
        alive = grown
    return alive


# --- the notation -----------------------------------------------------------------------------------------------------

_ESCAPES = {"d": b"0123456789", "s": b" \t\n\r\f\v", "n": b"\n", "t": b"\t"}
_ESCAPES["w"] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"
_ANY = frozenset(range(256)) - {ord("\n")}


def parse(pattern: str) -> Regex:
    r"""A pattern: characters, `.`, `[a-z]`, `[^"]`, `\d \w \s`, `( | )`, `* + ?`, `{m}`, `{m,n}`; all of the text.

    As with Python's `re` on bytes, where characters are UTF-8. Raises UserError where it cannot be read.
    """
    parser = _Parser(pattern)
    regex = parser.alternatives()
    if parser.left():
        raise UserError(f"the pattern {pattern!r} has a ) too many at {parser.at}")
    return regex


class _Parser:
    """Recursive descent: alternatives of sequences of repeated atoms."""

    def __init__(self, pattern: str) -> None:
        self.pattern, self.at = pattern, 0

    def left(self) -> str:
        """The next character, "" at the end."""
        return self.pattern[self.at : self.at + 1]

    def take(self) -> str:
        """The next character, which is read with it."""
        if not self.left():
            raise UserError(f"the pattern {self.pattern!r} ends too early")
        self.at += 1
        return self.pattern[self.at - 1]

    def alternatives(self) -> Regex:
        options = [self.sequence()]
        while self.left() == "|":
            self.take()
            options.append(self.sequence())
        return either(*options)

    def sequence(self) -> Regex:
        parts = []
        while self.left() not in ("", "|", ")"):
            parts.append(self.repeated())
        return reduce(lambda rest, part: sequence(part, rest), reversed(parts), EMPTY)

    def repeated(self) -> Regex:
        atom = self.atom()
        while self.left() and self.left() in "*+?{":
            match self.take():
                case "*":
                    atom = repeat(atom)
                case "+":
                    atom = sequence(atom, repeat(atom))
                case "?":
                    atom = either(atom, EMPTY)
                case "{":
                    atom = self.counted(atom)
        return atom

    def counted(self, atom: Regex) -> Regex:
        text = ""
        while self.left() != "}":
            text += self.take()
        self.take()
        least, _, most = text.partition(",")
        if not least.isdigit() or not (most or least).isdigit() or int(most or least) < int(least):
            raise UserError(f"the pattern {self.pattern!r} repeats {{{text}}} times: expected {{m}} or {{m,n}}")
        regex: Regex = EMPTY
        for _ in range(int(most or least) - int(least)):  # from inside: (a(a)?)?
            regex = either(EMPTY, sequence(atom, regex))
        for _ in range(int(least)):
            regex = sequence(atom, regex)
        return regex

    def atom(self) -> Regex:
        match self.take():
            case "(":
                inner = self.alternatives()
                if self.left() != ")":
                    raise UserError(f"the pattern {self.pattern!r} has a ( that nothing closes")
                self.take()
                return inner
            case "[":
                return Byte(self.choices())
            case ".":
                return Byte(_ANY)
            case "\\":
                return Byte(self.escaped())
            case "*" | "+" | "?" | "{" as sign:
                raise UserError(f"the pattern {self.pattern!r} has a {sign} at {self.at - 1} with nothing to repeat")
            case character:
                return literal(character.encode())

    def choices(self) -> frozenset[int]:
        negated = self.left() == "^"
        if negated:
            self.take()
        chosen: set[int] = set()
        while self.left() != "]":
            low = self.member()
            if self.left() == "-" and self.pattern[self.at + 1 : self.at + 2] != "]" and len(low) == 1:
                self.take()
                low = frozenset(range(min(low), max(self.member()) + 1))
            chosen |= low
        self.take()
        return frozenset(range(256)) - chosen if negated else frozenset(chosen)

    def member(self) -> frozenset[int]:
        character = self.take()
        if character == "\\":
            return self.escaped()
        if not character.isascii():
            raise UserError(f"the pattern {self.pattern!r} has {character!r} in brackets: choices are single bytes")
        return frozenset({ord(character)})

    def escaped(self) -> frozenset[int]:
        character = self.take()
        if character.isalnum() and character not in _ESCAPES:
            raise UserError(f"the pattern {self.pattern!r} has \\{character}, which means nothing here")
        return frozenset(_ESCAPES.get(character, character.encode()))
