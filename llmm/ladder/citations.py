"""Numbers in prose that are links into a record: `[28.1](data/ladder/m01.json#norm_growth.norm_60000)`.

The text of the link is the number as a reader sees it, its target the place that it must agree with.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmm.errors import UserError
from llmm.ladder.records import RECORDS, metric, read_records

LINK = re.compile(rf"\[(?P<text>[^\]]+)\]\((?:\.\./)*(?P<path>{RECORDS}/(?P<id>\w+)\.json)#(?P<metric>[\w.-]+)\)")
DECIMAL = re.compile(r"(?<![\w.])[-+−]?(?:\d+\.\d+(?:e[-+]?\d+)?|\d+e[-+]?\d+)(?!\.?\d)", re.IGNORECASE)
_NUMBER = re.compile(r"(?P<mantissa>[-+]?\d+(?:\.(?P<decimals>\d+))?)(?:e(?P<exponent>[-+]?\d+))?(?P<percent> ?%)?")
FARTHEST = 0.05  # relative: a printed "0" is no rounding of 0.3


@dataclass(frozen=True)
class Citation:
    """A number as printed, and the milestone and path in its record that it cites."""

    printed: str
    milestone: str
    metric: str


def citations(text: str) -> list[Citation]:
    """All citations of records in `text`."""
    return [Citation(match["text"], match["id"], match["metric"]) for match in LINK.finditer(text)]


def citation_faults(text: str) -> Iterator[str]:
    """One line for each citation that names no value, or prints another one."""
    for citation in citations(text):
        try:
            value = metric(read_records(citation.milestone)["experiments"], citation.metric)
        except UserError as error:
            yield f"[{citation.printed}]: {error}"
            continue
        if not agrees(citation.printed, value):
            yield f"[{citation.printed}] cites {citation.metric}, which is {_plain(value)}"


def uncited_decimals(text: str) -> list[str]:
    """Decimal numbers in `text` that are not citations."""
    return DECIMAL.findall(LINK.sub(" ", text))


def agrees(printed: str, value: Any) -> bool:
    """Whether `printed` is `value` rounded to the digits printed ("97.3%" stands for 0.973, "1,024" for 1024)."""
    if isinstance(value, bool | str):
        return printed.strip("`").lower() == str(value).lower()
    match = _NUMBER.fullmatch(printed.strip("`").replace("−", "-").replace(",", "").lower())
    if match is None or not isinstance(value, int | float):
        return False
    scale = 10.0 ** int(match["exponent"] or 0) / (100 if match["percent"] else 1)
    number = float(match["mantissa"]) * scale
    step = scale * 10.0 ** -len(match["decimals"] or "")
    near = abs(number - value) <= 0.5 * step * (1 + 1e-9)
    return near and math.isclose(number, value, rel_tol=FARTHEST)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:.6g}" if isinstance(value, float) else str(value)


def local_links(text: str) -> list[Path]:
    """Targets of links and pictures in `text` that are files of this project."""
    return [Path(target) for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text)]
