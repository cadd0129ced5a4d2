"""Hand-written questions in the words of users, with the modules that answer them."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from llmm.errors import UserError


@dataclass(frozen=True)
class HandWritten:
    """`modules` are the ids of the documents that answer; none where the corpus has no answer."""

    id: str
    question: str
    modules: tuple[str, ...]
    names: tuple[str, ...]
    keywords: tuple[str, ...]

    @property
    def answerable(self) -> bool:
        """Whether the corpus holds the answer."""
        return bool(self.modules)


def load_hand_written(path: Path, sources: Collection[str]) -> list[HandWritten]:
    """Read questions.jsonl; a question whose modules the corpus lacks (another Python version) is left out.

    Raises UserError, naming the line, where one cannot be read.
    """
    questions = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(f"{path} is not there: `git checkout {path}` restores it") from None
    for number, line in enumerate(lines, start=1):
        try:
            raw = json.loads(line)
            fields = {name: tuple(raw[name]) for name in ("modules", "names", "keywords")}
            question = HandWritten(raw["id"], raw["question"], **fields)
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise UserError(f"{path}:{number}: no readable question ({error!r})") from None
        here = tuple(module for module in question.modules if module in sources)
        if here or not question.modules:
            questions.append(HandWritten(question.id, question.question, here, question.names, question.keywords))
    return questions
