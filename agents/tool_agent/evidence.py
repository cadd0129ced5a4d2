"""What a conversation gives a call to copy: its numbers, names, phrases and quoted words, as regular expressions.

A small model knows which tool to call long before it copies a twelve-letter word without a slip. Arguments that can
only be copied from what was said leave the choice to the model and take the slips away, and no argument is ever
invented. They narrow the schema of a call for one conversation; what was not said cannot be written, whatever the
weights.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from llmm.training.lora.chat import Conversation

Source = Literal["numbers", "name", "phrase", "program"]  # what an argument is made of; see tools.py

# numbers that nobody has to say: digits, dozens, hours, minutes, percent, days, units
_COMMON_NUMBERS = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "12", "24", "60", "100", "365", "1000")
_COMMON_STRINGS = ("aeiou", "")
_MAX_PHRASE_WORDS = 12
_WORDS_SAID = 60  # phrases start in the first so many words of a message

_UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SPELLED = {word: n for n, word in enumerate(_UNITS)} | {word: 10 * n for n, word in enumerate(_TENS, 2)}
_SCALES = {"hundred": 100, "thousand": 1000, "million": 1_000_000}


def pattern_of(source: Source, conversation: Conversation, before_strings: str = "") -> str | None:
    """A regular expression for an argument made of `source` in `conversation`; None where nothing there can be it.

    `before_strings` is what stands in a program between the opening quotation mark of a string and the string.
    """
    said = [message.text for message in conversation if message.role == "user"]
    anywhere = [message.text for message in conversation if message.role not in ("tool_call", "context")]
    if source == "name":
        return _any_of(_names(anywhere))
    if source == "phrase":
        return _any_of(_phrases(said[-1:]))
    numbers = _any_of([*_COMMON_NUMBERS, *_numbers(anywhere)])
    if source == "numbers":
        return _between(numbers, r"[a-z+\-*/%(), ]")
    strings = _any_of([*_COMMON_STRINGS, *_phrases(said)])
    return _between(numbers, rf"(?:[^0-9'\"]|'{before_strings}(?:{strings}|[^0-9'])'|\"(?:{strings})\")")


def _between(numbers: str | None, other: str) -> str:
    """Numbers with at least one `other` between them, so that two never run together into a third."""
    return rf"(?:{numbers})?(?:(?:{other})+(?:{numbers}))*(?:{other})*"


def _any_of(texts: Iterable[str]) -> str | None:
    unique = sorted(set(texts), key=lambda text: (-len(text), text))
    return "|".join(re.escape(text).replace("/", r"\/") for text in unique) or None


def _names(texts: Sequence[str]) -> list[str]:
    """What can name an object: what does not begin with a digit, or anything where everything does."""
    found = [name.strip(".") for text in texts for name in re.findall(r"[A-Za-z0-9_.]+", text)]
    found = [name for name in found if name and len(name) <= 120]
    return [name for name in found if not name[0].isdigit()] or found


def _phrases(texts: Sequence[str]) -> list[str]:
    """Every run of words of a text as it stands there, without the signs around it."""
    phrases = []
    for text in texts:
        spans = [match.span() for match in re.finditer(r"\S+", text)][:_WORDS_SAID]
        for first, (start, _) in enumerate(spans):
            for _, end in spans[first : first + _MAX_PHRASE_WORDS]:
                raw = text[start:end]
                phrases += [raw.strip("\"'.,;:?!()[]`"), raw.strip("\"'?!,")]
                phrases += re.findall(r"\w+", raw) if " " not in raw else []
    return [phrase for phrase in phrases if phrase and len(phrase) <= 120 and "\n" not in phrase]


def _numbers(texts: Sequence[str]) -> list[str]:
    """Numbers in digits (without the commas of thousands) and in words (as digits)."""
    found = []
    for text in texts:
        found += [number.replace(",", "") for number in re.findall(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", text)]
        found += re.findall(r"\d+\.\d+|\d+", text)
        # "one hundred and twenty" may be one number or two
        for part in (text, *text.split(" and ")):
            found += _spelled_numbers(part)
    return [number for number in found if len(number) <= 20]


def _spelled_numbers(text: str) -> list[str]:
    """ "two hundred and five" -> "205": values of the longest runs of number words."""
    values: list[str] = []
    total = current = 0
    inside = False
    for word in [*re.findall(r"[a-z]+", text.lower()), "."]:
        if word in _SPELLED:
            # "five six" is two numbers, "twenty six" is one
            if inside and current % 100 and not (current % 100 >= 20 and current % 10 == 0 and _SPELLED[word] < 10):
                values.append(str(total + current))
                total = current = 0
            current, inside = current + _SPELLED[word], True
        elif word in _SCALES and inside:
            scale = _SCALES[word]
            if scale == 100:
                current *= 100
            else:
                total, current = total + current * scale, 0
        elif not (word == "and" and inside and (current % 100 == 0)):
            if inside:
                values.append(str(total + current))
            total, current, inside = 0, 0, False
    return values
