"""Conversations packed into windows of one length, several to a window, none of which sees another.

Padded to the longest of their batch, conversations leave a part of it empty, and every batch has another shape. Packed,
hardly a token is lost, and all batches have one shape, which a compiler makes faster code for.
With a mask that ends where a conversation ends, and positions that begin anew, the loss is that of each conversation
alone (Krell et al. 2021, 2107.02027).
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from llmm.training.lora.dataset import Example

POOL = 64  # conversations to choose from for a window
NONE = -1  # the document of padding
ROUND = 64  # a batch has a multiple of so many targets


@dataclass(frozen=True)
class PackedBatch:
    """Windows of several conversations.

    `ids_BT` are the inputs, `documents_BT` says which conversation of its window a token belongs to; `positions` (N,)
    of the flat B·T are those whose next token, in `targets` (N,), counts in the loss, with its weight in `weights`.
    N is filled up to a multiple of 64 with targets of weight 0: products in bfloat16 are compiled for every shape that
    is new.
    """

    ids_BT: Tensor
    documents_BT: Tensor
    positions: Tensor
    targets: Tensor
    weights: Tensor

    @property
    def tokens(self) -> int:
        """Tokens of conversations that go through the model; padding is not among them."""
        return int((self.documents_BT != NONE).sum())

    def to(self, device: torch.device) -> "PackedBatch":
        """The batch on `device`."""
        return PackedBatch(*(getattr(self, field.name).to(device) for field in fields(self)))


def pack(examples: Iterable[Example], seq_len: int) -> Iterator[list[Example]]:
    """Windows of examples that fill at most `seq_len` inputs together, each example once.

    Of a pool of the next examples a window takes the one that has waited longest, then whichever is the longest that
    still fits: so short ones fill the gaps, and none waits for the end. An example of n tokens has n - 1 inputs.
    Raises ValueError where one does not fit into a window of its own.
    """
    coming = iter(examples)
    pool: list[Example] = []  # those that have waited longest come first
    while True:
        while len(pool) < POOL and (example := next(coming, None)) is not None:
            pool.append(example)
        if not pool:
            return
        if len(pool[0].ids) - 1 > seq_len:
            raise ValueError(f"a conversation of {len(pool[0].ids)} tokens does not fit into {seq_len}")
        taken, room = [], seq_len
        for i in [0, *sorted(range(1, len(pool)), key=lambda i: -len(pool[i].ids))]:
            if len(pool[i].ids) - 1 <= room:
                taken.append(i)
                room -= len(pool[i].ids) - 1
        yield [pool[i] for i in taken]
        pool = [example for i, example in enumerate(pool) if i not in taken]


def collate_windows(windows: Sequence[Sequence[Example]], rows: int, seq_len: int, pad: int) -> PackedBatch:
    """One batch of `rows` windows; where there are fewer, the last rows are padding."""
    ids_BT, documents_BT = torch.full((rows, seq_len), pad), torch.full((rows, seq_len), NONE)
    weights_BT, targets_BT = torch.zeros(rows, seq_len), torch.full((rows, seq_len), pad)
    for row, window in enumerate(windows):
        start = 0
        for number, example in enumerate(window):
            end = start + len(example.ids) - 1
            ids_BT[row, start:end] = torch.tensor(example.ids[:-1])
            targets_BT[row, start:end] = torch.tensor(example.ids[1:])
            weights_BT[row, start:end] = torch.tensor(example.weights[1:])
            documents_BT[row, start:end] = number
            start = end
    positions = weights_BT.flatten().nonzero()[:, 0]
    targets, weights = targets_BT.flatten()[positions], weights_BT.flatten()[positions]
    fill = (0, -len(positions) % ROUND)
    positions, targets, weights = F.pad(positions, fill), F.pad(targets, fill, value=pad), F.pad(weights, fill)
    return PackedBatch(ids_BT, documents_BT, positions, targets, weights)


def packed_batches(examples: Sequence[Example], rows: int, seq_len: int, pad: int, seed: int) -> Iterator[PackedBatch]:
    """Batches of `rows` windows without end; each epoch holds every example once, in an order of its own."""
    rng = random.Random(seed)

    def shuffled() -> Iterator[Example]:
        while True:
            yield from rng.sample(examples, len(examples))

    windows = pack(shuffled(), seq_len)
    while True:
        yield collate_windows([next(windows) for _ in range(rows)], rows, seq_len, pad)


def batches_in_order(examples: Iterable[Example], rows: int, seq_len: int, pad: int) -> Iterator[PackedBatch]:
    """Batches that hold every example once."""
    windows: list[list[Example]] = []
    for window in pack(examples, seq_len):
        windows.append(window)
        if len(windows) == rows:
            yield collate_windows(windows, rows, seq_len, pad)
            windows = []
    if windows:
        yield collate_windows(windows, rows, seq_len, pad)
