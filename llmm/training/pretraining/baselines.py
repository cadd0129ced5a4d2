"""What a language model must beat: file compressors and an interpolated 5-gram, in bits per byte of the same text."""

import gzip
import lzma
from concurrent.futures import ThreadPoolExecutor
from math import log

import numpy as np
import numpy.typing as npt

from llmm.training.pretraining.data import SEPARATOR

Ids = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]

# preset 6 looks back 8 MiB; a corpus should fit in the window, as it does in a model's weights
_XZ = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 26}]


def compression_bits_per_byte(eval_text: bytes) -> dict[str, float]:
    """Compressed size of `eval_text` in bits for each of its bytes, by gzip -9 and xz: they see nothing else."""
    sizes = {"gzip": len(gzip.compress(eval_text, 9, mtime=0)), "xz": _xz_size(eval_text)}
    return {name: 8 * size / len(eval_text) for name, size in sizes.items()}


def xz_after_training_bits_per_byte(train_text: bytes, eval_text: bytes) -> float:
    """What `eval_text` adds to the compressed training text, in bits for each of its bytes: xz that may learn, too.

    Takes about 1.2 s of CPU for each MB of training text, twice, on two cores at once.
    """
    with ThreadPoolExecutor(2) as pool:  # lzma releases the interpreter's lock
        train, both = pool.map(_xz_size, (train_text, train_text + eval_text))
    return 8 * (both - train) / len(eval_text)


def ngram_bits_per_byte(train_tokens: Ids, eval_tokens: Ids, eval_bytes: int, vocab_size: int, order: int = 5) -> float:
    """Bits per byte of an interpolated Witten-Bell n-gram over tokens; `eval_bytes` are the UTF-8 bytes of the text.

    The separator of documents is a context like any other, but its own nats are not counted: it is no text.
    """
    nats = witten_bell_nats(train_tokens, eval_tokens, vocab_size, order)
    return float(nats[eval_tokens != SEPARATOR].sum()) / (log(2) * eval_bytes)


def witten_bell_nats(train_tokens: Ids, eval_tokens: Ids, vocab_size: int, order: int = 5) -> Floats:
    """-log p of each evaluated token after the `order` - 1 before it, (len(eval_tokens),).

    With c(h) occurrences of a context h, T(h) different tokens after it and h' the context without its first token

        p(w | h) = (c(h w) + T(h) p(w | h')) / (c(h) + T(h))

    down to the uniform 1 / vocab_size; a context never seen leaves p(w | h') as it is (Witten & Bell 1991, "The
    zero-frequency problem", method C; interpolated as in Chen & Goodman 1998, eq. 14 and 19). Neither text has a
    context before its first token. Takes O(order * n log n) by sorting, no hashing: the counts are exact.
    """
    train_size = len(train_tokens)
    tokens = np.concatenate([train_tokens, eval_tokens]).astype(np.int64)
    heads = (0, train_size)  # where a text starts
    probability = np.full(len(eval_tokens), 1 / vocab_size)
    context = np.zeros(len(tokens), np.int64)  # number of the context of each token; all share the empty one
    complete = np.ones(len(tokens), bool)  # whether it has that many tokens before it
    for length in range(order):
        keys, grams = np.unique(context * vocab_size + tokens, return_inverse=True)
        trained = np.flatnonzero(complete[:train_size])
        count = np.bincount(context[trained], minlength=int(context.max()) + 1)
        gram_count = np.bincount(grams[trained], minlength=len(keys))
        kinds = np.bincount(keys[gram_count > 0] // vocab_size, minlength=len(count))
        after, here = context[train_size:], complete[train_size:]
        seen = here & (count[after] > 0)
        history, joint = after[seen], grams[train_size:][seen]
        probability[seen] = (gram_count[joint] + kinds[history] * probability[seen]) / (count[history] + kinds[history])
        # the next context is this n-gram, numbered without gaps so that its product with the vocabulary fits 64 bits
        context = np.concatenate([[0], grams[:-1]])
        complete = np.concatenate([[False], complete[:-1]])
        for head in heads:
            complete[head : head + length + 1] = False
    return -np.log(probability)


def _xz_size(data: bytes) -> int:
    return len(lzma.compress(data, format=lzma.FORMAT_XZ, filters=_XZ))
