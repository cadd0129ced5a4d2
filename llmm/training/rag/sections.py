"""Sections of prose with the line that names them: what queries and documents are made of where there is no Python."""

import re
from dataclasses import dataclass

from llmm.corpus import Document, find_headings

_UNDERLINE = re.compile(r"\s*[^\w\s]{3,}[ \t]*(?=\n|$)")
_PARAGRAPH = re.compile(r"\n[ \t]*\n")
_FIRST_SENTENCE = re.compile(r"\S.*?(?:[.!?][\"')\]]*(?=\s)|\n)", re.DOTALL)
MIN_BODY_CHARS = 80
MAX_BODY_CHARS = 2000


@dataclass(frozen=True)
class Section:
    """`text[start:end]` of a document is the body; `heading` stands before it and is no part of it."""

    id: str
    source: str
    title: str
    heading: str
    body: str
    start: int
    end: int


def find_sections(document: Document) -> list[Section]:
    """Headed sections of the document; where it has no headings, its paragraphs, headed by their first sentence.

    Bodies shorter than 80 characters are left out, longer ones than 2,000 are cut there.
    """
    headings = find_headings(document.text)
    if headings:
        ends = [heading.start for heading in headings[1:]] + [len(document.text)]
        parts = [
            (heading.text, _after_heading(document.text, heading.start), end)
            for heading, end in zip(headings, ends, strict=True)
        ]
    else:
        parts = []
        for start, end in _paragraphs(document.text):
            if first := _FIRST_SENTENCE.match(document.text, start, end):
                parts.append((" ".join(first.group().split()), first.end(), end))
    sections = []
    for heading, start, end in parts:
        body = document.text[start:end]
        start += len(body) - len(body.lstrip())
        body = document.text[start : min(end, start + MAX_BODY_CHARS)].rstrip()
        if len(body) >= MIN_BODY_CHARS and len(heading) > 2:
            end = start + len(body)
            sections.append(
                Section(f"{document.id}#{start}-{end}", document.id, document.title, heading, body, start, end)
            )
    return sections


def _after_heading(text: str, start: int) -> int:
    """Where the text under the heading at `start` begins: after its line and the underline, where there is one."""
    line_end = text.find("\n", start)
    if line_end < 0:
        return len(text)
    underline = _UNDERLINE.match(text, line_end)
    return underline.end() if underline else line_end


def _paragraphs(text: str) -> list[tuple[int, int]]:
    spans, start = [], 0
    for match in _PARAGRAPH.finditer(text):
        spans.append((start, match.start()))
        start = match.end()
    spans.append((start, len(text)))
    return [(start + len(text[start:end]) - len(text[start:end].lstrip()), end) for start, end in spans]
