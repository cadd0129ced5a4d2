"""The roles of a team and the words between them: how a member is told what it is, and how errands are handed over."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field

from agents.tool_agent.tasks import BETWEEN_PARTS
from agents.tool_agent.tools import Arguments, Tool, Toolbox
from llmm.training.lora.chat import call_text

ALONE, CHECK, LEAD, DEBATE = "alone", "check", "lead", "debate"
YES, NO = "yes", "no"


class ErrandArguments(Arguments):
    """An errand in the words of the message."""

    errand: Annotated[str, Field(min_length=1, max_length=80, json_schema_extra={"source": "phrase"})]


def hand_over(specialist: str, errand: str) -> str:
    """The call by which a leader hands an errand to a specialist."""
    return call_text(specialist, {"errand": errand})


def specialist_tools(names: Mapping[str, str]) -> Toolbox:
    """The specialists by name, with what each does, as tools for a leader to call. They are run by whoever holds the
    conversation, not by the toolbox."""

    def elsewhere(arguments: ErrandArguments) -> str:
        raise NotImplementedError("a specialist is asked by the team, not by its name")

    return Toolbox([Tool(name, what, ErrandArguments, elsewhere) for name, what in names.items()])


def parts_of(plan: str, message: str) -> tuple[str, ...]:
    """The errands of a plan. Empty where one of them does not stand in the message word for word: a plan may only take
    apart, not make up."""
    parts: Sequence[str] = [part.strip() for part in plan.split(BETWEEN_PARTS)]
    return tuple(parts) if parts and all(part and part in message for part in parts) else ()
