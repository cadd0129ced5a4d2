"""Functions called in processes of their own, with limits of time and memory: each call ends in one clear outcome.

The processes are forked from a server that has imported the heavy libraries (`preload`) and nothing of a milestone, so
a call starts in milliseconds and always with the sources that its overlay names.
"""

import contextlib
import importlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from multiprocessing import connection, forkserver
from pathlib import Path
from typing import Any, Literal, TypeVar

from llmm.cores import usable_cores
from llmm.ladder.overlay import Overlay, Source

Item = TypeVar("Item")
Found = TypeVar("Found")
Ending = Literal["returned", "raised", "time", "memory", "died"]
MEBIBYTE = 1 << 20
# one thread a process: sums come out in the same order on every machine, and processes do not slow each other down
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
_RUNNING: set[int] = set()  # process ids of calls in progress
_OUT_OF_MEMORY = ("can't allocate memory", "Unable to allocate", "Cannot allocate memory", "not enough memory")


@dataclass(frozen=True)
class Limits:
    """What a call may take: wall seconds, and MiB on top of what the preloaded libraries hold."""

    seconds: float = 60
    mebibytes: int = 4096


@dataclass(frozen=True)
class Call:
    """`function` ("package.module:name") with `arguments`, under `overlay`, with `path` at the end of sys.path.

    `quiet` throws what the call prints away; otherwise it goes to standard error. `own` are the folders whose lines are
    worth naming where it raises.
    """

    function: str
    arguments: tuple[Any, ...] = ()
    overlay: Mapping[str, Source] = field(default_factory=dict)
    path: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    limits: Limits = Limits()
    quiet: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a call ended, with the value that it returned or the one line that says what went wrong."""

    ending: Ending
    value: Any = None
    fault: str = ""


def start_server(preload: Sequence[str]) -> None:
    """Start the server that calls are forked from, with the libraries `preload` imported and one thread for arithmetic.

    There is one a process: a later call with other libraries changes nothing, they are then imported call by call.
    """
    multiprocessing.set_forkserver_preload(list(preload))
    saved = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    try:
        forkserver.ensure_running()
    finally:
        for name, value in saved.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def run(call: Call) -> Outcome:
    """The outcome of one call, in a process of its own that is gone afterwards, whatever it started with it."""
    context = multiprocessing.get_context("forkserver")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(call, sender), daemon=True)
    process.start()
    sender.close()
    pid = process.pid or 0
    _RUNNING.add(pid)
    try:
        if not connection.wait([receiver, process.sentinel], timeout=call.limits.seconds):
            return Outcome("time", fault=f"still running after {call.limits.seconds:g} s: an endless loop?")
        if receiver.poll():
            with contextlib.suppress(EOFError):
                outcome = Outcome(*receiver.recv())
                process.join(1)  # let it put away what it holds of the system: locks, temporary files
                return outcome
        process.join(1)
        return Outcome("died", fault=f"its process ended without an answer ({_exit(process.exitcode)})")
    finally:
        _RUNNING.discard(pid)
        _kill_group(pid)
        process.kill()
        process.join()
        process.close()
        receiver.close()


def run_all(calls: Sequence[Call], at_once: int | None = None) -> Iterator[Outcome]:
    """The outcomes of the calls in their order, as many at once as this process may use cores."""
    return in_parallel(run, calls, at_once)


def in_parallel(
    function: Callable[[Item], Found], items: Iterable[Item], at_once: int | None = None
) -> Iterator[Found]:
    """`function` of each item in their order, in threads. Each may make calls one after another.

    When the one who asks stops asking (Ctrl-C, SIGTERM, an error), all calls in progress end with their processes.
    """
    with ThreadPoolExecutor(at_once or usable_cores()) as pool:
        futures: list[Future[Found]] = []
        try:
            for item in items:
                futures.append(pool.submit(function, item))
            for future in futures:
                yield future.result()
        finally:
            while wait([future for future in futures if not future.cancel()], timeout=0.1).not_done:
                for pid in list(_RUNNING):
                    _kill_group(pid)


def _serve(call: Call, answer: connection.Connection) -> None:
    """In the new process: make the call under its limits and send (ending, value, fault)."""
    os.setsid()  # so that what it starts can be ended with it
    _redirect_output(call.quiet)
    _die_with_parent()
    _limit_memory(call.limits.mebibytes)
    sys.path += call.path
    try:
        Overlay(call.overlay).install()
        module, _, name = call.function.partition(":")
        value = getattr(importlib.import_module(module), name)(*call.arguments)
        answer.send(("returned", value, ""))
    except BaseException as error:  # also SystemExit: a learner's code may raise anything
        _lift_memory_limit()  # telling what happened takes memory as well
        if _is_out_of_memory(error):
            text = f"needs more than the {call.limits.mebibytes} MiB that it may take"
            answer.send(("memory", None, text + _place(error, call)))
        else:
            answer.send(("raised", None, _line(error) + _place(error, call)))
    answer.close()


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if len(text) > 300:
        text = f"{text[:300]}..."
    if type(error).__name__ == "WrongAnswer":  # its message is the whole story
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _place(error: BaseException, call: Call) -> str:
    """ " (losses.py:12, in gradient)": the innermost line in a file of the overlay, else in one of `call.own`."""
    frames = traceback.extract_tb(error.__traceback__)
    overlaid = {source.path for source in call.overlay.values()}
    inner = [frame for frame in frames if frame.filename in overlaid]
    inner = inner or [frame for frame in frames if any(Path(frame.filename).is_relative_to(own) for own in call.own)]
    if not inner:
        return ""
    frame = inner[-1]
    return f" ({Path(frame.filename).name}:{frame.lineno}, in {frame.name})"


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or any(text in str(error) for text in _OUT_OF_MEMORY)


def _limit_memory(mebibytes: int) -> None:
    """Let writable memory grow by `mebibytes` from here on (where the system can say how much there is now)."""
    import resource

    with contextlib.suppress(OSError, ValueError, IndexError):
        status = Path("/proc/self/status").read_text()
        now = int(status.split("VmData:")[1].split()[0]) * 1024
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (now + mebibytes * MEBIBYTE, hard))


def _lift_memory_limit() -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def _redirect_output(quiet: bool) -> None:
    """Keep standard output for the answer of the command that started us."""
    target = os.open(os.devnull, os.O_WRONLY) if quiet else 2
    os.dup2(target, 1)
    if quiet:
        os.dup2(target, 2)


def _die_with_parent() -> None:
    """End this process when the one that asked for it is gone, even by kill -9."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="die-with-parent").start()


def _kill_group(pid: int) -> None:
    """End a call's process with all that it started; nothing if it has not become the leader of its group yet."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _exit(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"
