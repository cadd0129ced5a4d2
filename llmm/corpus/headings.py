"""Headings of Markdown and reStructuredText, and of HTML after its conversion to text."""

import re
from dataclasses import dataclass

_FENCE = re.compile(r" {0,3}(```|~~~)")
_HASHES = re.compile(r" {0,3}(#{1,6})[ \t]+(.+?)[ \t]*#*[ \t]*$")
_UNDERLINE = re.compile(r"([=\-~^\"'`#*+.:_])\1{2,}[ \t]*$")
_LEVEL_OF_UNDERLINE = {"=": 1, "-": 2}


@dataclass(frozen=True)
class Heading:
    """A heading: its words, level (1 is the highest) and character offset in the text."""

    text: str
    level: int
    start: int


def find_headings(text: str) -> list[Heading]:
    """The headings of a text in order: `# words`, and words underlined with one repeated punctuation mark.

    Lines in fenced code blocks are none. An underline is as long as its words, as reStructuredText asks for;
    levels of underlined headings are 1 for `=`, 2 for `-`, 3 for every other mark.
    """
    headings: list[Heading] = []
    fence = ""
    above, above_start = "", 0
    start = 0
    for line in text.split("\n"):
        if fenced := _FENCE.match(line):
            fence = "" if fence == fenced[1] else fence or fenced[1]
            above = ""
        elif not fence and (hashes := _HASHES.match(line)):
            headings.append(Heading(hashes[2].strip(), len(hashes[1]), start))
            above = ""
        elif not fence and (underline := _UNDERLINE.match(line)) and len(line.rstrip()) >= len(above.strip()) > 0:
            level = _LEVEL_OF_UNDERLINE.get(underline[1], 3)
            headings.append(Heading(above.strip(), level, above_start))
            above = ""
        else:
            above = "" if fence or _UNDERLINE.match(line) else line
        above_start = start
        start += len(line) + 1
    return headings
