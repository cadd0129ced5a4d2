"""What every process that DVC starts has in common: refuse a second run, die with dvc, one line for a user's fault."""

import contextlib
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from llmm.allocator import keep_freed_memory
from llmm.errors import UserError
from llmm.files import write_json
from llmm.paths import WORK

Facts = dict[str, Any]


def run_as_stage(name: str, body: Callable[[], Facts | None], timings: Path | None = None) -> None:
    """Run `body` as the process of the DVC stage `name` and leave the process where it fails.

    Exit code 0 for success, 1 with one line on standard error for a UserError, 130 for an interrupt. Wall time, peak
    memory and the timing facts that `body` returns go to `timings`, apart from the metrics, which must come out the
    same from run to run.
    """
    # dvc and `make` end a run with SIGTERM: let `finally` blocks run, as they do for Ctrl-C
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    follow_dvc_into_death()
    keep_freed_memory()
    started = time.perf_counter()
    try:
        with only_one(name):
            facts = body() or {}
            timing = {"seconds": round(time.perf_counter() - started, 1), "peak_memory_mib": peak_memory_mib(), **facts}
            if timings is not None:
                write_json(timings, timing)
    except UserError as error:
        if os.environ.get("LLMM_DEBUG"):
            traceback.print_exc()
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(f"{name}: interrupted; run the same command again to go on", file=sys.stderr)
        sys.exit(130)


def peak_memory_mib() -> int:
    """Peak resident memory of this process and its finished children, in MiB."""
    unit = 1024 if sys.platform == "darwin" else 1  # ru_maxrss counts bytes on macOS and KiB on Linux
    peaks = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return round(max(peaks) / unit / 1024)


@contextlib.contextmanager
def only_one(name: str) -> Iterator[None]:
    """Hold the lock of stage `name` in this working tree. Raises UserError where another process holds it."""
    import filelock

    WORK.mkdir(exist_ok=True)
    lock = filelock.FileLock(WORK / f"{name}.lock", blocking=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise UserError(f"another process is running the stage {name} in this folder: wait for it or stop it") from None
    try:
        yield
    finally:
        lock.release()


def follow_dvc_into_death() -> None:
    """End this process when the dvc (or torchrun) that started it dies, so that no trainer is left running alone.

    SIGTERM to dvc reaches dvc only. So a thread looks once a second whether the ancestors up to dvc are still there,
    and sends SIGTERM to this process when one is not.
    """
    import psutil

    ancestors = psutil.Process().parents()
    names = [_command(ancestor) for ancestor in ancestors]
    if "dvc" not in names:
        return
    chain = ancestors[: names.index("dvc") + 1]

    def watch() -> None:
        while all(map(_is_alive, chain)):
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
        os._exit(143)

    threading.Thread(target=watch, daemon=True, name="follow-dvc").start()


def _is_alive(process: Any) -> bool:
    """Whether the process runs: one that nobody has waited for still has its number after its end."""
    import psutil

    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _command(process: Any) -> str:
    """ "dvc" for a process that runs dvc, whichever way it was started, else ""."""
    import psutil

    try:
        words = process.cmdline()[:4]
    except psutil.Error:
        return ""
    return "dvc" if any(Path(word).name in ("dvc", "dvc.exe") for word in words) else ""
