"""Every table of phrasings by split and subject: for training, for choosing (DEV), for reporting (TEST)."""

import functools
from types import ModuleType
from typing import Literal

from agents.tool_agent.phrasings import calculator, chat, follow_up, held_out, python, search, signature
from agents.tool_agent.phrasings.calculator import Table
from agents.tool_agent.templates import expand, skeleton

Split = Literal["TRAIN", "DEV", "TEST"]
SUBJECTS = ("calculator", "chat", "follow_up", "python", "search", "signature")

_TRAINING: dict[str, ModuleType] = {
    "calculator": calculator,
    "chat": chat,
    "follow_up": follow_up,
    "python": python,
    "search": search,
    "signature": signature,
}


def table(subject: str, split: Split) -> Table:
    """Phrasings of `subject`, one of SUBJECTS: what is asked for -> the ways to ask."""
    found: Table = getattr(_module(subject, split), split)
    return found


def two_questions(split: Split) -> list[str]:
    """Ways to ask `{first}` and `{second}` in one message."""
    found: list[str] = getattr(_module("follow_up", split), f"TWO_{split}")
    return found


@functools.cache
def held_out_skeletons() -> frozenset[str]:
    """Skeletons of all held-out phrasings: a phrasing for training, framed and chosen, may be none of them."""
    return frozenset(
        skeleton(text)
        for subject in SUBJECTS
        for split in ("DEV", "TEST")
        for phrasings in getattr(held_out.MODULES[subject], split).values()
        for phrasing in phrasings
        for text in expand(phrasing)
    )


def _module(subject: str, split: Split) -> ModuleType:
    return _TRAINING[subject] if split == "TRAIN" else held_out.MODULES[subject]
