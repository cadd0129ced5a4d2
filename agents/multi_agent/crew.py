"""The members of a team: one model in several roles, each told by a system turn, working on many messages at once."""

from collections.abc import Sequence

import torch

from agents.multi_agent.plan_masks import PlanGrammar, is_plan
from agents.multi_agent.transcript import Transcript, Turn
from agents.tool_agent.loop import Limits, run_tasks
from agents.tool_agent.policy import ModelPolicy
from agents.tool_agent.tasks import BETWEEN_PARTS, PLAN
from agents.tool_agent.tools import Toolbox
from agents.tool_agent.trace import Trace
from llmm.training.lora.chat import ChatCodec, Conversation, Message
from llmm.training.lora.truecase import truecased
from llmm.transformers.gpt import GPT
from llmm.transformers.gpt.sampling import Sampler

NO_TOOLS = Toolbox([])
PLANNER = "planner"


class Crew:
    """Whoever is asked answers with the same weights; as what, the turns before the request say."""

    def __init__(self, model: GPT, codec: ChatCodec, limits: Limits, seed: int = 0, beams: int = 1) -> None:
        self.model, self.codec, self.limits, self.beams = model, codec, limits, beams
        self.plans = PlanGrammar(codec)
        self.generator = torch.Generator().manual_seed(seed)

    def ask(
        self,
        who: str,
        requests: Sequence[tuple[Transcript, str, Sequence[Message]]],
        tools: Toolbox = NO_TOOLS,
        temperature: float = 0.0,
    ) -> list[Trace]:
        """Have `who` work on requests (the team's transcript, what is asked, what was said before) with its tools, all
        in one batch, each to its end. Noted in the transcripts, and paid from their budgets."""
        policy = self._policy(who, tools, temperature)
        tasks = [(asked, before) for _, asked, before in requests]
        traces = run_tasks(tasks, policy, tools, self.limits) if tasks else []
        for (transcript, _, _), trace in zip(requests, traces, strict=True):
            transcript.add(Turn.of(trace, tokens_of(trace, self.codec)))
        return traces

    def plan(self, transcripts: Sequence[Transcript]) -> list[tuple[str, ...]]:
        """The errands of each message, in its own words as they are read; the whole message where what the planner says
        is no plan."""
        requests = [(one, one.message, [Message("system", PLAN)]) for one in transcripts]
        found = []
        for one, trace in zip(transcripts, self.ask(PLANNER, requests), strict=True):
            read = truecased(one.message)
            parts = trace.answer.split(BETWEEN_PARTS) if is_plan(trace.answer, read) else [one.message]
            found.append(tuple(part.strip() for part in parts))
        return found

    def turn(
        self, who: str, conversations: Sequence[tuple[Transcript, Conversation]], tools: Toolbox
    ) -> list[Message | None]:
        """One turn of `who` in each conversation, None where it did not end. The calls in it are not carried out."""
        if not conversations:
            return []
        written = self._policy(who, tools).turns([said for _, said in conversations], self.limits.turn_tokens)
        for (transcript, said), turn in zip(conversations, written, strict=True):
            cost = len(self.codec.prompt(said)) + turn.tokens
            asked = next(one.text for one in reversed(said) if one.role == "user")
            answer = turn.message.text if turn.message and turn.message.role == "assistant" else ""
            transcript.add(Turn(who, asked, (), (), (), answer, "answer" if turn.message else "unfinished", cost))
        return [turn.message for turn in written]

    def _policy(self, who: str, tools: Toolbox, temperature: float = 0.0) -> ModelPolicy:
        policy = ModelPolicy(
            self.model, self.codec, list(tools.tools.values()), who, Sampler(temperature), self.generator, self.beams
        )
        if who == PLANNER:
            policy.grammar = self.plans
        return policy


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
