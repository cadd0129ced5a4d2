"""Questions to answers: each runs the ordinary agent loop in a thread, and tells an event loop what happens in it."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import torch

from agents.capstone.batched_policy import BatchedPolicy
from agents.capstone.chat_protocol import ApiError, Asked, Call, Citation, End
from agents.capstone.engine import ROWS, Cancelled, Engine, EngineClosed, QueueFull
from agents.tool_agent.approval import GuardedToolbox
from agents.tool_agent.grammar import CallGrammar
from agents.tool_agent.loop import Limits, run_tasks
from agents.tool_agent.tools import Toolbox, ToolResult
from llmm.errors import UserError
from llmm.training.lora.chat import ChatCodec, Message
from llmm.transformers.gpt.model import GPT

UNATTENDED = frozenset({"calculator", "search_docs", "signature", "python"})  # read, or run in the sandbox
Event: TypeAlias = str | Call | End | ApiError  # more text; a tool; and at last one of the other two
_LIMITS = Limits()
_HIT = re.compile(r"^\[\d+\] (.+?): (.*)$", re.MULTILINE)  # a line of what search_docs returns


@dataclass(frozen=True)
class Served:
    """A model by the name that clients ask for: the same weights, with tools or without."""

    name: str
    tools: Toolbox
    grammar: CallGrammar


class Service:
    """Answers up to `rows` requests at a time and lets `most_waiting` more wait."""

    def __init__(self, model: GPT, codec: ChatCodec, tools: Toolbox, rows: int = ROWS, most_waiting: int = 64) -> None:
        self.most = rows + most_waiting
        guarded = GuardedToolbox(tools, set(tools.tools) - UNATTENDED, lambda call: False)  # nobody is there to ask
        boxes = {"assistant": guarded, "chat": Toolbox([])}
        self.served = {
            name: Served(name, box, CallGrammar(codec, list(box.tools.values()))) for name, box in boxes.items()
        }
        self.engine = Engine(model, rows, self.most)
        self.open = 0  # requests in hand
        self._pool = ThreadPoolExecutor(self.most, thread_name_prefix="agent")

    def answer(self, asked: Asked) -> AsyncIterator[Event]:
        """What happens while `asked` is answered. Whoever stops to listen cancels it. For one event loop.

        Raises ApiError 404, 413, 429 or 503.
        """
        if asked.model not in self.served:
            names = ", ".join(self.served)
            raise ApiError(404, f"there is no model {asked.model!r:.80}: {names}", "model", "model_not_found")
        job = _Job(self.engine, self.served[asked.model], asked)
        if not job.fits():
            most = self.engine.model.config.context_len
            message = f"the messages and the answer take more than the model's {most} tokens: shorten them"
            raise ApiError(413, message, "messages", "context_length_exceeded")
        if self.engine.closed:
            raise _closed()
        if self.open >= self.most:
            raise _full()
        self.open += 1
        loop, events = asyncio.get_running_loop(), asyncio.Queue[Event]()
        running = loop.run_in_executor(
            self._pool, job.run, lambda event: loop.call_soon_threadsafe(events.put_nowait, event)
        )
        running.add_done_callback(self._ended)
        return _listen(job, events)

    def _ended(self, _: object) -> None:
        self.open -= 1

    def close(self) -> None:
        """Take no more questions and end those in hand with an error."""
        self.engine.close()


def _full() -> ApiError:
    return ApiError(429, "too many requests wait already: try again later", code="queue_full")


def _closed() -> ApiError:
    return ApiError(503, "the server is shutting down", code="shutting_down")


class _Job:
    """One question on its way through the loop."""

    def __init__(self, engine: Engine, served: Served, asked: Asked) -> None:
        self.asked, self.tools = asked, served.tools
        turn = min(asked.max_tokens or _LIMITS.turn_tokens, engine.model.config.context_len // 4)
        self.limits = Limits(turn_tokens=turn, tokens=asked.max_tokens or _LIMITS.tokens)
        generator = torch.Generator()
        generator.seed() if asked.seed is None else generator.manual_seed(asked.seed)
        self.policy = BatchedPolicy(
            engine, served.grammar, self.limits.tokens, asked.sampler, generator, asked.stop, name=served.name
        )

    def fits(self) -> bool:
        """Whether there is room for a first turn."""
        return self.policy.fits([*self.asked.history, Message("user", self.asked.task)], self.limits.turn_tokens)

    def run(self, tell: Callable[[Event], object]) -> None:
        """Answer the question; the last thing told is End or ApiError."""
        try:
            self.policy.say = tell
            tools = _Told(self.tools, tell)
            (trace,) = run_tasks([(self.asked.task, self.asked.history)], self.policy, tools, self.limits)
            policy = self.policy
            tell(End(trace.stop, policy.read, policy.cached, policy.written, tools.citations))
        except Cancelled:
            pass  # nobody listens
        except QueueFull:
            tell(_full())
        except EngineClosed:
            tell(_closed())
        except UserError as error:
            tell(ApiError(400, str(error)))
        except Exception:
            logging.getLogger(__name__).exception("a request failed")
            tell(ApiError(500, "a fault of the server"))
        finally:
            self.policy.cancel()


async def _listen(job: _Job, events: asyncio.Queue[Event]) -> AsyncIterator[Event]:
    """The events of `job`; it is cancelled when they are no longer asked for."""
    try:
        while True:
            event = await events.get()
            yield event
            if isinstance(event, End | ApiError):
                return
    finally:
        job.policy.cancel()


class _Told(Toolbox):
    """The tools of another toolbox, whose calls are told of, and the sources that its searches brought."""

    def __init__(self, tools: Toolbox, tell: Callable[[Event], object]) -> None:
        super().__init__(list(tools.tools.values()))
        self._inner, self._tell, self._calls = tools, tell, 0
        self._found: dict[Citation, None] = {}  # a set that keeps its order

    @property
    def citations(self) -> list[Citation]:
        """Each once, in the order in which they came."""
        return list(self._found)

    def call(self, text: str) -> ToolResult:
        """See Toolbox."""
        self._calls += 1
        self._tell(Call(self._calls, text))
        result = self._inner.call(text)
        self._tell(Call(self._calls, text, result.text, result.ok))
        if result.ok and _name(self, text) == "search_docs":
            self._found |= dict.fromkeys(Citation(*hit) for hit in _HIT.findall(result.text))
        return result


def _name(tools: Toolbox, call: str) -> str:
    """The tool that a valid call names."""
    return tools.parse(call)[0].name
