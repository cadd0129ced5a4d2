"""What a person sees of a training run: one live line in a terminal, a plain line every few seconds elsewhere."""

import sys
import time
from types import TracebackType
from typing import Self


class Progress:
    """Shows step, figures, speed and the time that is left. Used as a context; `update` may be called at every step."""

    def __init__(self, title: str, steps: int, first_step: int = 0, silent: bool = False) -> None:
        self.title, self.steps, self.first_step = title, steps, first_step
        self.silent = silent
        self.live = sys.stdout.isatty() and not silent
        self.every_seconds = 0.2 if self.live else 5.0
        self.started = self.shown = time.perf_counter()
        self.tokens = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            print()

    @property
    def tokens_per_second(self) -> float:
        """Since the first step, which is left out: it pays for compilation."""
        return self.tokens / max(1e-9, time.perf_counter() - self.started)

    def update(self, step: int, tokens: int, figures: dict[str, float]) -> None:
        """Say that `step` steps are done, the last one of `tokens` tokens, with these figures."""
        now = time.perf_counter()
        if step == self.first_step + 1:
            self.started = now  # the first step compiles
        else:
            self.tokens += tokens
        if self.silent or (now - self.shown < self.every_seconds and step != self.steps):
            return
        self.shown = now
        done = step - self.first_step - 1
        left = (self.steps - step) * (now - self.started) / done if done > 0 else float("nan")
        shown = "  ".join(f"{name} {value:.3f}" for name, value in figures.items())
        speed = f"{self.tokens_per_second:,.0f} tok/s  " if done > 0 else ""
        eta = f"{left // 60:.0f}:{left % 60:02.0f} left" if done > 0 else "compiling"
        line = f"{self.title}  {step}/{self.steps}  {shown}  {speed}{eta}"
        print(f"\r\033[K{line}" if self.live else line, end="" if self.live else "\n", flush=True)

    def say(self, line: str) -> None:
        """Print a line of its own above the live one."""
        if not self.silent:
            print(f"\r\033[K{line}" if self.live else line, flush=True)
