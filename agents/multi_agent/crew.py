"""The members of a team: one model as planner and as workers, on many messages at once."""

from collections.abc import Sequence

from agents.multi_agent.plan_masks import PlanGrammar
from agents.multi_agent.transcript import Transcript, Turn
from agents.tool_agent.loop import Limits, run_tasks
from agents.tool_agent.policy import ModelPolicy
from agents.tool_agent.tasks import BETWEEN_PARTS, PLAN
from agents.tool_agent.tools import Toolbox
from agents.tool_agent.trace import Trace
from llmm.training.lora.chat import ChatCodec, Message
from llmm.transformers.gpt import GPT

NO_TOOLS = Toolbox([])


class Crew:
    """Whoever is asked answers with the same weights; as what, the system turn before the request says."""

    def __init__(self, model: GPT, codec: ChatCodec, tools: Toolbox, limits: Limits) -> None:
        self.codec, self.tools, self.limits = codec, tools, limits
        self.worker = ModelPolicy(model, codec, list(tools.tools.values()), "worker")
        self.planner = ModelPolicy(model, codec, (), "planner")
        self.planner.grammar = PlanGrammar(codec)

    def plan(self, transcripts: Sequence[Transcript]) -> list[tuple[str, ...]]:
        """The errands of each message, in its own words; the whole message where the planner does not end."""
        requests = [(one, one.message, [Message("system", PLAN)]) for one in transcripts]
        plans = [trace.answer for trace in self._ask(self.planner, NO_TOOLS, requests)]
        parts = [tuple(part.strip() for part in plan.split(BETWEEN_PARTS)) for plan in plans]
        return [found if all(found) else (one.message,) for found, one in zip(parts, transcripts, strict=True)]

    def work(self, errands: Sequence[tuple[Transcript, str]]) -> list[Trace]:
        """Have each errand done by a worker of its own, who sees nothing else."""
        return self._ask(self.worker, self.tools, [(one, errand, []) for one, errand in errands])

    def _ask(
        self, policy: ModelPolicy, tools: Toolbox, requests: Sequence[tuple[Transcript, str, list[Message]]]
    ) -> list[Trace]:
        """All requests in one batch, noted in the transcripts and paid from their budgets."""
        tasks = [(asked, before) for _, asked, before in requests]
        traces = run_tasks(tasks, policy, tools, self.limits) if tasks else []
        for (transcript, asked, _), trace in zip(requests, traces, strict=True):
            called = [step for step in trace.steps if step.role == "tool_call"]
            results = tuple(str(step.result) for step in called)
            cost = tokens_of(trace, self.codec)
            transcript.add(Turn(policy.name, asked, tuple(trace.calls), results, trace.answer, trace.stop, cost))
        return traces


def tokens_of(trace: Trace, codec: ChatCodec) -> int:
    """Tokens read and written for a trace: every turn of the model reads the conversation before it."""
    read = len(codec.prompt([*trace.history, Message("user", trace.task)]))
    total = 0
    for step in trace.steps:
        total += read + step.tokens
        read += step.tokens
        if step.result is not None:
            read += len(codec.turn(Message("tool_result", step.result)))
    return total
