"""How well a model predicts text, in a unit that does not depend on its tokenizer.

bits per byte = (sum over tokens of -ln p(token)) / (ln 2 · bytes of raw text), scored over a whole split. Special
tokens are not text: they are read, but their own nats are not counted.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from llmm.transformers.gpt import GPT


@dataclass(frozen=True)
class Score:
    """Nats and bytes of each document of a split, and what follows from their sums."""

    nats: np.ndarray  # (documents,)
    bytes: np.ndarray  # (documents,)
    tokens: int  # that were scored

    @property
    def bits_per_byte(self) -> float:
        """Of the whole split."""
        return float(self.nats.sum() / math.log(2) / self.bytes.sum())

    @property
    def nats_per_token(self) -> float:
        """Mean cross-entropy; its exponential is the perplexity."""
        return float(self.nats.sum() / self.tokens)

    def interval(self, samples: int, seed: int) -> tuple[float, float]:
        """95% bootstrap interval of bits per byte, resampling documents."""
        rng = np.random.default_rng(seed)
        drawn = rng.integers(len(self.nats), size=(samples, len(self.nats)))
        ratios = self.nats[drawn].sum(1) / math.log(2) / self.bytes[drawn].sum(1)
        low, high = np.quantile(ratios, [0.025, 0.975])
        return float(low), float(high)


def token_bytes(tokenizer: Tokenizer) -> np.ndarray:
    """Bytes of raw text that each id stands for, (V,); 0 for special tokens."""
    special = set(tokenizer.get_added_tokens_decoder())
    # the byte-level alphabet spells each byte as one character
    return np.array(
        [0 if i in special else len(tokenizer.id_to_token(i) or "") for i in range(tokenizer.get_vocab_size())]
    )


@torch.inference_mode()
def score(
    model: GPT,
    tokens: np.ndarray,
    document_starts: np.ndarray,
    bytes_of_token: np.ndarray,
    seq_len: int,
    stride: int | None = None,
    batch_size: int = 8,
    autocast: torch.dtype | None = None,
    advance: Callable[[int], None] = lambda scored: None,
) -> Score:
    """Score every token of a split in windows of `seq_len`.

    Windows lie side by side, so a token is predicted from 1 to seq_len tokens before it. With a `stride` below
    seq_len they overlap, and each but the first scores only its last `stride` tokens, each then from more than
    seq_len - stride tokens, which gives a lower figure (the "sliding window"). Deterministic. `advance` is told how
    many tokens have been scored.
    """
    stride = stride or seq_len
    device = model.model.embed_tokens.weight.device
    # the window that ends at `end` predicts tokens[end - stride : end] (the first one predicts all of its own)
    ends = np.arange(min(seq_len, len(tokens) - 1), len(tokens) - 1 + stride, stride)
    nats = np.zeros(len(tokens))
    done = 1  # the first token has nothing before it; it is the separator of the first document
    for i in range(0, len(ends), batch_size):
        group = np.minimum(ends[i : i + batch_size], len(tokens) - 1)
        starts = np.maximum(group - seq_len, 0)
        rows = np.stack([tokens[s : s + min(seq_len, len(tokens) - 1) + 1] for s in starts]).astype(np.int64)
        ids = torch.from_numpy(rows).to(device)
        with torch.autocast(device.type, autocast or torch.bfloat16, enabled=autocast is not None):
            logits = model(ids[:, :-1])
        losses = F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        for start, end, row in zip(starts, group, losses.view(len(rows), -1).double().cpu().numpy(), strict=True):
            new = end + 1 - done
            nats[done : end + 1] = row[done - start - 1 : end - start]
            done += new
        advance(int(done))

    is_text = bytes_of_token[tokens] > 0
    document = np.searchsorted(document_starts[:-1], np.arange(len(tokens)), side="right") - 1
    documents = len(document_starts) - 1
    return Score(
        nats=np.bincount(document, weights=nats * is_text, minlength=documents),
        bytes=np.bincount(document, weights=bytes_of_token[tokens], minlength=documents).astype(np.int64),
        tokens=int(is_text.sum()),
    )
