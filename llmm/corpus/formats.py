"""From the bytes of a file to text and a title."""

import re
from html.parser import HTMLParser
from pathlib import PurePosixPath

from llmm.corpus.headings import find_headings
from llmm.corpus.python_objects import module_docstring, summary_of

TEXT_SUFFIXES = (".txt", ".md", ".rst", ".html", ".htm", ".py")
TABLE_SUFFIXES = (".jsonl", ".parquet")

_BLOCKS = re.compile(
    "address|article|aside|blockquote|br|dd|div|dl|dt|fieldset|figcaption|figure|footer|form|h[1-6]|header|hr|li|main|"
    "nav|ol|p|pre|section|table|tr|ul"
)
_HIDDEN = frozenset(("script", "style", "template", "noscript", "svg"))


class NotText(Exception):
    """The bytes are no text; the message is the reason to count."""


def decode(raw: bytes) -> str:
    """UTF-8 bytes as text, without a byte order mark. Raises NotText("binary" or "not UTF-8")."""
    if b"\0" in raw[:8192]:
        raise NotText("binary")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise NotText("not UTF-8") from None


def to_text(name: str, content: str) -> tuple[str, str]:
    """Title and text of a file with this name (a relative path) and content.

    The title is the first heading (Markdown, reStructuredText, HTML), the first sentence of the module's docstring
    (Python) or the file's name.
    """
    path = PurePosixPath(name)
    suffix = path.suffix.lower()
    if suffix == ".py":
        return summary_of(module_docstring(content)) or path.name, content
    if suffix in (".html", ".htm"):
        title, content = html_to_text(content)
        if title:
            return title, content
    headings = find_headings(content)
    return headings[0].text if headings else path.name, content


def html_to_text(html: str) -> tuple[str, str]:
    """Title ('' for none) and visible text of an HTML page; headings become `# words` lines, blocks paragraphs."""
    reader = _HtmlText()
    reader.feed(html)
    reader.close()
    lines = [line.rstrip() for line in "".join(reader.pieces).split("\n")]
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")
    return " ".join("".join(reader.title).split()), text


class _HtmlText(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self.title: list[str] = []
        self._hidden = 0
        self._preformatted = 0
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "title":
            self._in_title = not self.title
        elif tag in _HIDDEN:
            self._hidden += 1
        elif _BLOCKS.fullmatch(tag):
            self._new_line(1 if tag in ("br", "li", "tr", "dt", "dd") else 2)
            if re.fullmatch("h[1-6]", tag):
                self.pieces.append("#" * int(tag[1]) + " ")
            elif tag == "li":
                self.pieces.append("- ")
            self._preformatted += tag == "pre"
        elif tag in ("td", "th"):
            self.pieces.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
        elif tag in _HIDDEN:
            self._hidden = max(0, self._hidden - 1)
        elif _BLOCKS.fullmatch(tag):
            self._new_line(1 if tag in ("li", "tr", "dt", "dd") else 2)
            self._preformatted = max(0, self._preformatted - (tag == "pre"))

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title.append(data)
        elif self._hidden:
            return
        elif self._preformatted:
            self.pieces.append(data)
        elif words := re.sub(r"\s+", " ", data):
            at_line_start = not self.pieces or self.pieces[-1].endswith(("\n", " "))
            self.pieces.append(words.lstrip(" ") if at_line_start else words)

    def parse_marked_section(self, i: int, report: int = 1) -> int:
        """`<![...` is a comment up to the next `>`, as in browsers; the library raises at unknown ones."""
        return self.rawdata.find(">", i) + 1 or -1

    def _new_line(self, count: int) -> None:
        """End the line, and with `count` 2 leave an empty one, unless that is so already (or nothing came yet)."""
        if self.pieces:
            end = "".join(self.pieces[-2:])
            self.pieces.append("\n" * (count - len(end) + len(end.rstrip("\n"))))
