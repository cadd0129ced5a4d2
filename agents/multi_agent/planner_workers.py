"""A planner takes the message apart, workers do the errands, a critic sends back what it does not believe.

Each worker sees its errand alone, so what it reads does not grow with the message. README, sections 3 and 4.
"""

from typing import TypedDict

from langgraph.graph import END, START, StateGraph

from agents.multi_agent.crew import Crew
from agents.multi_agent.roles import CHECK, NO, parts_of
from agents.multi_agent.transcript import Transcript
from agents.tool_agent.tasks import PLAN
from agents.tool_agent.tools import Toolbox
from llmm.training.lora.chat import Message

Calls = tuple[str, ...]


class State(TypedDict):
    """Of many messages at once. `drafts[i][j]` are calls and answer for errand j of message i, `open` those (i, j) that
    are to be done, first or again."""

    transcripts: list[Transcript]
    errands: list[tuple[str, ...]]
    drafts: list[list[tuple[Calls, str]]]
    open: list[tuple[int, int]]
    attempt: int


class PlannerWorkers:
    """`team(transcripts)` works on their messages to the end. Without `attempts` beyond the first there is no critic."""

    def __init__(self, crew: Crew, tools: Toolbox, attempts: int = 1, temperature: float = 0.7) -> None:
        self.crew, self.tools, self.attempts, self.temperature = crew, tools, attempts, temperature
        graph = StateGraph(State)
        graph.add_node("plan", self._plan)
        graph.add_node("work", self._work)
        graph.add_node("check", self._check)
        graph.add_node("deliver", self._deliver)
        graph.add_edge(START, "plan")
        graph.add_edge("plan", "work")
        graph.add_conditional_edges("work", lambda state: "check" if state["open"] else "deliver")
        graph.add_conditional_edges("check", lambda state: "work" if state["open"] else "deliver")
        graph.add_edge("deliver", END)
        self.graph = graph.compile()

    def __call__(self, transcripts: list[Transcript]) -> None:
        """See the class."""
        start: State = {"transcripts": transcripts, "errands": [], "drafts": [], "open": [], "attempt": 0}
        self.graph.invoke(start, {"recursion_limit": 2 * self.attempts + 4})

    def _plan(self, state: State) -> dict[str, object]:
        """Errands in the message's own words; the whole message as one errand where the plan is none."""
        requests = [(one, one.message, [Message("system", PLAN)]) for one in state["transcripts"]]
        plans = [parts_of(trace.answer, trace.task) for trace in self.crew.ask("planner", requests)]
        errands = [plan or (one.message,) for plan, one in zip(plans, state["transcripts"], strict=True)]
        return {
            "errands": errands,
            "drafts": [[((), "")] * len(parts) for parts in errands],
            "open": [(i, j) for i, parts in enumerate(errands) for j in range(len(parts))],
        }

    def _work(self, state: State) -> dict[str, object]:
        """Do what is open: greedily at first, by drawing when it was sent back, or it would be the same again."""
        todo = [(i, j) for i, j in state["open"] if state["transcripts"][i].going]
        requests = [(state["transcripts"][i], state["errands"][i][j], ()) for i, j in todo]
        temperature = self.temperature if state["attempt"] else 0.0
        drafts = [list(row) for row in state["drafts"]]
        for (i, j), trace in zip(todo, self.crew.ask("worker", requests, self.tools, temperature), strict=True):
            drafts[i][j] = (tuple(trace.calls), trace.answer)
        attempt = state["attempt"] + 1
        return {"drafts": drafts, "attempt": attempt, "open": todo if attempt < self.attempts else []}

    def _check(self, state: State) -> dict[str, object]:
        """Leave open what the critic says no to."""
        asked = [(i, j) for i, j in state["open"] if state["transcripts"][i].going]
        requests = []
        for i, j in asked:
            calls = Message("context", "\n".join(state["drafts"][i][j][0]))
            requests.append((state["transcripts"][i], state["errands"][i][j], [Message("system", CHECK), calls]))
        verdicts = self.crew.ask("critic", requests)
        return {"open": [place for place, verdict in zip(asked, verdicts, strict=True) if verdict.answer == NO]}

    def _deliver(self, state: State) -> dict[str, object]:
        for transcript, row in zip(state["transcripts"], state["drafts"], strict=True):
            calls = tuple(call for made, _ in row for call in made)
            transcript.finish(calls, " ".join(answer for _, answer in row if answer))
        return {}
