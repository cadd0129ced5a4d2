"""A tiny language for phrasings: `[a|b|]` chooses one of its parts, `{slot}` is filled with a value.
A leading `!` marks an imperative, a leading `~` a noun phrase: each has frames of its own.

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
    "i'd like you to {x}.", "would you {x}?", "could you please {x}?", "hey, {x}", "quickly {x}", "now {x}.",
    "ok, {x}", "hi! {x}", "can you {x} for me?", "go ahead and {x}", "your task: {x}", "{x}!", "{x} for me",
    "kindly {x}.", "try to {x}", "can you please {x}?", "will you {x}?", "would you please {x}?", "i want you to {x}.",
    "are you able to {x}?", "you should {x}.", "hello, can you {x}?", "hi, could you {x}?", "just {x}",
    "{x} now", "{x}, thanks!", "{x} if you can.", "be so kind as to {x}.", "do me a favour and {x}.",
    "i would be glad if you could {x}.", "may i ask you to {x}?", "i was hoping you could {x}.",
    "could you quickly {x}?",
    "would it be possible for you to {x}?", "do you think you could {x}?", "next, {x}.", "first, {x}.", "so {x}",
    "here is what i need: {x}", "hey there, would you {x}?", "your job is to {x}.", "alright, {x}.", "pls {x}",
    "can u {x}?", "if possible, {x}.", "when you have a moment, {x}.",
)  # fmt: skip
# The same, where the asker is the one who does it: not around "tell me ..." or "for me"
_BEFORE_OWN_IMPERATIVE = (
    "help me {x}", "i want to {x}", "let's {x}", "would you mind helping me {x}?", "i have to {x}",
    "i would like to {x}.", "i need to {x}.", "can you help me {x}?", "i'm trying to {x}.", "let us {x}.",
    "i'd like to {x}.", "we need to {x}.", "i need help to {x}.", "for my homework i must {x}.", "how about we {x}?",
)  # fmt: skip
# Around a noun phrase, singular or plural ("~the sum of {a} and {b}")
_AROUND_NOUN = (
    "tell me {x}", "what would {x} be?", "i'd like to know {x}", "work out {x}", "can you give me {x}?", "find {x}",
    "please show {x}", "do you know {x}?", "i need {x}", "give me {x}", "show me {x}", "i want {x}",
    "i want to know {x}",
    "i need to know {x}.", "could you tell me {x}?", "can you tell me {x}?", "could you find out {x}?", "find out {x}",
    "get {x}", "get me {x}", "please give me {x}.", "please tell me {x}", "{x}?", "{x} please", "{x}, please.",
    "can i have {x}?", "could i get {x}?", "i'm interested in {x}.", "let me know {x}.", "would you tell me {x}?",
    "would you show me {x}?", "i would like to have {x}.", "i'm looking for {x}.", "determine {x}", "help me find {x}",
    "can you work out {x}?", "please find {x}", "what about {x}?", "how about {x}?", "any idea of {x}?",
    "may i know {x}?",
    "i wonder about {x}.", "do you have {x}?", "can you find {x} for me?", "could you get me {x}?", "hi, {x} please",
    "now {x}", "let me see {x}", "try to find {x}.", "all i need is {x}.", "what i want is {x}.", "figure out {x}",
)  # fmt: skip
# Around any other phrasing
_AROUND_OTHER = (
    "hi, {x}", "hello! {x}", "hey {x}", "so, {x}", "quick question: {x}", "{x} thanks!", "tell me: {x}",
    "one more thing, {x}", "um, {x}", "question: {x}", "ok so {x}", "please help: {x}", "hmm, {x}", "{x} thank you",
    "i was wondering, {x}", "good morning, {x}", "{x} any idea?", "please tell me: {x}?", "can you tell me: {x}?",
    "i have a question: {x}?", "my question is: {x}?", "here is one: {x}", "now, {x}", "well, {x}", "and {x}",
    "ok, {x}", "next question: {x}?", "could you help? {x}?", "help me with this: {x}", "i need to know: {x}",
    "just asking, {x}?", "please, {x}?", "hello, {x}?", "hi there! {x}", "{x} please", "{x}, please?", "say, {x}?",
    "i want to know: {x}", "quick one: {x}", "answer this: {x}", "{x}? thanks", "{x}? i need to know.",
)  # fmt: skip
# A slot whose value reads on into whatever words come after it, and what may come after it all the same
_READS_ON = re.compile(r"\{(topic|deed)\}\W*$")
_HARMLESS_END = re.compile(r"\{x\}\W*((please|thanks|thank you)\W*)?$")

# Words that may be put in anywhere, and words that may be left out, without another meaning
_FILLERS = (
    "just", "would", "please", "actually", "exactly", "now", "then", "here", "again", "simply", "well", "maybe", "will",
    "gets", "still", "also", "want", "know", "see", "could", "going", "ok", "say", "with me", "right now", "for me",
    "as it is", "accepted by", "in all", "i think", "by the way", "you know", "when possible", "if you can",
)  # fmt: skip
_SPARE = frozenset(("the", "a", "of", "is", "me", "do", "does", "i", "can", "you", "please", "what", "are", "to"))


def expand(phrasing: str) -> list[str]:
    """Every choice of `phrasing`, slots left open, without the mark of the imperative or the noun phrase."""
    parts = _CHOICE.split(phrasing.removeprefix("!").removeprefix("~"))
    options = [part.split("|") if index % 2 else [part] for index, part in enumerate(parts)]
    return ["".join(choice) for choice in itertools.product(*options)]


def choose(phrasing: str, rng: random.Random) -> str:
    """One choice of `phrasing`, slots left open."""
    return _CHOICE.sub(lambda match: rng.choice(match.group(1).split("|")), phrasing)


def vary(phrasing: str, rng: random.Random) -> str:
    """One choice of `phrasing` with politeness, casing and punctuation varied; slots are left open."""
    text = choose(phrasing, rng)
    imperative, noun = text.startswith("!"), text.startswith("~")
    text = text[1:] if imperative or noun else text
    if rng.random() < (0.4 if imperative else 0.6 if noun else 0.12):
        text = rng.choice(_frames(text, imperative, noun)).replace("{x}", _unpunctuated(text))
    style = rng.random()
    if style < 0.55:
        text = _on_words(text, str.lower)
    if style < 0.85 and rng.random() < 0.6:
        text = text[:1].upper() + text[1:]
    elif style > 0.97:
        text = _on_words(text, str.upper)
    if rng.random() < 0.25:
        text = _unpunctuated(text)
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


def _frames(text: str, imperative: bool, noun: bool) -> tuple[str, ...]:
    """The frames that fit around `text`."""
    frames: tuple[str, ...] = _AROUND_NOUN if noun else _AROUND_OTHER
    if imperative:
        for_asker = re.search(r"\bme\b", text)
        frames = _BEFORE_IMPERATIVE if for_asker else _BEFORE_IMPERATIVE + _BEFORE_OWN_IMPERATIVE
    if _READS_ON.search(text):
        frames = tuple(frame for frame in frames if _HARMLESS_END.search(frame))
    return frames


def _unpunctuated(text: str) -> str:
    """`text` without its full stop or question mark. The mark of "{n}!" stays, as it is the factorial."""
    bare = text.rstrip("?.")
    return bare if bare.endswith("}!") else text.rstrip("?.!")


def _on_words(text: str, change: Callable[[str], str]) -> str:
    return "".join(part if _SLOT.fullmatch(part) else change(part) for part in _SLOT.split(text))
