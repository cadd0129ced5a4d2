"""Who decides the next turn of a conversation: the model under the grammar, or the recorded turns of a trace."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from agents.tool_agent.best_call import LEFT_OUT, best_turn
from agents.tool_agent.grammar import CallGrammar
from agents.tool_agent.tools import Tool
from agents.tool_agent.trace import Step, Trace
from llmm.training.lora.chat import ChatCodec, Conversation, Message
from llmm.transformers.gpt import GPT
from llmm.transformers.gpt.generate import generate
from llmm.transformers.gpt.sampling import GREEDY, Sampler


@dataclass(frozen=True)
class Turn:
    """A turn of the model, or None where it did not end within its tokens; and how many tokens it took."""

    message: Message | None
    tokens: int


class Policy(Protocol):
    """Answers a batch of conversations with one turn each."""

    name: str

    def turns(self, conversations: Sequence[Conversation], max_tokens: int) -> list[Turn]:
        """The next turn of each conversation, of at most `max_tokens` tokens."""
        ...

    def fits(self, conversation: Conversation, max_tokens: int) -> bool:
        """Whether there is room for another turn."""
        ...


class ModelPolicy:
    """A GPT whose output is masked by the grammar of `tools`. With `beams` above 1 a call that is not drawn is the
    best that so many find, where each number left out costs `price` nats (best_call.py)."""

    def __init__(
        self,
        model: GPT,
        codec: ChatCodec,
        tools: Sequence[Tool],
        name: str = "model",
        sampler: Sampler = GREEDY,
        generator: torch.Generator | None = None,
        beams: int = 1,
        price: float = LEFT_OUT,
    ) -> None:
        self.model, self.codec, self.tools, self.name = model, codec, tuple(tools), name
        self.grammar = CallGrammar(codec, tools)
        self.sampler, self.generator = sampler, generator
        self.beams, self.price = beams if sampler.temperature == 0 else 1, price

    def with_tools(self, tools: Sequence[Tool]) -> "ModelPolicy":
        """The same model with other tools."""
        return ModelPolicy(
            self.model, self.codec, tools, self.name, self.sampler, self.generator, self.beams, self.price
        )

    def turns(self, conversations: Sequence[Conversation], max_tokens: int) -> list[Turn]:
        """See Policy."""
        masks = self.grammar.processor(conversations)
        written = generate(
            self.model,
            [self.codec.prompt(conversation) for conversation in conversations],
            max_tokens,
            stop_ids=[self.codec.end],
            sampler=self.sampler,
            generator=self.generator,
            logits_processor=masks,
        )
        whole = [masks.whole(row, ids)[:max_tokens] for row, ids in enumerate(written)]
        found = (
            best_turn(self.model, self.grammar, conversation, ids, max_tokens, self.beams, self.price)
            for conversation, ids in zip(conversations, whole, strict=True)
        )
        return [Turn(self.codec.read_turn(ids), len(ids)) for ids in found]

    def fits(self, conversation: Conversation, max_tokens: int) -> bool:
        """See Policy."""
        return len(self.codec.prompt(conversation)) + max_tokens <= self.model.config.context_len


class ReplayPolicy:
    """Repeats the turns of recorded traces, told apart by task and history; what the tools say is computed anew."""

    def __init__(self, traces: Sequence[Trace]) -> None:
        self.name = traces[0].policy
        self._turns = {(*trace.history, Message("user", trace.task)): trace.steps for trace in traces}

    def turns(self, conversations: Sequence[Conversation], max_tokens: int) -> list[Turn]:
        """See Policy."""
        turns = []
        for conversation in conversations:
            step = self._left(conversation)[0]
            turns.append(Turn(None if step.role == "unfinished" else Message(step.role, step.text), step.tokens))
        return turns

    def fits(self, conversation: Conversation, max_tokens: int) -> bool:
        """Whether another turn is recorded."""
        return bool(self._left(conversation))

    def _left(self, conversation: Conversation) -> Sequence[Step]:
        """The recorded turns after those that `conversation` holds."""
        start = max(i for i, message in enumerate(conversation) if message.role == "user") + 1
        steps = self._turns[tuple(conversation[:start])]
        return steps[sum(message.role == "tool_call" for message in conversation[start:]) :]
