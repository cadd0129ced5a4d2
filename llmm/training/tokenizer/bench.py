"""How fast the tokenizer trains and encodes, beside `tokenizers` and tiktoken in one run, and how both grow.

Runs take turns, so that whatever else the machine does falls on all alike; each figure is the median of its runs.
"""

import contextlib
import random
import statistics
import threading
import time
import tracemalloc
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import psutil

from llmm import paths
from llmm.corpus import load_documents
from llmm.errors import UserError
from llmm.params import load_params
from llmm.training.tokenizer.bpe import train_codec
from llmm.training.tokenizer.codec import ByteLevelBPE
from llmm.training.tokenizer.counting import count_words_in_processes, processes_for
from llmm.training.tokenizer.export import to_tokenizers
from llmm.training.tokenizer.peers import one_thread, to_tiktoken, train_by_tokenizers
from llmm.training.tokenizer.special import SPECIAL_TOKENS
from llmm.training.tokenizer.words import count_words

REPEATS = 3
MEGABYTES = 4  # of the training split are encoded
LONG_WORD = 100_000  # bytes


def bench_tokenizer() -> dict[str, Any]:
    """Training on the training split, encoding a part of it document by document in one thread, and how both grow.

    Training counts words in `counting_processes` processes; `tokenizers` uses every core where nothing else is said.

    Raises UserError where tiktoken is not installed, or one of them gives other merges or ids than ours.
    """
    texts = [document.text for document in load_documents(paths.CORPUS, "train")]
    vocab_size = load_params().tokenizer.vocab_size
    training, trained = in_turns(
        {
            "ours": lambda: to_tokenizers(train_codec(texts, vocab_size)),
            "tokenizers": lambda: train_by_tokenizers(texts, vocab_size, SPECIAL_TOKENS),
            "tokenizers, one thread": lambda: _alone(lambda: train_by_tokenizers(texts, vocab_size, SPECIAL_TOKENS)),
        }
    )
    if trained["ours"].to_str() != trained["tokenizers"].to_str():
        raise UserError("`tokenizers` makes another tokenizer of the same text than ours")
    codec = train_codec(texts, vocab_size)
    part = first_bytes(texts, MEGABYTES * 1_000_000)
    encoding = _bench_encoding(codec, part)
    return {
        "text_mb": round(size_of(texts) / 1e6, 2),
        "vocab_size": vocab_size,
        "counting_processes": processes_for(texts),
        "training_seconds": {name: round(seconds, 3) for name, seconds in training.items()},
        "training_ratio": round(training["ours"] / training["tokenizers"], 3),
        "training_ratio_one_thread": round(training["ours"] / training["tokenizers, one thread"], 3),
        "training_growth": round(training_growth(texts, vocab_size), 3),
        "training_memory_ratio": round(training_memory(texts, vocab_size) / size_of(texts), 3),
        "encoding_mb_per_second": {name: round(size_of(part) / 1e6 / spent, 2) for name, spent in encoding.items()},
        "encoding_ratio": round(encoding["ours"] / encoding["tokenizers"], 3),
        "encoding_ratio_batch": round(encoding["ours"] / encoding["tokenizers, batch"], 3),
        "encoding_ratio_tiktoken": round(encoding["ours"] / encoding["tiktoken"], 3),
        "long_word_growth": round(long_word_growth(codec), 3),
    }


def render(result: Mapping[str, Any]) -> None:
    """Print the result."""
    print(f"training {result['vocab_size']:,} tokens on {result['text_mb']} MB, and encoding; the same merges and ids")
    for name, seconds in result["training_seconds"].items():
        print(f"training  {result['text_mb'] / seconds:6.2f} MB/s  {name}")
    for name, speed in result["encoding_mb_per_second"].items():
        print(f"encoding  {speed:6.2f} MB/s  {name}")
    print(
        f"training, words counted in {result['counting_processes']} processes, takes {result['training_ratio']:.2f} of "
        f"the time of `tokenizers` ({result['training_ratio_one_thread']:.2f} of that in one thread) and memory of "
        f"{result['training_memory_ratio']:.2f} times the text; twice the text takes {result['training_growth']:.2f} "
        "times as long"
    )
    print(
        f"encoding takes {result['encoding_ratio']:.2f} of the time of `tokenizers` "
        f"({result['encoding_ratio_batch']:.2f} of its batches in one thread), {result['encoding_ratio_tiktoken']:.2f} "
        f"of tiktoken's; a word of {2 * LONG_WORD:,} bytes takes {result['long_word_growth']:.2f} times as long as one "
        f"of {LONG_WORD:,}"
    )


