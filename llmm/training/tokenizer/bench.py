"""How fast the tokenizer trains and encodes, beside `tiktoken` with the same merges."""

import statistics
import time
from collections.abc import Callable
from typing import Any

from llmm import paths
from llmm.corpus import load_documents
from llmm.errors import UserError
from llmm.params import load_params
from llmm.training.tokenizer.bpe import WORDS, train_tokenizer
from llmm.training.tokenizer.folder import load_text_tokenizer

REPEATS = 3
MEGABYTES = 4  # of the training split are encoded


def bench_encoding() -> dict[str, Any]:
    """MB/s of training (all of the training split) and of encoding (a part of it, one thread, document by document).

    Raises UserError where tiktoken is not installed, or the two give other ids for some document.
    """
    try:
        import tiktoken
    except ImportError:
        raise UserError("tiktoken is not installed: `make install` brings it") from None
    texts = [document.text for document in load_documents(paths.CORPUS, "train")]
    size = sum(len(text.encode()) for text in texts)
    started = time.perf_counter()
    train_tokenizer(texts, load_params().tokenizer.vocab_size)
    training_seconds = time.perf_counter() - started

    ours = load_text_tokenizer(paths.TOKENIZER)
    special = {token.content: i for i, token in ours.get_added_tokens_decoder().items()}
    byte_of = _byte_alphabet()
    ranks = {
        bytes(byte_of[c] for c in token): i for token, i in ours.get_vocab(with_added_tokens=True).items()
        if token not in special
    }  # fmt: skip
    theirs = tiktoken.Encoding("llmm", pat_str=WORDS, mergeable_ranks=ranks, special_tokens=special)

    part, bytes_left = [], MEGABYTES * 1_000_000
    for text in texts:
        if bytes_left <= 0:
            break
        part.append(text)
        bytes_left -= len(text.encode())
    megabytes = sum(len(text.encode()) for text in part) / 1e6
    our_seconds, our_ids = _timed(lambda: [ours.encode(text).ids for text in part])
    their_seconds, their_ids = _timed(lambda: [theirs.encode_ordinary(text) for text in part])
    differing = sum(a != b for a, b in zip(our_ids, their_ids, strict=True))
    return {
        "training_mb_per_second": round(size / 1e6 / training_seconds, 2),
        "encoding_mb_per_second": round(megabytes / our_seconds, 2),
        "tiktoken_mb_per_second": round(megabytes / their_seconds, 2),
        "ratio_to_tiktoken": round(their_seconds / our_seconds, 3),
        "documents_with_other_ids": differing,
        "documents": len(part),
    }


def render(result: dict[str, Any]) -> None:
    """Print the result."""
    print(f"training  {result['training_mb_per_second']:6.2f} MB/s  (tokenizers)")
    print(f"encoding  {result['encoding_mb_per_second']:6.2f} MB/s  (tokenizers, one document at a time)")
    print(f"encoding  {result['tiktoken_mb_per_second']:6.2f} MB/s  (tiktoken, the same merges)")
    print(
        f"{result['ratio_to_tiktoken']:.2f} times tiktoken's speed; "
        f"{result['documents_with_other_ids']} of {result['documents']} documents with other ids"
    )


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds), result


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's spelling of bytes as printable characters: {character: byte}."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + i): byte for i, byte in enumerate(others)}
