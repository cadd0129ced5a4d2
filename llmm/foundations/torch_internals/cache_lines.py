"""Memory comes in lines of 64 bytes: a model of a first-level cache, to see what the order of access costs.

A copy of a transposed matrix moves as many numbers as a plain copy. But its reads jump by a whole row each, so a line
is fetched for one number, and must survive until the same place of the next rows is asked for. Small matrices: it
does. Large ones: it is gone, and fetched again for each of the numbers on it. Going tile by tile brings that back to
once.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

Index = tuple[int, int]


@dataclass(frozen=True)
class Cache:
    """Set-associative, least recently used line out first: 64 sets of 8 lines of 64 bytes are the usual 32 KiB."""

    sets: int = 64
    ways: int = 8
    line_bytes: int = 64

    def fetches(self, addresses: Iterable[int]) -> int:
        """How many lines are fetched by reads at these byte addresses, in this order, from an empty cache."""
        kept: list[OrderedDict[int, None]] = [OrderedDict() for _ in range(self.sets)]
        fetched = 0
        for address in addresses:
            line = address // self.line_bytes
            lines = kept[line % self.sets]
            if line in lines:
                lines.move_to_end(line)
                continue
            fetched += 1
            lines[line] = None
            if len(lines) > self.ways:
                lines.popitem(last=False)
        return fetched


def row_order(rows: int, columns: int) -> Iterator[Index]:
    """All indices of the result, row by row: the order in which a plain copy writes."""
    return ((i, j) for i in range(rows) for j in range(columns))


def tile_order(rows: int, columns: int, height: int, width: int) -> Iterator[Index]:
    """All indices, one rectangle of `height` x `width` after the other: what a transposing copy does."""
    for top in range(0, rows, height):
        for left in range(0, columns, width):
            for i in range(top, min(top + height, rows)):
                for j in range(left, min(left + width, columns)):
                    yield i, j


def fetches_per_line(
    n: int, order: Iterable[Index], transposed: bool, itemsize: int = 4, cache: Cache | None = None
) -> float:
    """Lines fetched to read an n x n matrix in `order`, over the lines that it occupies: 1 is the least."""
    stride = (1, n) if transposed else (n, 1)
    cache = cache or Cache()
    addresses = (itemsize * (i * stride[0] + j * stride[1]) for i, j in order)
    return cache.fetches(addresses) / -(-n * n * itemsize // cache.line_bytes)
