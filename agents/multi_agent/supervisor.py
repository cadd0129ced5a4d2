"""Agents as tools: a leader hands errands to specialists, one after the other, and hears what came of each.

The leader never sees the tools, the specialists never see the message. README, section 4.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import TypedDict

from langgraph.graph import END, START, StateGraph

from agents.multi_agent.crew import Crew
from agents.multi_agent.roles import LEAD, specialist_tools
from agents.multi_agent.transcript import Transcript
from agents.tool_agent.tools import ERROR, Toolbox
from llmm.training.lora.chat import Message

NOBODY = f"{ERROR}nothing came of it"


class State(TypedDict):
    """Of many messages at once: what the leader has heard and said, the calls so far, and whose errands wait."""

    transcripts: list[Transcript]
    said: list[list[Message]]
    calls: list[list[str]]
    waiting: list[int]


class Supervisor:
    """`team(transcripts)` works on their messages to the end, with at most `errands` hand-overs for each.

    `specialists` are the tools of each, `names` what each does.
    """

    def __init__(self, crew: Crew, specialists: Mapping[str, Toolbox], names: Mapping[str, str], errands: int) -> None:
        self.crew, self.specialists, self.errands = crew, dict(specialists), errands
        self.as_tools = specialist_tools(names)
        graph = StateGraph(State)
        graph.add_node("lead", self._lead)
        graph.add_node("specialists", self._specialists)
        graph.add_node("deliver", self._deliver)
        graph.add_edge(START, "lead")
        graph.add_conditional_edges("lead", lambda state: "specialists" if state["waiting"] else "deliver")
        graph.add_edge("specialists", "lead")
        graph.add_edge("deliver", END)
        self.graph = graph.compile()

    def __call__(self, transcripts: list[Transcript]) -> None:
        """See the class."""
        said = [[Message("system", LEAD), Message("user", one.message)] for one in transcripts]
        start: State = {
            "transcripts": transcripts,
            "said": said,
            "calls": [[] for _ in transcripts],
            "waiting": list(range(len(transcripts))),
        }
        self.graph.invoke(start, {"recursion_limit": 2 * self.errands + 4})

    def _lead(self, state: State) -> dict[str, object]:
        """The leader's next turn where it has one: another errand, or the end."""
        at_work = [i for i in state["waiting"] if state["transcripts"][i].going]
        conversations = [(state["transcripts"][i], state["said"][i]) for i in at_work]
        said, waiting = [list(one) for one in state["said"]], []
        for i, turn in zip(at_work, self.crew.turn("leader", conversations, self.as_tools), strict=True):
            handed_over = sum(message.role == "tool_call" for message in said[i])
            if turn is not None and turn.role == "tool_call" and handed_over < self.errands:
                said[i].append(turn)
                waiting.append(i)
        return {"said": said, "waiting": waiting}

    def _specialists(self, state: State) -> dict[str, object]:
        """Each specialist does its errands in one batch; the leader hears the last result."""
        said, calls = [list(one) for one in state["said"]], [list(one) for one in state["calls"]]
        of_whom: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for i in state["waiting"]:
            call = json.loads(said[i][-1].text)
            of_whom[call["name"]].append((i, call["arguments"]["errand"]))
        for name, errands in of_whom.items():
            requests = [(state["transcripts"][i], errand, ()) for i, errand in errands]
            for (i, _), trace in zip(errands, self.crew.ask(name, requests, self.specialists[name]), strict=True):
                results = [step.result for step in trace.steps if step.result is not None]
                said[i].append(Message("tool_result", results[-1] if results else NOBODY))
                calls[i] += trace.calls
        return {"said": said, "calls": calls}

    def _deliver(self, state: State) -> dict[str, object]:
        for transcript, calls, said in zip(state["transcripts"], state["calls"], state["said"], strict=True):
            heard = [message.text for message in said if message.role == "tool_result"]
            transcript.finish(tuple(calls), " ".join(heard))
        return {}
