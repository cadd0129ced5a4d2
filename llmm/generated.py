"""Parts of documents that programs write: between `<!-- generated: NAME -->` and `<!-- end -->`."""

import re
from collections.abc import Callable, Mapping

from llmm.errors import UserError

_PART = re.compile(r"(<!-- generated: (?P<name>[\w-]+) -->\n)(?P<text>.*?)(<!-- end -->)", re.DOTALL)


def fill(text: str, parts: Mapping[str, Callable[[], str]], leave_others: bool = False) -> str:
    """`text` with its generated parts filled by `parts` (name -> function that writes it).

    Raises UserError for a part that nobody generates, unless others fill the rest of this document (`leave_others`).
    """

    def filled(match: re.Match[str]) -> str:
        if match["name"] in parts:
            return f"{match[1]}{parts[match['name']]()}{match[4]}"
        if leave_others:
            return match[0]
        raise UserError(f"no generated part is called {match['name']}: expected one of {', '.join(parts)}")

    return _PART.sub(filled, text)


def part_names(text: str) -> list[str]:
    """The names of the generated parts, in their order."""
    return [match["name"] for match in _PART.finditer(text)]


def without_parts(text: str) -> str:
    """What people wrote: the text with its generated parts emptied."""
    return _PART.sub(lambda match: f"{match[1]}{match[4]}", text)
