"""One agent asked several times, by drawing, and the calls that most of its attempts agree on. README, section 1.

Attempts are drafts: their tools must change nothing, or a vote among n attempts would pay n times.
"""

from typing import TypedDict

from langgraph.graph import END, START, StateGraph

from agents.multi_agent.crew import Crew
from agents.multi_agent.transcript import Transcript
from agents.multi_agent.voting import plurality
from agents.tool_agent.tools import Toolbox
from agents.tool_agent.trace import Trace


class State(TypedDict):
    """Of many messages at once: the attempts at each."""

    transcripts: list[Transcript]
    attempts: list[list[Trace]]


class SelfConsistency:
    """`team(transcripts)` works on their messages to the end; with one attempt it is the agent alone, undrawn."""

    def __init__(self, crew: Crew, tools: Toolbox, attempts: int = 1, temperature: float = 0.7) -> None:
        self.crew, self.tools, self.attempts, self.temperature = crew, tools, attempts, temperature
        graph = StateGraph(State)
        graph.add_node("attempt", self._attempt)
        graph.add_node("vote", self._vote)
        graph.add_edge(START, "attempt")
        graph.add_edge("attempt", "vote")
        graph.add_edge("vote", END)
        self.graph = graph.compile()

    def __call__(self, transcripts: list[Transcript]) -> None:
        """See the class."""
        self.graph.invoke({"transcripts": transcripts, "attempts": []})

    def _attempt(self, state: State) -> dict[str, object]:
        requests = [(one, one.message, ()) for one in state["transcripts"] for _ in range(self.attempts)]
        temperature = self.temperature if self.attempts > 1 else 0.0
        traces = self.crew.ask("agent", requests, self.tools, temperature)
        n = self.attempts
        return {"attempts": [traces[n * i : n * i + n] for i in range(len(state["transcripts"]))]}

    def _vote(self, state: State) -> dict[str, object]:
        for transcript, traces in zip(state["transcripts"], state["attempts"], strict=True):
            calls, answer = plurality([(tuple(trace.calls), trace.answer) for trace in traces])
            transcript.finish(calls, answer)
        return {}
