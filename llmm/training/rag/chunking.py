"""Documents cut into chunks for search: natural borders, exact offsets, ids that depend on position alone.

A cut is placed at the strongest border in the second half of the allowed span: between top-level definitions or
sections first, then between methods or paragraphs, then blank lines, sentences and lines, and in the middle of a line
only where there is nothing else. After a cut that tears something apart, the next chunk repeats up to
`overlap` characters; after a cut between two definitions or sections there is nothing to repeat.
"""

import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass

# what a border at some offset parts, from strong to weak
SECTION, PART, PARAGRAPH, SENTENCE, LINE, WORD = 6, 5, 4, 3, 2, 1

_PYTHON_LINE = re.compile(
    r"^[ \t]*(?:(?:async )?def \w|class \w|import \w|from \S+ import|return\b|elif\b|else:|try:|except\b.*:|"
    r"(?:if|for|while|with)\b.*:[ \t]*$|@\w|self\.)",
    re.MULTILINE,
)
_PYTHON_BORDERS = (
    (SECTION, re.compile(r"^(?=@\w|(?:async )?def \w|class \w)", re.MULTILINE)),
    (PART, re.compile(r"^(?=[ \t]+(?:@\w|(?:async )?def \w|class \w))", re.MULTILINE)),
    (PARAGRAPH, re.compile(r"\n[ \t]*\n(?=[^\n])")),
    (LINE, re.compile(r"\n")),
    (WORD, re.compile(r"[ \t]+")),
)
_PROSE_BORDERS = (
    # a Markdown heading, or a line that the next one underlines as in reStructuredText
    (SECTION, re.compile(r"^(?=#{1,6} \S|\S[^\n]*\n([=\-~^\"'*+])\1{2,}[ \t]*$)", re.MULTILINE)),
    (PARAGRAPH, re.compile(r"\n[ \t]*\n(?=[^\n])")),
    (SENTENCE, re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[^a-z\s])")),
    (LINE, re.compile(r"\n")),
    (WORD, re.compile(r"[ \t]+")),
)


@dataclass(frozen=True)
class Chunk:
    """A passage of a document: `text` is exactly `document.text[start:end]`; `source` is the document's id."""

    id: str
    source: str
    title: str
    start: int
    end: int
    text: str


def looks_like_python(text: str) -> bool:
    """Whether at least one line in twenty is a Python statement and nothing is fenced as in Markdown."""
    lines = sum(1 for line in text.splitlines() if line.strip())
    statements = sum(1 for _ in _PYTHON_LINE.finditer(text))
    return statements * 20 >= max(lines, 1) and "\n```" not in text


def find_borders(text: str) -> tuple[list[int], list[int]]:
    """Offsets at which `text` may be cut, ascending, and the strength of each (SECTION … WORD)."""
    strength: dict[int, int] = {}
    for level, pattern in _PYTHON_BORDERS if looks_like_python(text) else _PROSE_BORDERS:
        for match in pattern.finditer(text):
            strength.setdefault(match.end(), level)
    offsets = sorted(strength)
    return offsets, [strength[offset] for offset in offsets]


def chunk_text(text: str, source: str, title: str, chunk_chars: int, overlap: int) -> list[Chunk]:
    """Cut one document into chunks of at most `chunk_chars` characters that together hold every visible character.

    White space at either end of a chunk is left out of it. Ids are "source#start-end".
    """
    if not 0 <= overlap < chunk_chars:
        raise ValueError(f"overlap {overlap} is not in [0, chunk_chars = {chunk_chars})")
    offsets, levels = find_borders(text)
    spans: list[tuple[int, int]] = []
    start = 0
    while start < len(text):
        cut, level = _choose_cut(offsets, levels, start, len(text), chunk_chars)
        spans.append((start, cut))
        if cut == len(text):
            break
        start = cut if level >= PART else _overlapping_start(offsets, start, cut, overlap)
    chunks = []
    reached = 0  # a chunk that ends no later than the one before it, white space apart, holds nothing new
    for start, end in spans:
        body = text[start:end]
        start += len(body) - len(body.lstrip())
        end -= len(body) - len(body.rstrip())
        if end > max(start, reached):
            chunks.append(Chunk(f"{source}#{start}-{end}", source, title, start, end, text[start:end]))
            reached = end
    return chunks


def _choose_cut(offsets: list[int], levels: list[int], start: int, length: int, chunk_chars: int) -> tuple[int, int]:
    """The end of the chunk that begins at `start`, and the strength of the border there (0: within a word)."""
    limit = start + chunk_chars
    if limit >= length:
        return length, SECTION
    first = bisect_right(offsets, start + chunk_chars // 2)
    last = bisect_right(offsets, limit)
    if first >= last:
        return limit, 0
    best = max(range(first, last), key=lambda i: (levels[i], offsets[i]))
    return offsets[best], levels[best]


def _overlapping_start(offsets: list[int], start: int, cut: int, overlap: int) -> int:
    """The first border at most `overlap` characters before `cut`, and after `start` so that chunks go forward."""
    earliest = max(cut - overlap, start + 1)
    i = bisect_left(offsets, earliest)
    return offsets[i] if i < len(offsets) and offsets[i] <= cut else min(earliest, cut)
