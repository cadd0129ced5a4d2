"""Folders of files: which files, a hash over all of them, a stable sample of them."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from llmm.files import sha256_of

Named = tuple[str, Path]  # the name that a document's id is made from, and the file

_CACHES = frozenset(("__pycache__", "node_modules"))


def walk(folder: Path, left_out: frozenset[str] = frozenset()) -> Iterator[Named]:
    """All files under `folder` with their relative paths, sorted; links to folders are not followed.

    Hidden folders, caches and folders named in `left_out` are not entered.
    """
    left_out |= _CACHES
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in left_out and not name.startswith("."))
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
    """At most `limit` files (0 for all), drawn by the hash of their names: the same in every run.

    Not by the hash that decides the splits: the first of that order are all in the test split.
    """
    if not limit or len(files) <= limit:
        return list(files)
    return sorted(sorted(files, key=lambda file: sha256_of("sample", file[0]))[:limit])
