"""Questions with known answers, made from the corpus by program, and questions that it cannot answer."""

import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmm.corpus import Document, PythonObject
from llmm.training.rag.sections import find_sections
from llmm.training.rag.words import split_words

KINDS = ("summary", "signature", "module", "section")
_PHRASINGS = {
    "summary": ("What does {name} do?", "What is {name} for?"),
    "signature": ("What is the signature of {name}?", "Which parameters does {name} take?"),
    "module": ("Where is {name} defined?", "Which module defines {name}?"),
    "section": ("What does {name} say?",),
}
_OTHER_TOPICS = (
    "How do I bake sourdough bread?",
    "Who won the football world cup in 1954?",
    "What is the capital of Mongolia?",
    "How many moons does Jupiter have?",
    "When should tomatoes be planted?",
    "Which river flows through Budapest?",
    "How do I remove a wine stain from a carpet?",
    "What is the boiling point of ethanol?",
    "Who painted the ceiling of the Sistine chapel?",
    "How long does a horse live?",
)


@dataclass(frozen=True)
class Question:
    """`answer` is the gold answer, '' where the corpus has none; `source`, `start`, `end` where it stands."""

    id: str
    kind: str
    text: str
    answer: str
    source: str = ""
    start: int = 0
    end: int = 0

    @property
    def answerable(self) -> bool:
        """Whether the corpus holds the answer."""
        return bool(self.answer)


def make_questions(
    objects: Sequence[PythonObject], documents: Mapping[str, Sequence[Document]], split: str, limit: int, seed: int
) -> list[Question]:
    """Questions about the objects of `split`, about its sections where the corpus has no documented objects."""
    if any(item.summary for item in objects):
        return object_questions(objects, split, limit, seed)
    return section_questions(documents[split], limit, seed)


def object_questions(objects: Sequence[PythonObject], split: str, limit: int, seed: int) -> list[Question]:
    """At most `limit` questions about documented objects of `split`: what it does, its signature, where it is."""
    rng = random.Random(seed)
    items = [item for item in objects if item.split == split and item.summary]
    rng.shuffle(items)
    questions = []
    for number, item in enumerate(items[:limit]):
        kind = KINDS[number % 3]
        gold = {"summary": item.summary, "signature": item.signature, "module": item.module}[kind]
        text = rng.choice(_PHRASINGS[kind]).format(name=item.qualname)
        questions.append(Question(f"{kind}:{item.qualname}", kind, text, gold, item.module, item.start, item.end))
    return questions


def section_questions(documents: Sequence[Document], limit: int, seed: int) -> list[Question]:
    """The same for prose: what stands under a heading; the gold answer is the first sentence there."""
    questions = []
    for document in documents:
        for section in find_sections(document):
            first = re.match(r".*?[.!?](?=\s|$)", section.body, re.DOTALL)
            gold = " ".join((first.group() if first else section.body.split("\n")[0]).split())
            text = _PHRASINGS["section"][0].format(name=section.heading.rstrip(".:!?"))
            questions.append(Question(section.id, "section", text, gold, section.source, section.start, section.end))
    random.Random(seed).shuffle(questions)
    return questions[:limit]


def unanswerable_questions(objects: Sequence[PythonObject], split: str, limit: int, seed: int) -> list[Question]:
    """Questions about objects that do not exist, made of parts of real names, and about other topics."""
    rng = random.Random(seed)
    taken = {item.qualname for item in objects}
    names = {item.qualname.rpartition(".")[2] for item in objects}
    items = [item for item in objects if item.split == split]
    defined_in: dict[str, set[str]] = {}
    for item in objects:
        defined_in.setdefault(item.module, set()).add(item.qualname.rpartition(".")[2])
    simple = [item.qualname.rpartition(".")[2] for item in items]
    parts = sorted({part for name in simple for part in split_words(name) if len(part) > 2})
    questions = [Question(f"topic:{i}", "unanswerable", text, "") for i, text in enumerate(_OTHER_TOPICS)]
    attempts = 0
    while len(questions) < limit and len(parts) > 1 and items and attempts < 20 * limit:
        attempts += 1
        # half have a name that nothing has, half the name of something in another module
        real = attempts % 2 == 0
        invented = rng.choice(simple) if real else "_".join(rng.sample(parts, 2))
        module = rng.choice(items).module
        name = f"{module}.{invented}"
        if name in taken or (not real and invented in names) or (real and invented in defined_in[module]):
            continue
        taken.add(name)
        kind = rng.choice(KINDS[:3])
        text = rng.choice(_PHRASINGS[kind]).format(name=name)
        questions.append(Question(f"invented:{name}", "unanswerable", text, ""))
    return questions[:limit]


def normalise(text: str) -> list[str]:
    """Words as SQuAD compares them: lower case, without punctuation and articles (Rajpurkar et al. 2016)."""
    return [word for word in re.findall(r"\w+", text.lower()) if word not in ("a", "an", "the")]


def exact_match(prediction: str, gold: str) -> float:
    """1 where both are the same words, else 0."""
    return float(normalise(prediction) == normalise(gold))


def f1(prediction: str, gold: str) -> float:
    """Harmonic mean of the precision and recall of words, counted with multiplicity."""
    found, wanted = Counter(normalise(prediction)), Counter(normalise(gold))
    common = sum((found & wanted).values())
    if not common:
        return float(not found and not wanted)
    precision, recall = common / sum(found.values()), common / sum(wanted.values())
    return 2 * precision * recall / (precision + recall)
