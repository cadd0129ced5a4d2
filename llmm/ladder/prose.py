"""Telling writing from filler: words counted, repetition, borrowed sentences."""

import re

FEWEST_DISTINCT = 0.5  # share of different words in any hundred; prose has 0.6 to 0.8
FEWEST_FUNCTION_WORDS = 0.2  # share of the commonest words; English prose has 0.4, a list of terms nearly none
COPIED = 0.2  # share of runs of four words that stand in another text
_RUN = 4
_WINDOW = 100
_WORD = re.compile(r"[a-z]+(?:['’][a-z]+)?")
_PLACEHOLDER = re.compile(
    r"\b(todo|tbd|fixme|xxx|lorem ipsum|placeholder|fill (?:this )?in|to be (?:written|done))\b", re.I
)
_FUNCTION_WORDS = set(
    _WORD.findall(
        "a an and are as at be because been but by can could did do does for from had has have how i if in into is it "
        "its more most no not of on one only or our out so than that the their them then there these they this to too "
        "was we were what when where which while who why will with would you"
    )
)


def words(text: str) -> list[str]:
    """The words of `text`, lower-case, without code, link targets and markup."""
    text = re.sub(r"`[^`]*`|\]\([^)]*\)|\$[^$]*\$|<!--.*?-->", " ", text, flags=re.DOTALL)
    return _WORD.findall(text.lower())


def placeholder(text: str) -> str:
    """The first mark of something left to be written, "" if there is none."""
    found = _PLACEHOLDER.search(text)
    return found[0] if found else ""


def filler(text: str) -> str:
    """Why `text` reads as filler, in a phrase; "" if it does not."""
    sentences = [" ".join(words(sentence)) for sentence in re.split(r"(?<=[.!?])\s+", text)]
    for sentence in sentences:
        if sentence.count(" ") >= 3 and sentences.count(sentence) > 1:
            return f"says the same sentence twice: {sentence[:60]!r}"
    found = words(text)
    windows = [found[i : i + _WINDOW] for i in range(0, max(1, len(found) - _WINDOW + 1), _WINDOW // 2)]
    if any(window and len(set(window)) / len(window) < FEWEST_DISTINCT for window in windows):
        return "repeats the same few words"
    if found and sum(word in _FUNCTION_WORDS for word in found) / len(found) < FEWEST_FUNCTION_WORDS:
        return "is a list of words, no sentences"
    return ""


def copied_share(text: str, other: str) -> float:
    """Share of the runs of four words in `text` that stand in `other` as well."""
    runs = _runs(text)
    return len(runs & _runs(other)) / len(runs) if runs else 0.0


def _runs(text: str) -> set[tuple[str, ...]]:
    found = words(text)
    return {tuple(found[i : i + _RUN]) for i in range(len(found) - _RUN + 1)}
