"""A planner takes the message apart, and a worker does each errand. A graph on langgraph, for many messages at once.

Each worker sees its errand alone, so what it reads does not grow with the message.
"""

from typing import TypedDict

from langgraph.graph import END, START, StateGraph

from agents.multi_agent.crew import Crew
from agents.multi_agent.transcript import Transcript

Draft = tuple[tuple[str, ...], str]  # calls and answer


class State(TypedDict):
    """`drafts[i][j]` is what came of errand j of message i; `open` are the (i, j) to be done."""

    transcripts: list[Transcript]
    errands: list[tuple[str, ...]]
    drafts: list[list[Draft]]
    open: list[tuple[int, int]]


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
        start: State = {"transcripts": transcripts, "errands": [], "drafts": [], "open": []}
        self.graph.invoke(start)

    def _plan(self, state: State) -> dict[str, object]:
        errands = self.crew.plan(state["transcripts"])
        return {
            "errands": errands,
            "drafts": [[((), "")] * len(parts) for parts in errands],
            "open": [(i, j) for i, parts in enumerate(errands) for j in range(len(parts))],
        }

    def _work(self, state: State) -> dict[str, object]:
        todo = [(i, j) for i, j in state["open"] if state["transcripts"][i].going]
        traces = self.crew.work([(state["transcripts"][i], state["errands"][i][j]) for i, j in todo])
        drafts = [list(row) for row in state["drafts"]]
        for (i, j), trace in zip(todo, traces, strict=True):
            drafts[i][j] = (tuple(trace.calls), trace.answer)
        return {"drafts": drafts}

    def _deliver(self, state: State) -> dict[str, object]:
        for transcript, row in zip(state["transcripts"], state["drafts"], strict=True):
            calls = tuple(call for made, _ in row for call in made)
            transcript.finish(calls, " ".join(answer for _, answer in row if answer))
        return {}
