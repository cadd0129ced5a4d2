"""The extractive reader: the passage of the found chunks that answers, always a quotation with its place.

A question that names something which the corpus defines is answered by that definition, wherever it was ranked: its
header for a question about the signature, the first sentence of its docstring for one about what it does. Every other
question is answered by the sentence or line with the largest share of the question's words, rare words counting more
(idf).
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from llmm.training.rag.bm25 import BM25
from llmm.training.rag.definitions import Definition, matching_share
from llmm.training.rag.index import Hit, SearchIndex, searchable_text
from llmm.training.rag.words import split_words

STOP_WORDS = frozenset(
    """a an and are as at be by can do does for from give given has have how i in is it its me of on one or please show
    tell that the there this to use used what when where which who why will with would you your about purpose explain
    describe""".split()  # noqa: SIM905
)
_DOCSTRING = re.compile(
    r"\s*:?[^\n]*\n\s*[rRuU]?(\"\"\"|''')\s*(?P<first>.+?(?:[.!?](?=\s|\1)|(?=\n[ \t]*\n)|(?=\1)))", re.DOTALL
)
_SENTENCE = re.compile(r"\S(?:[^\n]|\n(?![ \t]*\n))*?(?:[.!?](?=[\"')\]]*(?:\s|$))|(?=\n[ \t]*\n)|\Z)")
_SIGNATURE_QUESTION = re.compile(r"\b(signature|arguments?|parameters?|takes?|accepts?|called|call)\b", re.IGNORECASE)
_WHERE_QUESTION = re.compile(r"\b(where|which module|what module|which file|defined|located|lives?)\b", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
MAX_QUOTE_CHARS = 400


@dataclass(frozen=True)
class Quote:
    """`text` is the document's text[start:end]. `score` in [0, 1] says how much of the question its chunk covers, or
    how much of the asked name its definition matches."""

    source: str
    start: int
    end: int
    text: str
    score: float
    defines: bool = False


def kind_of(question: str) -> str:
    """ "signature", "where" or "what"."""
    if _SIGNATURE_QUESTION.search(question):
        return "signature"
    return "where" if _WHERE_QUESTION.search(question) else "what"


def content_words(question: str) -> list[str]:
    """The words of the question that say what it is about, each once, in order."""
    words = split_words(question)
    return list(dict.fromkeys(word for word in words if word not in STOP_WORDS)) or list(dict.fromkeys(words))


def coverage(words: Sequence[str], text: str, bm25: BM25) -> float:
    """Share of `words` that `text` has, weighted by idf; a word that no chunk has weighs the most."""
    present = set(split_words(text))
    weights = {word: _idf(word, bm25) for word in words}
    return sum(weight for word, weight in weights.items() if word in present) / (sum(weights.values()) or 1.0)


def read(question: str, hits: Sequence[Hit], index: SearchIndex) -> list[Quote]:
    """Quotations that answer, best first; none where the question names an object that is nowhere.

    A dotted name or one with an underscore can only mean that object, so other sentences must at least have it.
    """
    names = asked_names(question)
    found = definitions(names, kind_of(question), index)
    if found:
        return found
    certain = [name for name in names if len(name) > 1 or "_" in name[0]] if index.definitions else []
    for name in certain:
        hits = [hit for hit in hits if re.search(rf"\b{re.escape(name[-1])}\b", hit.chunk.text)]
    return sentences(question, hits, index.bm25)


def asked_names(question: str) -> list[tuple[str, ...]]:
    """Names of objects in the question, split at their dots: dotted ones, and words that look like code."""
    words = _NAME.findall(question)
    return [tuple(word.split(".")) for word in words if "." in word or _is_code(word, question)]


def definitions(names: Sequence[tuple[str, ...]], kind: str, index: SearchIndex) -> list[Quote]:
    """Quotations of the definitions of `names`, best match first; the score is the share of the name that matches."""
    matches = [
        (matching_share(name, definition.path), len(definition.path), definition)
        for name in names
        for definition in index.definitions.get(name[-1], [])
    ]
    # of equal matches the one with the shortest path: a function before a method of the same name
    matches.sort(key=lambda match: (-match[0], match[1], match[2].chunk.id))
    return [_quote(definition, kind, share) for share, _, definition in matches]


def sentences(question: str, hits: Sequence[Hit], bm25: BM25) -> list[Quote]:
    """The sentences and lines of `hits` by their coverage of the question, best first."""
    words = content_words(question)
    quotes = []
    for rank, hit in enumerate(hits):
        confidence = coverage(words, searchable_text(hit.chunk), bm25)
        for match in _SENTENCE.finditer(hit.chunk.text):
            text = match.group()[:MAX_QUOTE_CHARS].rstrip()
            covered = coverage(words, text, bm25)
            if covered > 0:
                start = hit.chunk.start + match.start()
                quote = Quote(hit.chunk.source, start, start + len(text), text, confidence)
                # a sentence of a chunk that covers the question; of equal ones the shorter says it more plainly
                quotes.append((-covered - confidence, rank, len(split_words(text)), quote))
    quotes.sort(key=lambda entry: entry[:3])
    return [quote for *_, quote in quotes]


def _quote(definition: Definition, kind: str, share: float) -> Quote:
    chunk, start, end = definition.chunk, definition.start, definition.end
    if kind == "what" and (doc := _DOCSTRING.match(chunk.text, end)):
        start, end = doc.span("first")
    quoted = chunk.text[start : min(end, start + MAX_QUOTE_CHARS)].rstrip()
    return Quote(chunk.source, chunk.start + start, chunk.start + start + len(quoted), quoted, share, True)


def _is_code(word: str, question: str) -> bool:
    """Whether a lone word of the question is meant as a name: it looks like one, is quoted, or is called."""
    if "_" in word or (word != word.lower() and not word.istitle()) or any(c.isdigit() for c in word):
        return True
    return re.search(rf"[`'\"]{re.escape(word)}[`'\"(]|\b{re.escape(word)}\(", question) is not None


def _idf(word: str, bm25: BM25) -> float:
    number = bm25.number.get(word)
    df = 0 if number is None else int(bm25.indptr[number + 1] - bm25.indptr[number])
    return math.log(1 + (len(bm25) - df + 0.5) / (df + 0.5))
