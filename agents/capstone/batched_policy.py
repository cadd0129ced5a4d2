"""The assistant's turns through the engine: an ordinary agent loop in a thread, while all loops share the batch."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence

import torch

from agents.capstone.engine import Engine, Generation, Request
from agents.capstone.text_stream import TextStream
from agents.tool_agent.grammar import CallGrammar, TurnMasks
from agents.tool_agent.policy import Turn
from llmm.training.lora.chat import Conversation, Message
from llmm.transformers.gpt.sampling import GREEDY, Sampler


class BatchedPolicy:
    """A `Policy` for one task: the model of `engine` under `grammar`, at most `tokens` tokens in all turns together.

    `say` hears the text of an answer as it is written. An answer ends before one of the strings `stop`.
    """

    def __init__(
        self,
        engine: Engine,
        grammar: CallGrammar,
        tokens: int,
        sampler: Sampler = GREEDY,
        generator: torch.Generator | None = None,
        stop: Sequence[str] = (),
        say: Callable[[str], object] = lambda text: None,
        name: str = "model",
    ) -> None:
        self.engine, self.grammar, self.codec, self.name = engine, grammar, grammar.codec, name
        self.sampler, self.generator, self.stop, self.say = sampler, generator, tuple(stop), say
        self.left = tokens
        self.read = self.cached = self.written = 0  # tokens of all prompts, of those known before, and of all turns
        self._cancelled = threading.Event()
        self._generation: Generation | None = None

    def turns(self, conversations: Sequence[Conversation], max_tokens: int) -> list[Turn]:
        """See Policy. Raises Cancelled, and what `Engine.submit` does."""
        return [self._turn(conversation, max_tokens) for conversation in conversations]

    def fits(self, conversation: Conversation, max_tokens: int) -> bool:
        """See Policy."""
        return len(self.codec.prompt(conversation)) + max_tokens <= self.engine.model.config.context_len

    def cancel(self) -> None:
        """End the turn in hand, and every later one, with Cancelled. Any thread may call it."""
        self._cancelled.set()
        if self._generation is not None:
            self._generation.cancel()

    def _turn(self, conversation: Conversation, max_tokens: int) -> Turn:
        masks = self.grammar.processor([conversation])
        request = Request(
            self.codec.prompt(conversation),
            min(max_tokens, self.left),
            [self.codec.end],
            self.sampler,
            self.generator,
            masks,
        )
        generation = self._generation = self.engine.submit(request)
        if self._cancelled.is_set():  # perhaps before there was a generation to cancel
            generation.cancel()
        if self.grammar.calls:
            with contextlib.suppress(Exception):  # a fault shows where a call is written, and there may be none
                masks.prepare(0)  # while the engine reads the prompt
        self.read += len(request.prompt)
        tokens: list[int] = []
        text = TextStream(self.codec, self.stop)
        for token in _to_the_end(generation, masks):
            if tokens and tokens[0] == self.codec.role_ids["assistant"] and token != self.codec.end:
                self._say(text.feed(token))
            tokens.append(token)
            if text.stopped:
                generation.cancel()
                break
        self._say(text.flush())
        self.left -= len(tokens)
        self.written += len(tokens)
        self.cached += generation.cached
        message = Message("assistant", text.text) if text.stopped else self.codec.read_turn(tokens)
        return Turn(message, len(tokens))

    def _say(self, text: str) -> None:
        if text:
            self.say(text)


def _to_the_end(generation: Generation, masks: TurnMasks) -> Iterator[int]:
    """The tokens of a turn as they come, and then those that nobody had to write; no more than there is room for."""
    tokens: list[int] = []
    for token in generation:
        tokens.append(token)
        yield from masks.whole(0, tokens)[len(tokens) - 1 : generation.most]
