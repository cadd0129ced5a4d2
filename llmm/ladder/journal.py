"""The learning journal: a template of an entry, and the checker that tells one from the template, filler or a copy."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmm.files import sha256_of
from llmm.ladder.citations import LINK, citation_faults, citations, local_links, uncited_decimals
from llmm.ladder.milestones import Milestone
from llmm.ladder.prose import COPIED, copied_share, filler, placeholder, words

JOURNAL = Path("learning_journal.md")
FEWEST_WORDS = 120
FEWEST_WORDS_A_PARAGRAPH = 8
FEWEST_CITATIONS = 3
# each paragraph of an entry with what it asks
QUESTIONS = {
    "Predicted": "Before the run: what will each experiment (in backticks) show, in numbers where you dare, and why?",
    "Found": "What came out? Every decimal number is a link into the record, its text the number as printed.",
    "Surprised": "Where did prediction and outcome part, and what in the mathematics explains it?",
    "A misconception that fell": "What did you believe before that you believe no more, and which result ended it?",
    "Open": "What is still not understood, and which experiment would tell?",
}
_PARAGRAPH = re.compile(r"^\*\*(?P<name>[^*]+?)\.\*\*", re.MULTILINE)
_PICTURE = re.compile(r"!\[[^\]]*\]\(([^)\s]+)\)")
_CALLED_EXPERIMENT = re.compile(r"`(\w+)` experiment|experiments? `(\w+)`")


@dataclass(frozen=True)
class Entry:
    """One section of the journal: its heading and what stands below it."""

    heading: str
    text: str

    @property
    def paragraphs(self) -> dict[str, str]:
        """Name of each bold-led paragraph -> its text."""
        found = list(_PARAGRAPH.finditer(self.text))
        ends = [match.start() for match in found[1:]] + [len(self.text)]
        return {match["name"]: self.text[match.end() : end].strip() for match, end in zip(found, ends, strict=True)}


def template(milestone: Milestone) -> str:
    """An entry to be written: the questions, the figures there are and how a number is cited."""
    lines = [f"## {milestone.label}", ""]
    for name, question in QUESTIONS.items():
        lines += [f"**{name}.** _{question}_", ""]
    example = milestone.spec.experiments[0]
    lines += [f"![What the figure shows]({milestone.figures}/{example}.svg)", ""]
    return "\n".join(lines)


def entries(text: str) -> list[Entry]:
    """The sections of a journal in their order."""
    parts = re.split(r"^## +(.+?) *$", text, flags=re.MULTILINE)
    return [Entry(heading, body.strip()) for heading, body in zip(parts[1::2], parts[2::2], strict=True)]


def entry_of(milestone: Milestone, journal: Path = JOURNAL) -> Entry | None:
    """The milestone's entry in the journal, None where there is none."""
    text = journal.read_text(encoding="utf-8") if journal.is_file() else ""
    return next((entry for entry in entries(text) if entry.heading == milestone.label), None)


def entry_sha256(milestone: Milestone) -> dict[str, str]:
    """{"learning_journal.md#M1 Logistic regression": sha256}, empty where there is no entry."""
    entry = entry_of(milestone)
    return {f"{JOURNAL}#{entry.heading}": sha256_of(entry.text)} if entry else {}


def predictions(entry: Entry | None, experiments: Sequence[str]) -> dict[str, str]:
    """experiment -> the sentences of the paragraph Predicted that name it."""
    text = entry.paragraphs.get("Predicted", "") if entry else ""
    sentences = re.split(r"(?<=[.!?])\s+", " ".join(text.split()))
    found = {name: " ".join(sentence for sentence in sentences if f"`{name}`" in sentence) for name in experiments}
    return {name: said for name, said in found.items() if said}


def journal_faults(milestone: Milestone, earlier: Sequence[Milestone]) -> list[str]:
    """One line for each fault of the milestone's entry, which may not copy the entries of `earlier` milestones.

    Entries of later milestones are not looked at: what they say can never make this one fail.
    """
    entry = entry_of(milestone)
    if entry is None:
        return [f"{JOURNAL} has no section `## {milestone.label}`: `llmm next` prints a template"]
    others = {milestone.label: template(milestone)}
    others |= {other.label: found.text for other in earlier if (found := entry_of(other))}
    return [f"{JOURNAL}: {milestone.label}: {fault}" for fault in _faults(entry, milestone, others)]


def _faults(entry: Entry, milestone: Milestone, others: dict[str, str]) -> Iterator[str]:
    yield from _form(entry)
    own = LINK.sub(" ", entry.text)
    if (count := len(words(own))) < FEWEST_WORDS:
        yield f"{count} words, expected at least {FEWEST_WORDS}"
    if mark := placeholder(own):
        yield f"still says {mark!r}"
    if reason := filler(own):
        yield f"reads as filler: {reason}"
    for heading, text in others.items():
        if (share := copied_share(entry.text, text)) > COPIED:
            of = "the template" if heading == entry.heading else heading
            yield f"{share:.0%} of it stands word for word in {of}"
    yield from _evidence(entry, milestone)


def _form(entry: Entry) -> Iterator[str]:
    paragraphs = entry.paragraphs
    if missing := [name for name in QUESTIONS if name not in paragraphs]:
        yield f"no paragraph **{missing[0]}.**"
    for name, question in QUESTIONS.items():
        text = paragraphs.get(name, "")
        if question in " ".join(text.split()):
            yield f"**{name}.** still asks the template's question"
        elif name in paragraphs and len(words(text)) < FEWEST_WORDS_A_PARAGRAPH:
            yield f"**{name}.** says too little"


def _evidence(entry: Entry, milestone: Milestone) -> Iterator[str]:
    yield from citation_faults(entry.text)
    cited = {citation.metric for citation in citations(entry.text) if citation.milestone == milestone.id}
    if len(cited) < FEWEST_CITATIONS:
        yield f"cites {len(cited)} numbers of its record, expected at least {FEWEST_CITATIONS}"
    if decimals := uncited_decimals(entry.paragraphs.get("Found", "")):
        yield f"**Found.** says {decimals[0]} without a link into the record"
    pictures = [Path(target) for target in _PICTURE.findall(entry.text)]
    if not any(milestone.figures in picture.parents for picture in pictures):
        yield f"shows no figure of {milestone.figures}"
    for target in [*pictures, *local_links(entry.text)]:
        if not target.exists():
            yield f"links {target}, which is not there"
    known = milestone.spec.experiments
    if not any(f"`{name}`" in entry.text for name in known):
        yield f"names no experiment in backticks: {', '.join(known)}"
    for name in {first or second for first, second in _CALLED_EXPERIMENT.findall(entry.text)} - set(known):
        yield f"there is no experiment `{name}`"
