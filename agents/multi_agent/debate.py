"""Debaters answer apart, hear what the others would do, answer again, and vote. README, section 2.

Source: Du et al. 2023 (2305.14325), section 2.
"""

from typing import TypedDict

from langgraph.graph import END, START, StateGraph

from agents.multi_agent.crew import Crew
from agents.multi_agent.roles import DEBATE, says
from agents.multi_agent.transcript import Transcript
from agents.multi_agent.voting import plurality
from agents.tool_agent.tools import Toolbox

Calls = tuple[str, ...]


class State(TypedDict):
    """Of many messages at once. `said[i]` is what each debater would do about message i; `rounds` keeps all of it."""

    transcripts: list[Transcript]
    said: list[list[Calls]]
    rounds: list[list[list[Calls]]]


class Debate:
    """`team(transcripts)` works on their messages to the end; `history` then holds what was said in each round."""

    def __init__(
        self, crew: Crew, tools: Toolbox, debaters: int = 3, rounds: int = 2, temperature: float = 0.7
    ) -> None:
        """Raises ValueError unless there are at least two debaters."""
        if debaters < 2:
            raise ValueError(f"{debaters} debaters: nobody to listen to")
        self.crew, self.tools, self.temperature = crew, tools, temperature
        self.debaters, self.rounds = debaters, rounds
        self.history: list[list[list[Calls]]] = []
        graph = StateGraph(State)
        graph.add_node("speak", self._speak)
        graph.add_node("vote", self._vote)
        graph.add_edge(START, "speak")
        graph.add_conditional_edges("speak", lambda state: "speak" if len(state["rounds"]) <= rounds else "vote")
        graph.add_edge("vote", END)
        self.graph = graph.compile()

    def __call__(self, transcripts: list[Transcript]) -> None:
        """See the class."""
        start: State = {"transcripts": transcripts, "said": [], "rounds": []}
        self.graph.invoke(start, {"recursion_limit": self.rounds + 4})

    def _speak(self, state: State) -> dict[str, object]:
        """A round: each debater after hearing the others, of whom in the first round there is nothing to hear."""
        requests = []
        for i, transcript in enumerate(state["transcripts"]):
            for k in range(self.debaters):
                others = [calls for m, calls in enumerate(state["said"][i]) if m != k] if state["said"] else []
                heard = "\n".join(call for calls in others for call in calls)
                requests.append((transcript, transcript.message, says(DEBATE, heard)))
        traces = self.crew.ask("debater", requests, self.tools, self.temperature)
        n = self.debaters
        said = [[tuple(trace.calls) for trace in traces[n * i : n * i + n]] for i in range(len(state["transcripts"]))]
        return {"said": said, "rounds": [*state["rounds"], said]}

    def _vote(self, state: State) -> dict[str, object]:
        self.history = state["rounds"]
        for transcript, said in zip(state["transcripts"], state["said"], strict=True):
            transcript.finish(plurality(said))
        return {}
