"""A tiny language for phrasings: `[a|b|]` chooses one of its parts, `{slot}` is filled with a value.

A phrasing is written once and stands for many sentences. Casing, politeness and punctuation are varied on the words of
the phrasing only: values are filled in afterwards, so that an argument can always be copied from the text as it stands.
"""

import itertools
import random
import re
from collections.abc import Callable

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"(\{\w+\})")

# Around a phrasing that starts with a verb in the imperative ("!add {a} and {b}")
_BEFORE_IMPERATIVE = (
    "please {x}", "can you {x}?", "could you {x}?", "{x} please", "{x}, please.", "i need you to {x}",
    "i'd like you to {x}.", "would you {x}?", "could you please {x}?", "hey, {x}", "quickly {x}", "help me {x}",
    "i want to {x}", "let's {x}", "would you mind helping me {x}?", "now {x}.", "ok, {x}", "hi! {x}",
    "can you {x} for me?", "go ahead and {x}", "your task: {x}", "i have to {x}", "{x}!", "{x} for me", "kindly {x}.",
    "try to {x}", "i would like to {x}.",
)  # fmt: skip
# Around any other phrasing
_AROUND_OTHER = (
    "hi, {x}", "hello! {x}", "hey {x}", "so, {x}", "quick question: {x}", "{x} thanks!", "tell me: {x}",
    "one more thing, {x}", "um, {x}", "question: {x}", "ok so {x}", "please help: {x}", "hmm, {x}", "{x} thank you",
    "i was wondering, {x}", "good morning, {x}", "{x} any idea?",
)  # fmt: skip

# Words that may be put in anywhere, and words that may be left out, without another meaning
_FILLERS = (
    "just", "would", "please", "actually", "exactly", "now", "then", "here", "again", "simply", "well", "maybe", "will",
    "gets", "still", "also", "want", "know", "see", "could", "going", "ok", "say", "with me", "right now", "for me",
    "as it is", "accepted by", "in all", "i think", "by the way", "you know", "when possible", "if you can",
)  # fmt: skip
_SPARE = frozenset(("the", "a", "of", "is", "me", "do", "does", "i", "can", "you", "please", "what", "are", "to"))


def expand(phrasing: str) -> list[str]:
    """Every choice of `phrasing`, slots left open, without the mark of the imperative."""
    parts = _CHOICE.split(phrasing.removeprefix("!"))
    options = [part.split("|") if index % 2 else [part] for index, part in enumerate(parts)]
    return ["".join(choice) for choice in itertools.product(*options)]


def choose(phrasing: str, rng: random.Random) -> str:
    """One choice of `phrasing`, slots left open."""
    return _CHOICE.sub(lambda match: rng.choice(match.group(1).split("|")), phrasing)


def vary(phrasing: str, rng: random.Random) -> str:
    """One choice of `phrasing` with politeness, casing and punctuation varied; slots are left open."""
    text = choose(phrasing, rng)
    imperative = text.startswith("!")
    text = text.removeprefix("!")
    if rng.random() < (0.4 if imperative else 0.12):
        around = rng.choice(_BEFORE_IMPERATIVE if imperative else _AROUND_OTHER)
        inner = text.rstrip("?.!") if imperative else text
        text = around.replace("{x}", inner)
    style = rng.random()
    if style < 0.55:
        text = _on_words(text, str.lower)
    if style < 0.85 and rng.random() < 0.6:
        text = text[:1].upper() + text[1:]
    elif style > 0.97:
        text = _on_words(text, str.upper)
    if rng.random() < 0.25:
        text = text.rstrip("?.!")
    elif text[-1:].isalnum() and rng.random() < 0.4:
        text += rng.choice((".", "?") if not imperative else (".", ".", "!"))
    return text


def perturb(text: str, rng: random.Random, beside_slots: bool) -> str:
    """One to three small slips on the words of `text`: one put in, or one that carries no meaning left out.

    Training on them teaches that a value is what stands there, not what stands after certain words. `beside_slots` is
    False where a word next to a value could be taken for a part of it.
    """
    words = text.split(" ")
    for _ in range(rng.randint(1, 3)):
        if rng.random() < 0.7:
            gap = rng.randint(0, len(words))
            near = "".join(words[max(0, gap - 1) : gap + 1])
            if beside_slots or not _SLOT.search(near):
                words.insert(gap, rng.choice(_FILLERS))
        elif spare := [i for i, word in enumerate(words) if word.lower() in _SPARE]:
            del words[rng.choice(spare)]
    return " ".join(words)


def fill(text: str, slots: dict[str, str]) -> str:
    """Put the values into the slots. Raises KeyError where a slot has no value."""
    return "".join(slots[part[1:-1]] if _SLOT.fullmatch(part) else part for part in _SLOT.split(text))


def slots_of(phrasing: str) -> set[str]:
    """Names of the slots of `phrasing`."""
    return {slot[1:-1] for slot in _SLOT.findall(phrasing)}


def skeleton(text: str) -> str:
    """What of an expanded phrasing must not occur in two sets: its words, without case, punctuation and spaces."""
    return " ".join(re.findall(r"[a-z0-9{}_'+*/%-]+", text.lower()))


def _on_words(text: str, change: Callable[[str], str]) -> str:
    return "".join(part if _SLOT.fullmatch(part) else change(part) for part in _SLOT.split(text))
