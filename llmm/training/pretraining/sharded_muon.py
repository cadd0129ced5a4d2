"""Muon on matrices of which each process holds some rows.

Momentum and weight decay are elementwise and need rows only; the orthogonal factor needs the whole matrix. So every
matrix has one process that makes it whole, orthogonalises it and hands the rows back: two messages a step, whatever the
number of matrices, and each process does its share of the products. Liu et al. 2025 (2502.16982), algorithm 1, gathers
likewise; there every process orthogonalises all that it gathers.
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard

from llmm.foundations.optimizers import Muon
from llmm.foundations.optimizers.muon import Norm, orthogonalise_by_shape


class ShardedMuon(Muon):
    """The step of `Muon`, for parameters that are DTensors (m, n) sharded by rows over one group of processes.

    Its state, too, is sharded by rows.
    """

    def __init__(self, params: Iterable[Any], **options: Any) -> None:
        """Parameters or groups, and options, as `Muon` takes them. Raises ValueError where one is not sharded."""
        super().__init__([dict(p) if isinstance(p, dict) else p for p in params], **options)
        for group in self.param_groups:
            for p in group["params"]:
                if not isinstance(p, DTensor) or p.placements != (Shard(0),):
                    raise ValueError("ShardedMuon moves DTensors sharded by rows; Muon moves whole matrices")

    def held(self, tensors: list[Any]) -> list[Tensor]:
        """The rows of each tensor that lie in this process."""
        return [tensor.to_local() for tensor in tensors]

    def over_processes(self, sums: Tensor) -> Tensor:
        """One message a step, of two numbers a matrix; all processes call it together."""
        process_group = self.param_groups[0]["params"][0].device_mesh.get_group()
        dist.all_reduce(sums, group=process_group)
        return sums

    def orthogonalised(self, directions: list[Tensor], params: list[Any], group: dict[str, Any]) -> list[Tensor]:
        """This process' rows of the orthogonal matrices; all processes call it together."""
        shapes = [(p.shape[0], p.shape[1]) for p in params]
        process_group = params[0].device_mesh.get_group()
        rows = [direction.to(group["dtype"]) for direction in directions]  # bfloat16 halves the messages too
        orthogonal = orthogonalise_sharded(rows, shapes, process_group, group["steps"], group["norm"])
        return [piece.to(direction.dtype) for piece, direction in zip(orthogonal, directions, strict=True)]


def orthogonalise_sharded(
    rows: list[Tensor],
    shapes: list[tuple[int, int]],
    process_group: dist.ProcessGroup | None,
    steps: int,
    norm: Norm,
) -> list[Tensor]:
    """Of whole matrices of `shapes`, this process holds `rows`; returns the same rows of their `orthogonalise`."""
    rank, world_size = dist.get_rank(process_group), dist.get_world_size(process_group)
    dealt = deal(shapes, world_size)
    mine = dealt[rank]
    outgoing = [[rows[i] for i in theirs] for theirs in dealt]
    incoming = [[(rows_of(shapes[i][0], world_size)[peer], shapes[i][1]) for i in mine] for peer in range(world_size)]
    pieces = _exchange(outgoing, incoming, rows[0], process_group)

    wholes = [torch.cat([pieces[peer][k] for peer in range(world_size)]) for k in range(len(mine))]
    wholes = orthogonalise_by_shape(wholes, steps, norm, rows[0].dtype)

    split = [whole.split(rows_of(len(whole), world_size)) for whole in wholes]
    returned = _exchange(
        [[split[k][peer] for k in range(len(mine))] for peer in range(world_size)],
        [[(rows[i].shape[0], rows[i].shape[1]) for i in theirs] for theirs in dealt],
        rows[0],
        process_group,
    )
    back = {i: piece for theirs, from_peer in zip(dealt, returned, strict=True)
            for i, piece in zip(theirs, from_peer, strict=True)}  # fmt: skip
    return [back[i] for i in range(len(rows))]


def deal(shapes: list[tuple[int, int]], world_size: int) -> list[list[int]]:
    """For each process, the numbers of the matrices that it orthogonalises: dealt in turn, the largest first."""
    order = sorted(range(len(shapes)), key=lambda i: (-shapes[i][0] * shapes[i][1], shapes[i], i))
    return [sorted(order[rank::world_size]) for rank in range(world_size)]


def rows_of(m: int, world_size: int) -> list[int]:
    """How many of `m` rows each process holds: ⌈m / world_size⌉ for as long as there are some, as `torch.chunk`."""
    most = -(-m // world_size)
    return [min(most, max(0, m - rank * most)) for rank in range(world_size)]


def _exchange(
    outgoing: list[list[Tensor]],
    incoming: list[list[tuple[int, int]]],
    like: Tensor,
    process_group: dist.ProcessGroup | None,
) -> list[list[Tensor]]:
    """Send `outgoing[peer]` to each process; returns what each has sent here, of the shapes `incoming[peer]`.

    All have the dtype and device of `like`, which is there even where a process has nothing to send.
    """
    sent = torch.cat([like.new_empty(0), *(tensor.flatten() for tensors in outgoing for tensor in tensors)])
    sent_sizes = [sum(tensor.numel() for tensor in tensors) for tensors in outgoing]
    sizes = [[m * n for m, n in shapes] for shapes in incoming]
    received = like.new_empty(sum(map(sum, sizes)))
    dist.all_to_all_single(received, sent, [sum(s) for s in sizes], sent_sizes, group=process_group)
    return [
        [flat.view(shape) for flat, shape in zip(part.split(size), shapes, strict=True)]
        for part, size, shapes in zip(received.split([sum(s) for s in sizes]), sizes, incoming, strict=True)
    ]
