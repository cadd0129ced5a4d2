"""The line of a passage that answers a query best."""

import re

MAX_CHARS = 110
_WORD = re.compile(r"[a-z0-9]+")


def best_line(text: str, query: str) -> str:
    """The line of `text` with most of the query's words (the first of equals), trimmed to MAX_CHARS characters."""
    wanted = set(_WORD.findall(query.lower()))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    lines = [line.strip("\"'# ") for line in lines]
    lines = [line for line in lines if len(line.split()) >= 3] or [" ".join(text.split())]
    best = max(lines, key=lambda line: len(wanted & set(_WORD.findall(line.lower()))))
    return best if len(best) <= MAX_CHARS else best[: MAX_CHARS - 1].rstrip() + "…"
