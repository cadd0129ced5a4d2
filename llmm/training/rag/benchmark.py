"""The retrieval benchmark: find the object that a docstring describes.

The query is the first sentence of an object's docstring; the document to find is the object's code without its
docstring, among all documented objects of the corpus. With its names the query shares rare words with the code, which
is what BM25 lives on; with the names removed it has to be understood. Where the source has no Python objects, the
query is a section's heading and the document the rest of the section.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from llmm.corpus import Document, PythonObject
from llmm.training.rag.sections import find_sections
from llmm.training.rag.words import split_words

SUITES = ("retrieval_names_removed", "retrieval_with_names")
MIN_QUERY_WORDS = 3
_TOKEN = re.compile(r"\w+")


@dataclass(frozen=True)
class Query:
    """A question for the retrievers: the document with id `relevant` answers it."""

    id: str
    text: str
    without_names: str
    relevant: str

    def of(self, suite: str) -> str:
        """The text of the query in one of SUITES."""
        return self.without_names if suite == "retrieval_names_removed" else self.text


@dataclass(frozen=True)
class Benchmark:
    """`documents` maps ids to texts; `queries` are those of one split, whose documents are `held_out`."""

    documents: dict[str, str]
    queries: list[Query]
    held_out: frozenset[str]


def remove_names(text: str, name: str) -> str:
    """`text` without the words that `name` is made of, whatever their case: "Decode a JSON document" → "a document"
    for json.decoder.decode."""
    names = set(split_words(name)) | {part.lower() for part in _TOKEN.findall(name)}

    def keep(match: re.Match[str]) -> str:
        if match.group().lower() in names:
            return ""
        parts = split_words(match.group())
        return match.group() if not names & set(parts) else " ".join(part for part in parts if part not in names)

    return " ".join(_TOKEN.sub(keep, text).split())


def object_text(item: PythonObject) -> str:
    """What is searched for: the code of the object, which its docstring is no part of."""
    return item.source


def object_query(item: PythonObject) -> Query:
    """The query that the object's summary makes."""
    return Query(item.qualname, item.summary, remove_names(item.summary, item.qualname), item.qualname)


def is_searchable(item: PythonObject) -> bool:
    """Whether the object has a summary and a body of its own that does not repeat the summary."""
    return bool(item.summary) and item.source.count("\n") >= 1 and item.summary not in item.source


def object_benchmark(objects: Sequence[PythonObject], split: str, limit: int, seed: int) -> Benchmark:
    """Queries from the objects of `split` (at most `limit`, drawn with `seed`), documents from all splits."""
    pool = {item.qualname: item for item in objects if is_searchable(item)}
    queries = [object_query(item) for item in pool.values() if item.split == split]
    documents = {key: object_text(item) for key, item in pool.items()}
    held_out = frozenset(key for key, item in pool.items() if item.split == split)
    return Benchmark(documents, _draw(queries, limit, seed), held_out)


def section_benchmark(documents: Mapping[str, Sequence[Document]], split: str, limit: int, seed: int) -> Benchmark:
    """The same from sections: `documents` maps each split to its documents."""
    pool: dict[str, str] = {}
    queries = []
    for name, members in documents.items():
        for section in (section for document in members for section in find_sections(document)):
            if section.id in pool or section.heading in section.body:
                continue
            pool[section.id] = section.body
            if name == split:
                bare = remove_names(section.heading, section.title)
                queries.append(Query(section.id, f"{section.title}: {section.heading}", bare, section.id))
    return Benchmark(pool, _draw(queries, limit, seed), frozenset(query.relevant for query in queries))


def make_benchmark(
    objects: Sequence[PythonObject], documents: Mapping[str, Sequence[Document]], split: str, limit: int, seed: int
) -> Benchmark:
    """The benchmark of objects where the corpus has some, of sections where it has none."""
    if any(is_searchable(item) for item in objects):
        return object_benchmark(objects, split, limit, seed)
    return section_benchmark(documents, split, limit, seed)


def _draw(queries: list[Query], limit: int, seed: int) -> list[Query]:
    """At most `limit` of the queries, in their own order, without those too short to mean anything."""
    usable = [query for query in queries if len(split_words(query.without_names)) >= MIN_QUERY_WORDS]
    if len(usable) <= limit:
        return usable
    chosen = np.random.default_rng(seed).choice(len(usable), size=limit, replace=False)
    return [usable[i] for i in sorted(chosen.tolist())]
