"""A planner takes the message apart, workers do the errands, a critic sends back what it does not believe.

Each worker sees its errand alone, so what it reads does not grow with the message. README, sections 3 and 4.
"""

from typing import TypedDict

from langgraph.graph import END, START, StateGraph

from agents.multi_agent.crew import Crew
from agents.multi_agent.roles import CHECK, NO, says
from agents.multi_agent.transcript import Transcript
from agents.tool_agent.tools import Toolbox

Calls = tuple[str, ...]


class State(TypedDict):
    """Of many messages at once. `drafts[i][j]` are calls and answer for errand j of message i; `open` those (i, j) that
    are to be done, first or again; `unchecked` those that the critic has to look at."""

    transcripts: list[Transcript]
    errands: list[tuple[str, ...]]
    drafts: list[list[tuple[Calls, str]]]
    open: list[tuple[int, int]]
    unchecked: list[tuple[int, int]]
    attempt: int


class PlannerWorkers:
    """`team(transcripts)` works on their messages to the end.

    An errand is done again, `attempts` times at most, where a call has failed, a turn did not end, or the `critic`, if
    there is one (who may have weights of its own), says no. Where the team does not plan, one worker has the message.
    """

    def __init__(
        self,
        crew: Crew,
        tools: Toolbox,
        plans: bool = True,
        critic: Crew | None = None,
        attempts: int = 1,
        temperature: float = 0.7,
    ) -> None:
        self.crew, self.tools, self.temperature = crew, tools, temperature
        self.plans, self.critic, self.attempts = plans, critic, attempts
        graph = StateGraph(State)
        graph.add_node("plan", self._plan)
        graph.add_node("work", self._work)
        graph.add_node("check", self._check)
        graph.add_node("deliver", self._deliver)
        graph.add_edge(START, "plan")
        graph.add_edge("plan", "work")
        graph.add_edge("work", "check")
        graph.add_conditional_edges("check", self._next)
        graph.add_edge("deliver", END)
        self.graph = graph.compile()

    def __call__(self, transcripts: list[Transcript]) -> None:
        """See the class."""
        start: State = {
            "transcripts": transcripts,
            "errands": [],
            "drafts": [],
            "open": [],
            "unchecked": [],
            "attempt": 0,
        }
        self.graph.invoke(start, {"recursion_limit": 2 * self.attempts + 4})

    def _next(self, state: State) -> str:
        return "work" if state["open"] and state["attempt"] < self.attempts else "deliver"

    def _plan(self, state: State) -> dict[str, object]:
        """Errands in the message's own words; the whole message as one errand where nobody plans."""
        of = state["transcripts"]
        errands = self.crew.plan(of) if self.plans else [(one.message,) for one in of]
        return {
            "errands": errands,
            "drafts": [[((), "")] * len(parts) for parts in errands],
            "open": [(i, j) for i, parts in enumerate(errands) for j in range(len(parts))],
        }

    def _work(self, state: State) -> dict[str, object]:
        """Do what is open: greedily at first, later by drawing, or a refused draft would come again."""
        todo = [(i, j) for i, j in state["open"] if state["transcripts"][i].going]
        requests = [(state["transcripts"][i], state["errands"][i][j], ()) for i, j in todo]
        temperature = self.temperature if state["attempt"] else 0.0
        drafts = [list(row) for row in state["drafts"]]
        failed = []
        for (i, j), trace in zip(todo, self.crew.ask("worker", requests, self.tools, temperature), strict=True):
            drafts[i][j] = (tuple(trace.calls), trace.answer)
            if trace.stop != "answer" or any(step.ok is False for step in trace.steps):
                failed.append((i, j))
        unchecked = [place for place in todo if place not in failed]
        return {"drafts": drafts, "attempt": state["attempt"] + 1, "open": failed, "unchecked": unchecked}

    def _check(self, state: State) -> dict[str, object]:
        """Open again what the critic says no to. The last attempt is taken as it is, and not looked at."""
        asked = [(i, j) for i, j in state["unchecked"] if state["transcripts"][i].going]
        if self.critic is None or state["attempt"] >= self.attempts:
            return {}
        requests = []
        for i, j in asked:
            before = says(CHECK, "\n".join(state["drafts"][i][j][0]))
            requests.append((state["transcripts"][i], state["errands"][i][j], before))
        verdicts = self.critic.ask("critic", requests)
        refused = [place for place, verdict in zip(asked, verdicts, strict=True) if verdict.answer == NO]
        return {"open": [*state["open"], *refused]}

    def _deliver(self, state: State) -> dict[str, object]:
        for transcript, row in zip(state["transcripts"], state["drafts"], strict=True):
            calls = tuple(call for made, _ in row for call in made)
            transcript.finish(calls, " ".join(answer for _, answer in row if answer))
        return {}
