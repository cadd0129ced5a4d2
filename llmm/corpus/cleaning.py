"""What every text goes through, whatever its source."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from llmm.corpus.document import SourceDocument
from llmm.corpus.skipped import Skipped

_NEWLINES = re.compile(r"\r\n?")
_LONE_SURROGATES = re.compile("[\ud800-\udfff]")


def clean_text(text: str) -> str:
    """One kind of newline, no empty lines around, no half surrogate pairs (JSON escapes can make them).

    Unicode is not normalised: the tokenizer works on bytes and a text must come back as it was.
    """
    text = _LONE_SURROGATES.sub("\ufffd", _NEWLINES.sub("\n", text)).strip("\n")
    return text + "\n" if text else ""


def clean(
    documents: Iterable[SourceDocument], min_chars: int, max_chars: int, skipped: Skipped
) -> Iterator[SourceDocument]:
    """Clean every text; shorter ones than `min_chars` are skipped, longer ones than `max_chars` cut and counted."""
    for document in documents:
        text = clean_text(document.text)
        if len(text.strip()) < min_chars:
            skipped.add("shorter than corpus.min_chars", document.id, quiet=True)
            continue
        if len(text) > max_chars:
            skipped.add("cut at corpus.max_chars", document.id, quiet=True)
            text = text[:max_chars]
        yield replace(document, text=text)
