"""The tool agent of M12, for many users at once: each has a loop of its own, and all of them share the engine.

What happens is told as it happens: a call, what came of it, the answer piece by piece, and in the end the trace.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from tokenizers.decoders import DecodeStream

from agents.capstone.engine import Engine, Request, Ticket
from agents.tool_agent.grammar import CallGrammar
from agents.tool_agent.loop import Limits, run_tasks
from agents.tool_agent.policy import Turn
from agents.tool_agent.tools import Toolbox, ToolResult
from agents.tool_agent.trace import Trace
from llmm.errors import UserError
from llmm.training.lora.chat import ChatCodec, Conversation, Message
from llmm.transformers.gpt.sampling import GREEDY, Sampler


@dataclass(frozen=True)
class Event:
    """Something that a user may see: a call as the model wrote it, its result, or a piece of the answer."""

    kind: Literal["call", "result", "text"]
    text: str
    ok: bool = True


class Cancelled(Exception):
    """The user has gone."""


class Conversing:
    """A Policy whose turns go through the engine. What it writes is told while it writes."""

    name = "assistant"

    def __init__(
        self, engine: Engine, grammar: CallGrammar, tell: Callable[[Event], None], sampler: Sampler, seed: int
    ) -> None:
        self.engine, self.grammar, self.codec, self.tell = engine, grammar, grammar.codec, tell
        self.sampler, self.seed = sampler, seed
        self.tokens_read = 0
        self._running: Ticket | None = None
        self._gone = False

    def turns(self, conversations: Sequence[Conversation], max_tokens: int) -> list[Turn]:
        """See Policy. Raises Cancelled after `cancel`, and what the engine raises."""
        return [self._turn(conversation, max_tokens) for conversation in conversations]

    def fits(self, conversation: Conversation, max_tokens: int) -> bool:
        """See Policy."""
        return len(self.codec.prompt(conversation)) + max_tokens <= self.engine.model.config.context_len

    def cancel(self) -> None:
        """Stop writing. May be called from any thread."""
        self._gone = True
        if self._running is not None:
            self._running.cancel()

    def _turn(self, conversation: Conversation, max_tokens: int) -> Turn:
        if self._gone:
            raise Cancelled
        prompt = self.codec.prompt(conversation)
        self.tokens_read += len(prompt)
        processor = self.grammar.processor([conversation])
        stop = frozenset([self.codec.end])
        request = Request(prompt, max_tokens, stop, self.sampler, self.seed + self.tokens_read, processor)
        self._running = self.engine.submit(request)
        if self._gone:  # it was cancelled while this was on its way
            self._running.cancel()
        text = DecodeStream(skip_special_tokens=False)  # holds back half a character
        ids: list[int] = []
        for token in self._running:
            ids.append(token)
            says = ids[0] == self.codec.role_ids["assistant"] and len(ids) > 1 and token != self.codec.end
            if says and (piece := text.step(self.codec.tokenizer, token)):
                self.tell(Event("text", piece))
        if self._gone:
            raise Cancelled
        return Turn(self.codec.read_turn(ids), len(ids))


class ToldToolbox(Toolbox):
    """The tools of another toolbox, whose calls and results are told."""

    def __init__(self, tools: Toolbox, tell: Callable[[Event], None]) -> None:
        super().__init__(list(tools.tools.values()))
        self.inner, self.tell = tools, tell

    def call(self, text: str) -> ToolResult:
        """See Toolbox."""
        self.tell(Event("call", text))
        result = self.inner.call(text)
        self.tell(Event("result", result.text, result.ok))
        return result


class Assistant:
    """Answers conversations with tools. Every answer is a loop in the caller's thread over the shared engine."""

    def __init__(self, engine: Engine, codec: ChatCodec, tools: Toolbox) -> None:
        """The tools are used without asking anybody, so they must have no side effects."""
        self.engine, self.tools = engine, tools
        self.grammar = CallGrammar(codec, list(tools.tools.values()))

    def policy(self, tell: Callable[[Event], None], sampler: Sampler = GREEDY, seed: int = 0) -> Conversing:
        """Who will write one answer; `cancel` it where its reader has gone."""
        return Conversing(self.engine, self.grammar, tell, sampler, seed)

    def answer(self, policy: Conversing, conversation: Sequence[Message], limits: Limits) -> Trace:
        """Answer the last turn of `conversation`, which is the user's.

        Raises what `Conversing.turns` raises, and UserError where there is no room for an answer.
        """
        *before, last = conversation
        trace = run_tasks([(last.text, before)], policy, ToldToolbox(self.tools, policy.tell), limits)[0]
        if trace.stop == "context" and not trace.steps:
            context, size = self.engine.model.config.context_len, len(self.grammar.codec.prompt(conversation))
            raise UserError(
                f"the conversation has {size} tokens, and an answer may have {limits.turn_tokens}: "
                f"together more than the {context} that the model takes"
            )
        return trace


def citations(trace: Trace) -> list[dict[str, str]]:
    """What the searches of a trace brought, in the order in which it was found: source and line, each source once."""
    found: dict[str, str] = {}
    for step in trace.steps:
        if step.tool == "search_docs" and step.ok:
            for source, line in re.findall(r"^\[\d+\] (\S+): (.*)$", step.result or "", re.MULTILINE):
                found.setdefault(source, line)
    return [{"source": source, "text": line} for source, line in found.items()]
