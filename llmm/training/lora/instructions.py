"""Questions about the source with a passage to read, made by program: every answer stands in the passage or is refused.

For Python sources the questions are about documented objects (what one does, its signature, where it lives); for every
source there are questions about titles and sentences. Some passages do not hold the answer: then `NOT_THERE` is right.
Questions without a passage are no part of this: the assistant looks those up with its tools.
"""

import itertools
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from llmm.corpus import Document, PythonObject
from llmm.training.lora.chat import Conversation, Message, passages_text

NOT_THERE = "The context does not say."
MAX_PASSAGE_CHARS = 420
UNANSWERABLE = 0.15  # share of questions whose passages lack the answer
_CODE = re.compile(r"[=(){}\[\]<>#_\\|]")
_DISTRACTED = 0.35  # share of questions with passages that are beside the point

_SUMMARY = (
    "what does {name} do?", "what is {name}?", "what is {name} for?", "explain {name}", "describe {name}",
    "tell me what {name} does", "what is the purpose of {name}?", "what happens when I call {name}?",
    "summarise {name}", "according to the context, what does {name} do?", "what is {name} used for?",
    "in one sentence: {name}", "give me a short description of {name}", "why would I use {name}?",
)  # fmt: skip
_SIGNATURE = (
    "what is the signature of {name}?", "signature of {name}", "how is {name} called?",
    "which arguments does {name} take?", "what are the parameters of {name}?", "show me the signature of {name}",
    "how do I call {name}?", "what can I pass to {name}?", "parameters of {name}",
    "what arguments does {name} accept?", "list the arguments of {name}",
    "what does the definition of {name} look like?",
)  # fmt: skip
_MODULE = (
    "where does {name} live?", "which module has {name}?", "in which module is {name}?", "where is {name} defined?",
    "where do I import {name} from?", "what module does {name} belong to?", "which module defines {name}?",
    "where can I find {name}?",
)  # fmt: skip
_WHICH_DOCUMENT = (
    'which document says "{quote}"?', 'where does it say "{quote}"?', 'in which passage does "{quote}" stand?',
    'which of these mentions "{quote}"?', 'what is the title of the text with "{quote}"?',
    'find "{quote}": which document is it in?',
)  # fmt: skip
_WHAT_FOLLOWS = (
    'what follows "{quote}"?', 'what comes after "{quote}"?', 'continue: "{quote}"',
    'what is the next sentence after "{quote}"?', 'complete the text after "{quote}"',
    'what does the text say after "{quote}"?',
)  # fmt: skip


@dataclass(frozen=True)
class Instruction:
    """A conversation with its kind: summary, signature, module, which_document or what_follows."""

    kind: str
    answerable: bool
    messages: Conversation


def make_instructions(
    documents: Sequence[Document], objects: Sequence[PythonObject], count: int, rng: random.Random
) -> list[Instruction]:
    """`count` questions about `documents` and the `objects` that they define, fewer where the text has too little.

    Each is checked: an answer is in its passages (up to line breaks), and that of an unanswerable question is not.
    """
    texts = {document.id: document for document in documents}
    known = [item for item in objects if item.module in texts and _usable(item)]
    quoted = [(document, pair) for document in documents for pair in _sentence_pairs(document.text, rng)]
    made: list[Instruction] = []
    for _ in range(4 * count):
        if len(made) == count or not (known or len(quoted) > 1):
            break
        about_object = known and (len(quoted) < 2 or rng.random() < 0.75)
        candidate = _about_object(texts, known, rng) if about_object else _about_sentence(quoted, rng)
        if candidate is not None and is_right(candidate):
            made.append(candidate)
    return made


def is_right(instruction: Instruction) -> bool:
    """Whether the answer of `instruction` stands in its passages, or rightly says that nothing there answers it."""
    context, _, answer = (message.text for message in instruction.messages)
    if not instruction.answerable:
        return answer == NOT_THERE
    words = answer
    if instruction.kind == "module":
        words = answer.removeprefix("It is in the module ").removesuffix(".")
    return bool(words) and _squeezed(words) in _squeezed(context)


