"""Which chunk defines which Python name, read from the chunks alone, so that any source with code in it has them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from llmm.training.rag.chunking import Chunk

_HEADER = re.compile(
    r"^(?P<indent>[ \t]*)(?P<word>async[ \t]+def|def|class)[ \t]+(?P<head>(?P<name>\w+)"
    r"(?P<arguments>\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\))?[^:\n]*)",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Definition:
    """A header at chunk.text[start:end], from the name to before the colon. `path` is source, classes and name."""

    path: tuple[str, ...]
    chunk: Chunk
    start: int
    end: int


def find_definitions(chunks: Iterable[Chunk]) -> dict[str, list[Definition]]:
    """Definitions by name, in the order of the chunks, which is that of their documents.

    Where chunks overlap, a header is taken from the chunk that shows more of what follows it.
    """
    found: dict[tuple[str, int], Definition] = {}
    source, owners = "", list[tuple[int, str]]()
    for chunk in chunks:
        if chunk.source != source:
            source, owners = chunk.source, []
        for match in _HEADER.finditer(chunk.text):
            indent = len(match["indent"].expandtabs())
            if match.start() == 0:  # a chunk begins at its first visible character: the indent is left of it
                indent = max((depth for depth, _ in owners), default=-4) + 4 if _is_method(match["head"]) else 0
            owners = [(depth, name) for depth, name in owners if depth < indent]
            path = (*source.split("."), *(name for _, name in owners), match["name"])
            if match["word"] == "class":
                owners.append((indent, match["name"]))
            start, head = match.start("head"), match["head"].rstrip()
            definition = Definition(path, chunk, start, start + len(head))
            key = (source, chunk.start + start)
            if key not in found or chunk.end > found[key].chunk.end:
                found[key] = definition
    by_name: dict[str, list[Definition]] = {}
    for definition in found.values():
        by_name.setdefault(definition.path[-1], []).append(definition)
    return by_name


def _is_method(head: str) -> bool:
    return re.match(r"\w+\((?:self|cls)\b", head) is not None


def matching_share(asked: tuple[str, ...], path: tuple[str, ...]) -> float:
    """Share of the parts of `asked` that `path` has, its last part included; 1 where `path` ends in all of it or has
    every part."""
    return sum(part in path for part in asked) / len(asked)
