"""Values for training: phrases of all that is written, where tasks to report on take those of titles and summaries.

Who has read a few phrases many times knows which they are, and not where one ends: "load a module from a file" is then
searched for as "load a module".
"""

import dataclasses
import random
import re
from collections.abc import Sequence

from agents.tool_agent.values import (
    _DETERMINERS,
    _NO_NOUN,
    Values,
    _deed_in,
    _ends_phrase,
    _topics_in,
    collect_values,
)
from llmm.corpus import Document, PythonObject

_SENTENCE_END = re.compile(r"(?<=[.:;!?])\s+|\n\s*\n")
_PURPOSE = re.compile(r"\bto ((?:[a-z][a-z'-]* ){1,7}[a-z][a-z'-]*)(?=[.,:;!?)]|$)")
_NOUN_PHRASE = re.compile(
    rf"\b({'|'.join(sorted(_DETERMINERS))})((?: (?!(?:{'|'.join(sorted(_NO_NOUN))})\b)[a-z][a-z-]*){{1,3}})(?= |$|,)"
)


def whole_text_values(
    documents: Sequence[Document], objects: Sequence[PythonObject], everything: Sequence[PythonObject]
) -> Values:
    """What `collect_values` finds, with the topics of every document's text and the deeds of every docstring, or of the
    text where a document defines no objects, each deed once more with other topics."""
    values = collect_values(documents, objects, everything)
    topics = set(values.topics).union(*(_topics_in(document.text) for document in documents))
    described = {item.module for item in objects}
    prose = [item.doc for item in objects] + [d.text for d in documents if d.id not in described]
    deeds = set(values.deeds).union(*map(_deeds_in, prose))
    if topics:
        deeds |= _of_other_things(sorted(deeds), sorted(topics))
    return dataclasses.replace(values, topics=tuple(sorted(topics)), deeds=tuple(sorted(deeds)))


def _deeds_in(prose: str) -> set[str]:
    """Short sentences that say what is done, and clauses that say what for: "to wait for a future"."""
    sentences = (" ".join(sentence.split()) for sentence in _SENTENCE_END.split(prose))
    found: set[str] = set()
    for sentence in sentences:
        found |= _deed_in(sentence.rstrip(".:;!?"))
        found.update(c for c in _PURPOSE.findall(sentence.lower()) if not _ends_phrase(c.split()[0]))
    return found


def _of_other_things(deeds: Sequence[str], topics: Sequence[str]) -> set[str]:
    """Every deed once more with another noun phrase after each of its determiners."""
    rng = random.Random(0)
    return {_NOUN_PHRASE.sub(lambda found: f"{found[1]} {rng.choice(topics)}", deed) for deed in deeds}
