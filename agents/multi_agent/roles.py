"""The roles of a team and the words between them: how a member is told what it is, and how errands are handed over."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from agents.tool_agent.tools import Arguments, Tool, Toolbox
from llmm.training.lora.chat import Message, call_text

ALONE, CHECK, LEAD, DEBATE = "alone", "check", "lead", "debate"  # PLAN is the pipeline's, see tasks.py
YES, NO = "yes", "no"


class ErrandArguments(Arguments):
    """An errand in the words of the message."""

    errand: Annotated[str, Field(min_length=1, max_length=80, json_schema_extra={"source": "phrase"})]


def says(role: str, calls: str) -> list[Message]:
    """What a critic or a debater is told before the request: its role, and the calls that others would make."""
    return [Message("system", role), Message("context", calls)]


def hand_over(specialist: str, errand: str) -> str:
    """The call by which a leader hands an errand to a specialist."""
    return call_text(specialist, {"errand": errand})


def specialist_tools(names: Mapping[str, str]) -> Toolbox:
    """The specialists by name, with what each does, as tools for a leader to call. They are run by whoever holds the
    conversation, not by the toolbox."""

    def elsewhere(arguments: ErrandArguments) -> str:
        raise NotImplementedError("a specialist is asked by the team, not by its name")

    return Toolbox([Tool(name, what, ErrandArguments, elsewhere) for name, what in names.items()])
