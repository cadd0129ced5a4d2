"""Cutting text into words, which no token crosses, and counting them.

The pattern decides more about a tokenizer than the algorithm behind it: what may be one token, whether numbers line up,
how indentation is spelled. Two things make it fast and exact here:

- nearly all text is ASCII, where the standard library's `re` with plain character classes finds the same words in less
  than half the time of a search that knows Unicode;
- "letter" depends on the version of Unicode. `tokenizers` and `tiktoken` both know version 16. Characters that became
  letters or numbers later are signs to them, and so they are here.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator

import regex

# Tried in this order at every position:
WORDS = "|".join(
    (
        r"[^\r\n\p{L}\p{N}]?\p{L}+",  # letters with the one sign before them: " word", "_name", ".attribute", "(self"
        r"\p{N}",  # digits one by one, so that numbers line up
        r" ?[^\s\p{L}\p{N}]+",  # punctuation
        r"\s*[\r\n]+[ \t]*",  # line ends with the indentation of the next line: one token a line of Python
        r"\s+(?!\S)",  # other runs of spaces but the last, which belongs to the word after it
        r"\s+",
    )
)
_UNICODE = regex.compile(WORDS)
_ASCII = re.compile(  # the same where every character is ASCII, whose only white space is " ", "\t" to "\r"
    r"[^\r\nA-Za-z0-9]?[A-Za-z]+"
    r"|[0-9]"
    r"| ?[^ \t-\rA-Za-z0-9]+"
    r"|[ \t-\r]*[\r\n]+[ \t]*"
    r"|[ \t-\r]+(?![^ \t-\r])"
    r"|[ \t-\r]+"
)
_LATER = (  # code points that became letters or numbers after Unicode 16, up to what `regex` 2026.11.15 knows
    "558 58b-58c 88f c5c cdc 208f 209d-209f a7ce-a7cf a7d2 a7d4 a7dd a7e2 a7f1 ab6c-ab6d 107bb-107bf "
    "10940-10959 10ec5-10ec7 10ed9-10eee 11b0a 11db0-11ddb 11de0-11de9 11df1 1246f 12475-1247f 12550-12686 "
    "16ea0-16eb8 16ebb-16ed3 16ff2-16ff6 187f8-187ff 18cd6-18cda 18d09-18d20 18d80-18df2 18e00-19191 "
    "191a0-191d2 1b123-1b128 1b168 1d6a6 1df1f-1df24 1df2b-1df81 1df90-1df96 1dfcd-1dfff 1e6c0-1e6de "
    "1e6e0-1e6e2 1e6e4-1e6e5 1e6e7-1e6ed 1e6f0-1e6f4 1e6fe-1e6ff 2b73a-2b73f 2b81e 2cea2-2cead 323b0-33479 "
    "3d000-3fc3f"
)
_LATER_CHARACTERS = re.compile(
    "[" + "".join("-".join(chr(int(end, 16)) for end in span.split("-")) for span in _LATER.split()) + "]"
)
_SIGN = "\uffff"  # no character, and never to be one: neither letter nor number nor space
_CUT = regex.compile(r"(?<=\S)\s")
PIECE = 1 << 16  # characters split at once: a word as an object is some twelve times as large as in its text


def split_words(text: str) -> list[str]:
    """The words of `text` in their order; joined they are the text."""
    if text.isascii():
        return _ASCII.findall(text)
    if not _LATER_CHARACTERS.search(text):
        return _UNICODE.findall(text)
    return [text[slice(*match.span())] for match in _UNICODE.finditer(_LATER_CHARACTERS.sub(_SIGN, text))]


def pieces(text: str, size: int = PIECE) -> Iterator[str]:
    """`text` in parts of about `size` characters that have, together, the same words as the whole.

    A white space after something else begins a word under every branch of the pattern, and no branch looks back: a cut
    before it changes nothing. Where none comes, the part is longer.
    """
    start = 0
    while start < len(text):
        cut = _CUT.search(text, start + size)
        end = cut.start() if cut else len(text)
        yield text[start:end]
        start = end


def count_words(texts: Iterable[str]) -> Counter[str]:
    """How often each word stands in the texts, in order of first appearance."""
    counts: Counter[str] = Counter()
    for text in texts:
        for piece in pieces(text):
            counts.update(split_words(piece))
    return counts
