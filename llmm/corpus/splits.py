"""Which split a document belongs to: decided by its id alone, so that a new document moves no other."""

import hashlib
import re
from dataclasses import replace

from llmm.corpus.document import SourceDocument
from llmm.errors import UserError

SPLITS = ("train", "val", "test")


def position(document_id: str, seed: int) -> float:
    """A number in [0, 1) from the id and the seed."""
    digest = hashlib.sha256(f"{seed}:{document_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def assign_splits(ids: list[str], val_fraction: float, test_fraction: float, seed: int) -> list[str]:
    """The split of each id: test below `test_fraction`, val next to it, train for the rest.

    Where a split would stay empty (few documents), the nearest document of the training split moves there, or the
    farthest of the others into training. Needs at least three ids.
    """
    places = [position(document_id, seed) for document_id in ids]
    splits = [
        "test" if place < test_fraction else "val" if place < test_fraction + val_fraction else "train"
        for place in places
    ]
    order = sorted(range(len(ids)), key=lambda index: places[index])
    for missing, candidates in (("test", order), ("val", order), ("train", order[::-1])):
        if missing not in splits:
            index = next(index for index in candidates if splits.count(splits[index]) > 1)
            splits[index] = missing
    return splits


def cut_in_three(document: SourceDocument, val_fraction: float, test_fraction: float) -> dict[str, SourceDocument]:
    """A document as three contiguous ones, train first: for a corpus of one or two documents.

    Cuts lie at the nearest paragraph boundary, or line, word, character where there is none near. Raises UserError
    where there is too little text.
    """
    text = document.text
    first = _cut_near(text, 1 - val_fraction - test_fraction)
    second = first + _cut_near(text[first:], val_fraction / (val_fraction + test_fraction))
    parts = dict(zip(SPLITS, (text[:first], text[first:second], text[second:]), strict=True))
    if not all(part.strip() for part in parts.values()):
        raise UserError(
            f"{document.id} is the whole corpus and too short ({len(text)} characters) for three splits: add more text"
        )
    return {split: replace(document, id=f"{document.id}#{split}", text=part) for split, part in parts.items()}


def _cut_near(text: str, fraction: float) -> int:
    """The boundary nearest to `fraction` of the text, of the best kind that has one within a tenth of it."""
    target = round(len(text) * fraction)
    reach = max(len(text) // 10, 1)
    low = max(target - reach, 1)
    window = text[low : min(target + reach, len(text) - 1)]
    for boundary in (r"\n\n+(?=\S)", r"\n\n+", r"\n", r"\s"):
        ends = [low + match.end() for match in re.finditer(boundary, window)]
        if ends:
            return min(ends, key=lambda end: abs(end - target))
    return min(max(target, 1), len(text))
