"""The two things that a corpus is made of."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Document:
    """One text of the source. `id` is stable from run to run: a module's dotted name, a relative path, a row."""

    id: str
    title: str
    text: str


@dataclass(frozen=True)
class SourceDocument(Document):
    """A document as a source hands it over; `module` is the dotted name where the text is Python, else ''."""

    module: str = ""


@dataclass(frozen=True)
class PythonObject:
    """A function, class or method that a document defines.

    `module` is the id of the document, and `start` and `end` are character offsets in its text, from the first
    decorator to the end of the body. `signature` is as in "decode(self, s, _w=WHITESPACE.match)"; `summary` is the
    first sentence of the docstring on one line, `doc` the whole of it, `source` the code without it, not indented.
    """

    qualname: str
    kind: str  # function | class | method
    module: str
    signature: str
    summary: str
    doc: str
    source: str
    split: str
    start: int
    end: int