def _about_object(texts: dict[str, Document], known: Sequence[PythonObject], rng: random.Random) -> Instruction | None:
    item = rng.choice(known)
    kind, phrasings = rng.choices((("summary", _SUMMARY), ("signature", _SIGNATURE), ("module", _MODULE)), (3, 2, 1))[0]
    if kind == "summary" and not item.summary:
        return None
    name = rng.choice((item.qualname, ".".join(item.qualname.split(".")[-2:]), item.qualname.rsplit(".", 1)[-1]))
    # a name is looked for by its last part: passages beside the point must not define or mention it
    last = item.qualname.rsplit(".", 1)[-1]
    passages = [] if rng.random() < UNANSWERABLE else [_passage(texts, item)]
    answerable = bool(passages)
    others = 1 if not answerable or rng.random() < _DISTRACTED else 0
    for other in rng.sample(known, min(others, len(known))):
        passage = _passage(texts, other)
        if not re.search(rf"\b{re.escape(last)}\b", passage[1]):
            passages.append(passage)
    if not passages:
        return None
    rng.shuffle(passages)
    answer = {"summary": item.summary, "signature": item.signature, "module": f"It is in the module {item.module}."}[
        kind
    ]
    return _instruction(kind, answerable, passages, rng.choice(phrasings).format(name=name), answer, rng)


def _about_sentence(quoted: Sequence[tuple[Document, tuple[str, str]]], rng: random.Random) -> Instruction | None:
    document, (quote, following) = rng.choice(quoted)
    kind, phrasings = rng.choice((("which_document", _WHICH_DOCUMENT), ("what_follows", _WHAT_FOLLOWS)))
    answerable = rng.random() >= UNANSWERABLE
    passages = [(document.title, f"{quote} {following}")] if answerable else []
    others = 1 if not answerable or kind == "which_document" or rng.random() < _DISTRACTED else 0
    for other, pair in rng.sample(quoted, others):
        if other.title != document.title and quote not in " ".join(pair):
            passages.append((other.title, " ".join(pair)))
    if not passages:
        return None
    rng.shuffle(passages)
    answer = document.title if kind == "which_document" else following
    words = quote.split()
    shown = quote if rng.random() < 0.5 else " ".join(words[-8:] if kind == "what_follows" else words[:8])
    return _instruction(kind, answerable, passages, rng.choice(phrasings).format(quote=shown), answer, rng)


def _instruction(
    kind: str, answerable: bool, passages: list[tuple[str, str]], question: str, answer: str, rng: random.Random
) -> Instruction:
    if rng.random() < 0.5:
        question = question[:1].upper() + question[1:]
    if rng.random() < 0.25:
        question = question.rstrip("?")
    return Instruction(
        kind,
        answerable,
        (
            Message("context", passages_text(passages)),
            Message("user", question),
            Message("assistant", answer if answerable else NOT_THERE),
        ),
    )


def _passage(texts: dict[str, Document], item: PythonObject) -> tuple[str, str]:
    """(title, text) around the definition: what retrieval would bring, cut at a line."""
    text = texts[item.module].text[item.start : min(item.end, item.start + MAX_PASSAGE_CHARS)]
    if item.start + MAX_PASSAGE_CHARS < item.end:
        text = text.rsplit("\n", 1)[0]
    return item.module, text


def _usable(item: PythonObject) -> bool:
    return len(item.signature) <= 120 and len(item.summary) <= 140 and "__" not in item.qualname


def _sentence_pairs(text: str, rng: random.Random) -> list[tuple[str, str]]:
    """A few pairs of neighbouring sentences from the prose in `text`, code left out."""
    pairs = []
    for paragraph in re.split(r"\n\s*\n", text):
        if len(_CODE.findall(paragraph)) > len(paragraph) / 50:
            continue
        sentences = re.split(r"(?<=[.!?]) (?=[A-Z])", " ".join(paragraph.split()))
        pairs += [
            (first, second)
            for first, second in itertools.pairwise(sentences)
            if 25 <= len(first) <= 160 and 15 <= len(second) <= 160 and first[0].isupper() and second[-1] in ".!?"
        ]
    return rng.sample(pairs, min(len(pairs), 6))


def _squeezed(text: str) -> str:
    """`text` without white space, and with one kind of quotes: a signature may be broken over lines in the source."""
    return re.sub(r"\s+", "", text).replace('"', "'")
