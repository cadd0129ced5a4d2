"""Continuous batching: all requests share each step of the model, and nobody waits for the longest.

A batch that starts together ends with its longest row, while the rows that are done stand idle and new requests wait
outside. Here the unit is one step: a request joins between two steps as soon as a row is free, and leaves with its
last token. Source: Yu et al. 2022, Orca (OSDI), section 3.1, iteration-level scheduling.
"""

import queue
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from agents.capstone.shared_cache import SharedStep
from llmm.transformers.gpt.generate import LogitsProcessor, check_prompts
from llmm.transformers.gpt.model import GPT
from llmm.transformers.gpt.sampling import GREEDY, Sampler


class EngineBusy(Exception):
    """As many requests wait as may wait."""


class EngineClosed(Exception):
    """The engine takes no more requests, or ended before this one was done."""


@dataclass(frozen=True)
class Request:
    """What to continue, and how. `processor` sees this request as row 0 of a batch of one."""

    prompt: Sequence[int]
    max_new_tokens: int
    stop_ids: frozenset[int] = frozenset()
    sampler: Sampler = GREEDY
    seed: int = 0
    processor: LogitsProcessor | None = None


class Ticket:
    """A request on its way: iterate over its tokens as they are drawn, the stop token included."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.generated: list[int] = []
        self.cancelled = threading.Event()
        self.generator = torch.Generator().manual_seed(request.seed)
        self._tokens: queue.SimpleQueue[int | Exception | None] = queue.SimpleQueue()

    def __iter__(self) -> Iterator[int]:
        """Raises whatever went wrong with this request, EngineClosed among it."""
        while (token := self._tokens.get()) is not None:
            if isinstance(token, Exception):
                raise token
            yield token

    def cancel(self) -> None:
        """Nobody listens any more: the row is free from the next step on, and the iteration ends."""
        self.cancelled.set()

    def push(self, token: int) -> bool:
        """Deliver a token; whether the request goes on."""
        self.generated.append(token)
        self._tokens.put(token)
        return token not in self.request.stop_ids and len(self.generated) < self.request.max_new_tokens

    def end(self, error: Exception | None = None) -> None:
        """Deliver the end, or what went wrong."""
        self._tokens.put(error)


class Engine:
    """One thread that owns the model and takes all running requests one token further at a time."""

    def __init__(self, model: GPT, rows: int = 8, most_waiting: int = 64) -> None:
        """`rows` requests run at a time, `most_waiting` more may wait. Raises UserError where the model has another
        build than `SharedStep` computes, ValueError for fewer than one row."""
        if rows < 1:
            raise ValueError(f"{rows} rows: expected at least one")
        self.model, self.most_waiting = model, most_waiting
        self.step = SharedStep(model, rows)
        self._rows: list[Ticket | None] = [None] * rows
        self._waiting: deque[Ticket] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> Ticket:
        """Have `request` worked on. Raises EngineBusy, EngineClosed, and UserError for a prompt that cannot be read."""
        check_prompts(self.model, [list(request.prompt)])
        ticket = Ticket(request)
        with self._changed:
            if self._closed:
                raise EngineClosed("the engine is closed")
            if len(self._waiting) >= self.most_waiting:
                raise EngineBusy(f"{len(self._waiting)} requests wait already")
            self._waiting.append(ticket)
            self._changed.notify()
        return ticket

    @property
    def load(self) -> tuple[int, int]:
        """How many requests run, and how many wait."""
        return sum(ticket is not None for ticket in self._rows), len(self._waiting)

    def close(self) -> None:
        """End all requests and the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    @torch.inference_mode()
    def _work(self) -> None:
        while self._wait_for_work():
            try:
                self._admit()
                self._advance()
            except Exception as error:  # whatever went wrong with the model ends what runs, and not the engine
                self._end_running(error)
        closed = EngineClosed("the engine was closed")
        self._end_running(closed)
        for ticket in self._waiting:
            ticket.end(closed)

    def _wait_for_work(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._waiting or any(self._rows))
            return not self._closed

    def _admit(self) -> None:
        """Let requests that wait have the free rows: read their prompts and draw their first tokens."""
        for row, running in enumerate(self._rows):
            while running is None and self._waiting:
                ticket = self._waiting.popleft()
                if ticket.cancelled.is_set() or ticket.request.max_new_tokens < 1:
                    ticket.end()
                    continue
                self._rows[row] = ticket
                self._draw(row, self.step.join(row, ticket.request.prompt))
                running = self._rows[row]

    def _advance(self) -> None:
        """One more token for every row."""
        for row, ticket in enumerate(self._rows):
            if ticket is not None and ticket.cancelled.is_set():
                self._leave(row)
        if not any(self._rows):
            return
        newest = [0 if ticket is None else ticket.generated[-1] for ticket in self._rows]
        logits_BV = self.step(torch.tensor(newest, device=self.step.device))
        for row, ticket in enumerate(self._rows):
            if ticket is not None:
                self._draw(row, logits_BV[row])

    def _draw(self, row: int, logits_V: torch.Tensor) -> None:
        """The next token of a row, which may be its last. A fault of its processor ends this request alone."""
        ticket = self._rows[row]
        assert ticket is not None
        request = ticket.request
        try:
            logits_1V = logits_V[None].cpu()
            if request.processor is not None:
                logits_1V = request.processor([0], [ticket.generated], logits_1V)
            history = [[*request.prompt, *ticket.generated]]
            token = int(request.sampler(logits_1V, ticket.generator, history))
        except Exception as error:  # of whatever kind: the others in the batch go on
            self._leave(row, error)
            return
        if not ticket.push(token) or self.step.full(row):
            self._leave(row)

    def _leave(self, row: int, error: Exception | None = None) -> None:
        ticket = self._rows[row]
        self._rows[row] = None
        self.step.leave(row)
        if ticket is not None:
            ticket.end(error)

    def _end_running(self, error: Exception) -> None:
        for row in range(len(self._rows)):
            self._leave(row, error)
