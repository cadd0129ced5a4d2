"""Continuous batching: many requests, one model, and nobody waits for the longest.

One thread owns the model and decodes one token for all running requests at a time. Between two such steps requests
join, as long as rows are free, and leave as soon as they end. Source: Yu et al. 2022, "Orca" (OSDI), section 3.1, there
called scheduling by iteration. A request that joins is read whole, which holds the others up for as long as that takes.
"""

import queue
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.capstone.shared_rows import SharedRows
from llmm.errors import UserError
from llmm.transformers.gpt.generate import LogitsProcessor, check_prompts
from llmm.transformers.gpt.model import GPT
from llmm.transformers.gpt.sampling import GREEDY, Sampler

ROWS = 16  # requests that are answered at a time, where nobody says otherwise


class QueueFull(Exception):
    """As many requests wait as may."""


class EngineClosed(Exception):
    """The engine takes no more requests, and has given up those that it had."""


class Cancelled(Exception):
    """The request was cancelled."""


@dataclass(frozen=True)
class Request:
    """What to continue, and how: as in `generate`, for one prompt. `processor` is asked about row 0 only."""

    prompt: list[int]
    max_tokens: int
    stop_ids: Sequence[int] = ()
    sampler: Sampler = GREEDY
    generator: torch.Generator | None = None
    processor: LogitsProcessor | None = None


class Generation:
    """The tokens of one request as they come: an iterator for one thread, which may be any but the engine's."""

    def __init__(self, request: Request, context_len: int) -> None:
        self.request = request
        self.tokens: list[int] = []  # written so far
        self.cached = 0  # tokens of the prompt that needed no reading
        self.most = min(request.max_tokens, context_len - len(request.prompt))
        self._arrived: queue.SimpleQueue[int | BaseException | None] = queue.SimpleQueue()
        self._cancelled = threading.Event()

    def __iter__(self) -> Iterator[int]:
        """Wait for each token. Raises Cancelled, EngineClosed, or what the request's own processor raised."""
        while (token := self._arrived.get()) is not None:
            if isinstance(token, BaseException):
                raise token
            yield token

    def result(self) -> list[int]:
        """All tokens that nobody has taken yet, at the end; to be asked for once. Raises as the iteration does."""
        return list(self)

    def cancel(self) -> None:
        """Free the row before the next step. Any thread may call it, at any time."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled.is_set()

    def draw(self, logits_1V: Tensor) -> bool:
        """Draw the next token and hand it over; whether it was the last."""
        asked = self.request
        if asked.processor is not None:
            logits_1V = asked.processor([0], [self.tokens], logits_1V)
        penalised = asked.sampler.repetition_penalty != 1
        history = [[*asked.prompt, *self.tokens]] if penalised else None
        token = int(asked.sampler(logits_1V, asked.generator, history))
        self.tokens.append(token)
        self._arrived.put(token)
        return token in asked.stop_ids or len(self.tokens) == self.most

    def end(self, error: BaseException | None = None) -> None:
        """Tell the reader that no more will come."""
        self._arrived.put(error)


class Engine:
    """Serves requests with one model, at most `rows` at a time, while at most `most_waiting` more wait.

    Keys and values of the last `kept_tokens` tokens of what has ended are kept for requests that begin alike.
    """

    def __init__(self, model: GPT, rows: int = ROWS, most_waiting: int = 64, kept_tokens: int = 1 << 14) -> None:
        self.model, self.most_waiting = model, most_waiting
        self._rows = SharedRows(model, rows, kept_tokens)
        self._running: list[Generation] = []  # in the order of their rows
        self._waiting: deque[Generation] = deque()
        self._changed = threading.Condition()  # guards what waits and whether it is closed
        self.closed = False  # also after a fault that ended it
        self.fault: BaseException | None = None  # which it was
        self.steps = 0  # decoded so far
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> Generation:
        """Put a request into the queue; its tokens arrive at what is returned.

        Raises UserError for a prompt or a number of tokens that cannot be, QueueFull, EngineClosed.
        """
        check_prompts(self.model, [request.prompt])
        if request.max_tokens < 1:
            raise UserError(f"max_tokens = {request.max_tokens}: expected 1 or more")
        generation = Generation(request, self.model.config.context_len)
        with self._changed:
            if self.closed:
                raise EngineClosed
            if len(self._waiting) >= self.most_waiting:
                raise QueueFull
            self._waiting.append(generation)
            self._changed.notify()
        return generation

    @property
    def load(self) -> tuple[int, int]:
        """How many requests run and how many wait."""
        return len(self._running), len(self._waiting)

    def close(self) -> None:
        """Take no more requests and give up those in hand, whose readers get EngineClosed."""
        with self._changed:
            self.closed = True
            self._changed.notify()

    def join(self) -> None:
        """Wait until the closed engine has ended."""
        self._thread.join()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self.join()

    @torch.inference_mode()
    def _work(self) -> None:
        failure: BaseException = EngineClosed()
        try:
            while self._wait():
                self._drop()
                self._admit()
                self._advance()
        except BaseException as error:  # a fault of ours, or no memory: nobody may wait for ever
            self.fault = failure = error
            raise
        finally:
            with self._changed:
                self.closed = True
                for generation in [*self._running, *self._waiting]:
                    generation.end(failure)
                self._waiting.clear()
                self._running.clear()

    def _wait(self) -> bool:
        """Sleep until there is something to do; False when closed."""
        with self._changed:
            self._changed.wait_for(lambda: self.closed or self._waiting or self._running)
            return not self.closed

    def _drop(self) -> None:
        """End those that were cancelled, running or waiting."""
        for row in reversed(range(len(self._running))):
            if self._running[row].cancelled:
                self._leave(row, Cancelled())
        with self._changed:
            for generation in [waiting for waiting in self._waiting if waiting.cancelled]:
                self._waiting.remove(generation)
                generation.end(Cancelled())

    def _admit(self) -> None:
        """Let those that wait longest join while rows are free; whoever comes meanwhile waits for the next step."""
        for _ in range(len(self._waiting)):
            with self._changed:  # at any moment a request is in one of the two lists: a fault of ours ends them all
                if not self._rows.free or not self._waiting:
                    return
                self._running.append(self._waiting.popleft())
            generation = self._running[-1]
            logits_1V, generation.cached = self._rows.join(generation.request.prompt)
            self._draw([len(self._running) - 1], logits_1V)

    def _advance(self) -> None:
        """One token for every running request."""
        if self._running:
            self.steps += 1
            newest_B = torch.tensor([running.tokens[-1] for running in self._running], device=self._rows.block.device)
            self._draw(range(len(self._running)), self._rows.step(newest_B))

    def _draw(self, rows: Sequence[int], logits_BV: Tensor) -> None:
        """Draw a token for each of `rows`. What goes wrong in a request's own rules ends that request alone."""
        for row, logits_1V in reversed(list(zip(rows, logits_BV.split(1), strict=True))):
            try:
                last, error = self._running[row].draw(logits_1V), None
            except Exception as raised:
                last, error = True, raised
            if last:
                self._leave(row, error)

    def _leave(self, row: int, error: BaseException | None = None) -> None:
        """End a request; the last one takes its row. So rows are gone through from the last to the first."""
        self._running[row].end(error)
        self._rows.leave(row, [*self._running[row].request.prompt, *self._running[row].tokens])
        self._running[row] = self._running[-1]
        self._running.pop()