def training_growth(texts: list[str], vocab_size: int) -> float:
    """t(2n) / t(n): seconds of training on all of the text over those on its first half."""
    half = first_bytes(texts, size_of(texts) // 2)
    seconds, _ = in_turns(
        {"all": lambda: train_codec(texts, vocab_size), "half": lambda: train_codec(half, vocab_size)}
    )
    return seconds["all"] / seconds["half"]


def training_memory(texts: list[str], vocab_size: int) -> int:
    """Bytes that training takes at its peak, the texts themselves not counted.

    While other processes help to count, theirs and no less than this one holds then: the counts of all of the text.
    """
    counting = _traced(lambda: count_words(texts)) + helpers_memory(lambda: count_words_in_processes(texts))
    return max(counting, _traced(lambda: train_codec(texts, vocab_size)))


def long_word_growth(codec: ByteLevelBPE) -> float:
    """t(2n) / t(n) of encoding one word of n = 100,000 letters, drawn evenly."""
    words = {n: "".join(random.Random(0).choices("etaoinshrdlu", k=n)).encode() for n in (LONG_WORD, 2 * LONG_WORD)}
    seconds, _ = in_turns({str(n): partial(codec.encode_bytes, word) for n, word in words.items()})
    return seconds[str(2 * LONG_WORD)] / seconds[str(LONG_WORD)]


def in_turns(work: Mapping[str, Callable[[], Any]], repeats: int = REPEATS) -> tuple[dict[str, float], dict[str, Any]]:
    """Median seconds and last result of each, run one after the other in `repeats` rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    results = {}
    for _ in range(repeats):
        for name, run in work.items():
            started = time.perf_counter()
            results[name] = run()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(spent) for name, spent in seconds.items()}, results


def size_of(texts: list[str]) -> int:
    """Bytes of the texts."""
    return sum(len(text.encode()) for text in texts)


def first_bytes(texts: list[str], n_bytes: int) -> list[str]:
    """The first texts that are, together, at least `n_bytes` long."""
    part: list[str] = []
    for text in texts:
        if n_bytes <= 0:
            break
        part.append(text)
        n_bytes -= len(text.encode())
    return part


def _bench_encoding(codec: ByteLevelBPE, texts: list[str]) -> dict[str, float]:
    """Seconds of encoding the texts. Raises UserError where somebody gives other ids."""
    library, theirs = to_tokenizers(codec), to_tiktoken(codec)
    library.encode_special_tokens = True

    def ours() -> list[list[int]]:
        fresh = ByteLevelBPE(codec.merges, codec.special)  # its cache is empty
        return [fresh.encode(text) for text in texts]

    seconds, ids = in_turns(
        {
            "ours": ours,
            "tokenizers": lambda: [library.encode(text).ids for text in texts],
            "tokenizers, batch": lambda: _alone(lambda: [e.ids for e in library.encode_batch_fast(texts)]),
            "tiktoken": lambda: [theirs.encode_ordinary(text) for text in texts],
        }
    )
    if differing := [name for name, found in ids.items() if found != ids["ours"]]:
        raise UserError(f"{differing[0]} gives other ids than ours")
    return seconds


def _alone(work: Callable[[], Any]) -> Any:
    with one_thread():
        return work()


def _traced(work: Callable[[], Any]) -> int:
    """Bytes of objects at the peak of `work` in this process."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def helpers_memory(work: Callable[[], Any]) -> int:
    """Bytes that the processes started by `work` take at their peak together, interpreters included and pages that
    they share with others not: looked at every few milliseconds."""
    me, done, highest = psutil.Process(), threading.Event(), 0

    def look() -> None:
        nonlocal highest
        while not done.wait(0.003):
            together = 0
            for helper in me.children():
                with contextlib.suppress(psutil.Error):  # it has ended meanwhile
                    together += helper.memory_full_info().uss
            highest = max(highest, together)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return highest
