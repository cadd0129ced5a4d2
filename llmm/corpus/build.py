"""From a source to a corpus: read, clean, drop duplicates, split, find Python objects, write."""

from collections import Counter
from pathlib import Path
from typing import Any

from llmm import lineage
from llmm.corpus.cleaning import clean
from llmm.corpus.document import PythonObject, SourceDocument
from llmm.corpus.duplicates import drop_exact, drop_near
from llmm.corpus.python_objects import find_objects
from llmm.corpus.skipped import Skipped
from llmm.corpus.sources import Source
from llmm.corpus.splits import SPLITS, assign_splits, cut_in_three
from llmm.corpus.store import write_documents, write_objects
from llmm.errors import UserError
from llmm.files import atomic_folder
from llmm.params import CorpusParams


def build_corpus(source: Source, params: CorpusParams, seed: int, folder: Path) -> dict[str, Any]:
    """Write the corpus to `folder` and return its figures. Raises UserError where nothing is left to write."""
    skipped = Skipped()
    documents = list(clean(source.read(skipped), params.min_chars, params.max_chars, skipped))
    skipped.summarise()
    read = len(documents)
    documents = [documents[index] for index in drop_exact([document.text for document in documents])]
    exact = read - len(documents)
    if params.near_duplicate_similarity < 1:
        kept = drop_near([document.text for document in documents], params.near_duplicate_similarity)
        documents = [documents[index] for index in kept]
    if not documents:
        reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.as_dict().items()) or "the source is empty"
        raise UserError(f"no document is left of the source ({reasons}): check corpus.path and corpus.min_chars")
    splits, how = _split(documents, params, seed)
    objects = _objects(splits)
    with atomic_folder(folder) as temporary:
        for split in SPLITS:
            write_documents(temporary, split, splits[split])
        write_objects(temporary, objects)
        lineage.seal(temporary, "corpus", [], folder)
    per_split = Counter(item.split for item in objects)
    return {
        "documents": {split: len(splits[split]) for split in SPLITS},
        "characters": {split: sum(len(document.text) for document in splits[split]) for split in SPLITS},
        "bytes": {split: sum(len(document.text.encode()) for document in splits[split]) for split in SPLITS},
        "objects": {split: per_split[split] for split in SPLITS},
        "documented_objects": {
            split: sum(bool(item.doc) for item in objects if item.split == split) for split in SPLITS
        },
        "exact_duplicates": exact,
        "near_duplicates": read - exact - len(documents),
        "skipped": skipped.as_dict(),
        "split": how,
    }


def _split(
    documents: list[SourceDocument], params: CorpusParams, seed: int
) -> tuple[dict[str, list[SourceDocument]], str]:
    """Documents by split, and in words how they were split."""
    splits: dict[str, list[SourceDocument]] = {split: [] for split in SPLITS}
    if len(documents) < len(SPLITS):
        for document in documents:
            for split, part in cut_in_three(document, params.val_fraction, params.test_fraction).items():
                splits[split].append(part)
        how = f"inside each document, into three contiguous parts: {len(documents)} are too few to split by document"
        print(how)
        return splits, how
    ids = [document.id for document in documents]
    assigned = assign_splits(ids, params.val_fraction, params.test_fraction, seed)
    for document, split in zip(documents, assigned, strict=True):
        splits[split].append(document)
    return splits, "by document"


def _objects(splits: dict[str, list[SourceDocument]]) -> list[PythonObject]:
    return [
        item
        for split in SPLITS
        for document in splits[split]
        if document.module
        for item in find_objects(document.text, document.id, document.module, split)
    ]
