"""What went wrong in a transcript, by rules that anyone can check: no model judges.

The names with a number are those of Cemri et al. 2025 (2503.13657), who found them by reading transcripts and had a
model label more of them; here a label is a statement about the turns, so two readers cannot disagree. README, section
7.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence

from agents.multi_agent.transcript import Transcript

CRITIC = "critic"


def step_repetition(transcript: Transcript, wanted: Sequence[str]) -> bool:
    """FM-1.3: the same call is delivered more often than the task asks for it."""
    return any(count > wanted.count(call) for call, count in Counter(transcript.calls).items() if count > 1)


def premature_termination(transcript: Transcript, wanted: Sequence[str]) -> bool:
    """FM-3.1: fewer calls than the task asks for, though there was budget left."""
    return transcript.outcome != "budget" and len(transcript.calls) < len(wanted)


def unaware_of_termination(transcript: Transcript, wanted: Sequence[str]) -> bool:
    """FM-1.5: more calls than the task asks for, none of them a repetition, or work until the budget was spent."""
    goes_on = len(transcript.calls) > len(wanted) and not step_repetition(transcript, wanted)
    return goes_on or transcript.outcome == "budget"


def task_derailment(transcript: Transcript, wanted: Sequence[str]) -> bool:
    """FM-2.3: a tool is used that the task has no use for, or not that often."""
    used, useful = Counter(map(_tool, transcript.calls)), Counter(map(_tool, wanted))
    return any(used[tool] > useful[tool] for tool in used) and len(transcript.calls) <= len(wanted)


def no_verification(transcript: Transcript, wanted: Sequence[str]) -> bool:
    """FM-3.2: a wrong call is delivered that no critic has looked at."""
    return _wrong(transcript, wanted) and not any(turn.who == CRITIC for turn in transcript.turns)


def incorrect_verification(transcript: Transcript, wanted: Sequence[str]) -> bool:
    """FM-3.3: a wrong call is delivered although a critic was there to stop it."""
    return _wrong(transcript, wanted) and any(turn.who == CRITIC for turn in transcript.turns)


def ignored_result(transcript: Transcript, wanted: Sequence[str]) -> bool:
    """A call that came back as an error is delivered all the same; in no list, and nearest to FM-2.6."""
    return bool(transcript.broken)


RULES: dict[str, Callable[[Transcript, Sequence[str]], bool]] = {
    "step repetition": step_repetition,
    "premature termination": premature_termination,
    "unaware of termination": unaware_of_termination,
    "task derailment": task_derailment,
    "ignored result": ignored_result,
    "no verification": no_verification,
    "incorrect verification": incorrect_verification,
}


def label(transcript: Transcript, wanted: Sequence[str]) -> tuple[str, ...]:
    """The rules that hold, of a transcript that does not deliver what is `wanted`; none of one that does.

    Several may hold: a team that stops early also delivers unchecked.
    """
    if transcript.right(wanted):
        return ()
    return tuple(name for name, holds in RULES.items() if holds(transcript, wanted))


def _wrong(transcript: Transcript, wanted: Sequence[str]) -> bool:
    """Whether a delivered call is none of those that the task asks for."""
    return any(call not in wanted for call in transcript.calls)


def _tool(call: str) -> str:
    try:
        return str(json.loads(call)["name"])
    except (ValueError, KeyError, TypeError):
        return ""
