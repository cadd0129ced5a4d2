"""What a language model must beat: file compressors and an interpolated 5-gram, in bits per byte of the same text."""

import gzip
import lzma
from concurrent.futures import ThreadPoolExecutor
from math import log

from llmm.training.pretraining.data import SEPARATOR
from llmm.training.tokenizer.ngram import Ids, witten_bell_nats

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


def _xz_size(data: bytes) -> int:
    return len(lzma.compress(data, format=lzma.FORMAT_XZ, filters=_XZ))
