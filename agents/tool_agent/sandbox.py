"""Python for the model, in pydantic-monty: an interpreter of its own in a separate process, without files or network.

Where the sandbox is not to be had, running code is refused: there is no fallback.
"""

import ast
import atexit
import datetime
import functools
import io
from typing import Any

MAX_CODE_CHARS = 2000
MAX_OUTPUT_CHARS = 300
_SECONDS = 1.0
_MEMORY_BYTES = 32 << 20
_RESULT = "__result"
_SHOW_RESULT = f"""
None if {_RESULT} is None else ({_RESULT} if isinstance({_RESULT}, str) else repr({_RESULT}))[:{MAX_OUTPUT_CHARS + 1}]
"""
# Nothing outside the program shows in its result: a fixed clock, fixed random numbers, no sleeping
_POLICY: Any = {
    "datetime": datetime.datetime(2024, 1, 1),
    "sleep": "zero",
    "random_start": {"seed": 0},
}


class SandboxError(Exception):
    """What the program did wrong, in one line for the model."""


class SandboxMissing(Exception):
    """No sandbox on this machine: code is refused."""


def run_python(code: str) -> str:
    """Run `code` and return what it printed and the value of its last expression.

    At most 1 second, 32 MiB and 300 characters of output. Raises SandboxError for a program that fails or exceeds a
    limit, SandboxMissing where pydantic-monty is not installed or does not start.
    """
    if len(code) > MAX_CODE_CHARS:
        raise SandboxError(f"the program has more than {MAX_CODE_CHARS} characters")
    pool = _pool()
    import pydantic_monty as monty

    printed = monty.CollectString(max_bytes=1 << 16)
    limits: Any = {
        "max_feed_duration_secs": _SECONDS,
        "max_memory": _MEMORY_BYTES,
        "max_recursion_depth": 200,
        "max_suspensions": 100,
    }
    try:
        with pool.checkout(limits=limits, os_policy=_POLICY) as session:
            session.feed_run(_with_result_named(code), print_callback=printed)
            shown = session.feed_run(_SHOW_RESULT)
    except monty.MontyCrashedError:
        raise SandboxError("the program was stopped") from None
    except monty.MontyError as error:
        raise SandboxError(_stable(str(error))) from None
    except (ValueError, TypeError, RecursionError) as error:
        raise SandboxError(f"the program cannot be run: {type(error).__name__}") from None
    text = printed.output.rstrip("\n")
    if shown is not None:
        text = f"{text}\n{shown}" if text else shown
    if len(text) > MAX_OUTPUT_CHARS:
        raise SandboxError(f"the output has more than {MAX_OUTPUT_CHARS} characters")
    return text


def _with_result_named(code: str) -> str:
    """`code` with the value of its last expression kept under a name, so that the sandbox itself can show it.

    A small value may be huge as text (sixty lists, each twice in the next), so only text leaves the sandbox.
    """
    try:
        last = ast.parse(code).body[-1:]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return f"{_RESULT} = None\n{code}"  # and the sandbox says what is wrong
    if not last or not isinstance(last[0], ast.Expr):
        return f"{_RESULT} = None\n{code}"
    lines = [line.encode() for line in io.StringIO(code, newline="")]  # the lines that Python counts
    start = (last[0].lineno - 1, last[0].col_offset)
    end = ((last[0].end_lineno or 0) - 1, last[0].end_col_offset)
    for (row, column), added in ((end, ")"), (start, f"{_RESULT} = (")):
        lines[row] = lines[row][:column] + added.encode() + lines[row][column:]
    return b"".join(lines).decode()


def _stable(message: str) -> str:
    """The first line of an error, without the measured seconds and bytes that differ from run to run."""
    line = message.strip().split("\n")[0]
    for limit in ("time limit exceeded", "memory limit exceeded"):
        if limit in line:
            return limit
    return line[:200]


@functools.lru_cache(maxsize=1)
def _pool() -> Any:
    try:
        import pydantic_monty as monty

        pool = monty.Monty(min_processes=1, max_processes=2, request_timeout=_SECONDS + 2)
        pool.__enter__()
    except (ImportError, OSError, RuntimeError) as error:
        raise SandboxMissing(f"there is no Python sandbox here ({type(error).__name__}: {error})") from None
    atexit.register(pool.__exit__, None, None, None)
    return pool
