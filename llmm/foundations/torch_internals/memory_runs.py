"""Blocks run forward and backward, plain or in checkpointed segments: their gradients, and the bytes they hold."""

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from llmm.foundations.torch_internals.block import BlockShape, blocks_of
from llmm.foundations.torch_internals.checkpointing import checkpoint_sequential
from llmm.foundations.torch_internals.meters import StorageLedger


def run_blocks(blocks: Sequence[Callable[[Tensor], Tensor]], segments: int | None, x: Tensor) -> Tensor:
    """The blocks one after another on `x`: plain where `segments` is None, else checkpointed in so many segments."""
    if segments is not None:
        return checkpoint_sequential(blocks, segments, x)
    for block in blocks:
        x = block(x)
    return x


def gradients_of(shape: BlockShape, seed: int, segments: int | None) -> tuple[Tensor, ...]:
    """Gradients of the summed squares by input and parameters; weights, input and dropout are drawn from `seed`."""
    blocks = blocks_of(shape, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        x = torch.randn(shape.B, shape.T, shape.D, requires_grad=True)
        parameters = [x, *itertools.chain.from_iterable(block.parameters() for block in blocks)]
        return torch.autograd.grad(run_blocks(blocks, segments, x).square().sum(), parameters)


def measured_bytes(shape: BlockShape, segments: int | None) -> tuple[int, int]:
    """(alive after forward, most at any time) of what forward and backward of the blocks make.

    The gradients of parameters are there before, so that they do not count; the loss is the sum of the output.
    """
    blocks = blocks_of(shape, seed=0)
    for parameter in itertools.chain.from_iterable(block.parameters() for block in blocks):
        parameter.grad = torch.zeros_like(parameter)
    x = torch.ones(shape.B, shape.T, shape.D, requires_grad=True)
    with StorageLedger() as ledger:
        y = run_blocks(blocks, segments, x)
        live = ledger.live
        y.sum().backward()
    return live, ledger.peak
