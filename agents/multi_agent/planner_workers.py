"""A planner takes the message apart, and a worker does each errand. A graph on langgraph, for many messages at once.

Each worker sees its errand alone, so what it reads does not grow with the message.
"""

from typing import TypedDict

from langgraph.graph import END, START, StateGraph

from agents.multi_agent.crew import Crew
from agents.multi_agent.transcript import Transcript
from agents.tool_agent.trace import Trace


class State(TypedDict):
    """Of many messages: the errands in each, and what came of them, in their order."""

    transcripts: list[Transcript]
    errands: list[tuple[str, ...]]
    done: list[list[Trace]]


class PlannerWorkers:
    """`team(transcripts)` works on their messages to the end."""

    def __init__(self, crew: Crew) -> None:
        self.crew = crew
        graph = StateGraph(State)
        graph.add_node("plan", self._plan)
        graph.add_node("work", self._work)
        graph.add_node("deliver", self._deliver)
        graph.add_edge(START, "plan")
        graph.add_edge("plan", "work")
        graph.add_edge("work", "deliver")
        graph.add_edge("deliver", END)
        self.graph = graph.compile()

    def __call__(self, transcripts: list[Transcript]) -> None:
        """See the class."""
        self.graph.invoke({"transcripts": transcripts, "errands": [], "done": []})

    def _plan(self, state: State) -> dict[str, object]:
        return {"errands": self.crew.plan(state["transcripts"])}

    def _work(self, state: State) -> dict[str, object]:
        """All errands of all messages in one batch, but for those whose budget the planner has spent."""
        todo = [(i, errand) for i, of in enumerate(state["errands"]) for errand in of if state["transcripts"][i].going]
        traces = self.crew.work([(state["transcripts"][i], errand) for i, errand in todo])
        done: list[list[Trace]] = [[] for _ in state["transcripts"]]
        for (i, _), trace in zip(todo, traces, strict=True):
            done[i].append(trace)
        return {"done": done}

    def _deliver(self, state: State) -> dict[str, object]:
        for transcript, traces in zip(state["transcripts"], state["done"], strict=True):
            calls = tuple(call for trace in traces for call in trace.calls)
            transcript.finish(calls, " ".join(trace.answer for trace in traces if trace.answer))
        return {}
