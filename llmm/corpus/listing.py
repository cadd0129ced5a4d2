"""Folders of files: which files, a hash over all of them, a stable sample of them."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from llmm.corpus.splits import position
from llmm.files import sha256_of

Named = tuple[str, Path]  # the name that a document's id is made from, and the file

_LEFT_OUT = frozenset(("__pycache__", "node_modules"))


def walk(folder: Path) -> Iterator[Named]:
    """All files under `folder` with their relative paths, sorted; hidden and cache folders left out, links not followed."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _LEFT_OUT and not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                path = Path(parent, name)
                yield path.relative_to(folder).as_posix(), path


def hash_of(files: Iterable[Named]) -> str:
    """One sha256 over names and contents; a file that cannot be read counts by its name alone."""
    lines = []
    for name, path in files:
        try:
            lines.append(f"{name}\0{sha256_of(path)}\n")
        except OSError:
            lines.append(f"{name}\0unreadable\n")
    return sha256_of(*lines)


def sample(files: Sequence[Named], limit: int) -> list[Named]:
    """At most `limit` files (0 for all), drawn by the hash of their names: the same ones in every run, from everywhere."""
    if not limit or len(files) <= limit:
        return list(files)
    return sorted(sorted(files, key=lambda file: position(file[0], 0))[:limit])
