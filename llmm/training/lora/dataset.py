"""Conversations as examples that say what of them the model is to learn, and as padded batches."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llmm.training.lora.chat import ChatCodec, Conversation

POOL = 4  # batches that are sorted by length together


@dataclass(frozen=True)
class Example:
    """Token ids and, for each, what it counts in the loss: nothing where somebody else writes it."""

    ids: list[int]
    weights: list[float]


@dataclass(frozen=True)
class Batch:
    """Inputs (B, T), and the flat positions (N,) of B·T whose next token, in `targets` (N,), counts in the loss."""

    ids_BT: Tensor
    positions: Tensor
    targets: Tensor

    @property
    def tokens(self) -> int:
        """Tokens that go through the model, padding included."""
        return self.ids_BT.numel()


def encode(
    conversations: Sequence[Conversation], codec: ChatCodec, seq_len: int, decision_weight: float = 1.0
) -> list[Example]:
    """Examples of at most `seq_len` tokens, longer conversations left out; weights as in `ChatCodec.example`."""
    examples = (Example(*codec.example(conversation, decision_weight)) for conversation in conversations)
    return [example for example in examples if len(example.ids) <= seq_len]


def collate(examples: Sequence[Example], pad: int) -> Batch:
    """Pad on the right: under causal attention no real token sees the padding, so no mask is needed.

    Whatever has a weight is a target; how large its weight is makes no difference here.
    """
    width = max(len(example.ids) for example in examples) - 1
    ids_BT = torch.full((len(examples), width), pad)
    positions, targets = [], []
    for row, example in enumerate(examples):
        ids_BT[row, : len(example.ids) - 1] = torch.tensor(example.ids[:-1])
        for t in range(1, len(example.ids)):
            if example.weights[t]:
                positions.append(row * width + t - 1)
                targets.append(example.ids[t])
    return Batch(ids_BT, torch.tensor(positions), torch.tensor(targets))


def batches(examples: Sequence[Example], batch_tokens: int, pad: int, seed: int) -> Iterator[Batch]:
    """Batches of about `batch_tokens` tokens without end, in shuffled epochs.

    Lengths differ thirtyfold, so batches of a fixed number of conversations would be mostly padding, or mostly tiny.
    A few batches' worth of shuffled conversations is sorted by length and cut. Sorting more at once pads less, but puts
    the short ones together: sorted by the thousand, all small talk shared one step in a hundred, and was unlearnt in
    the other ninety-nine.
    """
    rng = random.Random(seed)
    while True:
        order = rng.sample(range(len(examples)), len(examples))
        groups = []
        for pool in _pools([(i, len(examples[i].ids)) for i in order], POOL * batch_tokens):
            groups += split_by_tokens(sorted(pool, key=lambda item: item[1]), batch_tokens)
        rng.shuffle(groups)
        for group in groups:
            yield collate([examples[i] for i in group], pad)


def _pools(lengths: Sequence[tuple[int, int]], tokens: int) -> Iterator[list[tuple[int, int]]]:
    """Cut (item, length) pairs as they come into runs of at least `tokens`; the last may be shorter."""
    pool: list[tuple[int, int]] = []
    room = tokens
    for item in lengths:
        pool.append(item)
        room -= item[1]
        if room <= 0:
            yield pool
            pool, room = [], tokens
    if pool:
        yield pool


def split_by_tokens(lengths: Sequence[tuple[int, int]], batch_tokens: int) -> list[list[int]]:
    """Cut (item, length) pairs, sorted by length, into groups that are at most `batch_tokens` when padded."""
    groups: list[list[int]] = [[]]
    for item, length in lengths:
        if groups[-1] and (len(groups[-1]) + 1) * length > batch_tokens:
            groups.append([])
        groups[-1].append(item)
    return groups if groups[0] else []
