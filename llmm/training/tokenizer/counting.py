"""Counting the words of a large text in several processes: the same counts in the same order (README 2.6).

The text is cut between words, each process counts a share, and the counts are added in the order of the text. The
other processes are new interpreters that run this module: they read pieces of text from one file and write their counts
to another. Nothing is forked, so threads of the caller do no harm; the caller's main module is not imported again, as
`multiprocessing` would, so a script needs no guard; and every platform does the same.
"""

import os
import pickle
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from llmm.cores import usable_cores
from llmm.training.tokenizer.words import count_words, pieces

SHARE = 2_000_000  # characters, the least for a process: they take twice as long to count as the process to start


def count_words_in_processes(texts: Iterable[str], processes: int | None = None) -> Counter[str]:
    """What `count_words` returns, its order too, counted by so many processes, this one among them.

    `processes_for(texts)` where no number is given. All texts are held meanwhile. Where the others fail, this one
    counts all.
    """
    texts = list(texts)
    if processes is None:
        processes = processes_for(texts)
    if processes > 1:
        try:
            return _count(texts, processes)
        except (OSError, subprocess.SubprocessError):
            pass  # no room for files or processes, or one of them was killed
    return count_words(texts)


def processes_for(texts: Sequence[str]) -> int:
    """How many processes count these texts: one for each core, and at least `SHARE` characters for each of them."""
    return max(1, min(usable_cores(), sum(map(len, texts)) // SHARE))


def _count(texts: Sequence[str], processes: int) -> Counter[str]:
    share = sum(map(len, texts)) // processes
    parts = (piece for text in texts for piece in pieces(text))
    counts: Counter[str] = Counter()
    with ExitStack() as stack:
        others = [stack.enter_context(_worker(parts, share)) for _ in range(processes - 1)]
        own = count_words(parts)  # the last share
        for answer in others:
            counts.update(answer())
        counts.update(own)
    return counts


@contextmanager
def _worker(parts: Iterator[str], share: int) -> Iterator[Callable[[], dict[str, int]]]:
    """A process that counts the next `share` characters of `parts`; yields what waits for its counts.

    Raises OSError or CalledProcessError where it does not start, or ends without an answer.
    """
    # files, since a pipe is full after 64 KiB and then one side waits for the other
    with tempfile.TemporaryFile() as task, tempfile.TemporaryFile() as answer:
        while share > 0 and (part := next(parts, "")):
            pickle.dump(part, task)
            share -= len(part)
        task.seek(0)
        path = os.pathsep.join(folder or os.curdir for folder in sys.path)  # modules are found where they are here
        command = [sys.executable, "-m", __name__]
        environment = {**os.environ, "PYTHONPATH": path}
        with subprocess.Popen(
            command, stdin=task, stdout=answer, stderr=subprocess.DEVNULL, env=environment
        ) as process:

            def counts() -> dict[str, int]:
                if process.wait():
                    raise subprocess.CalledProcessError(process.returncode, command)
                answer.seek(0)
                found: dict[str, int] = pickle.load(answer)
                return found

            try:
                yield counts
            finally:
                process.kill()


def _read(stream: Iterable[bytes]) -> Iterator[str]:
    """The texts of a task."""
    while True:
        try:
            yield pickle.load(stream)  # type: ignore[arg-type]
        except EOFError:
            return


if __name__ == "__main__":
    pickle.dump(dict(count_words(_read(sys.stdin.buffer))), sys.stdout.buffer)
