"""Training by one process or by several: the six things that a training loop asks of them, the same in every mode.

    group = processes(recipe.parallel)                   # in each process that torchrun has started, or in the only one
    model = group.shard(build_model(...).to(device))     # before the optimizers, which hold on to its parameters
    optimizers = group.adapt(build_optimizers(model, ...))
    ... loss.backward() on windows.batch(step, group.rank, group.world_size)
    loss = group.average(loss, model)                    # loss and gradients: now those of all windows of the step
    norm = group.clip(model, max_norm)
    group.saver(checkpoints).save(step, model, optimizers, extra)
    score(group.whole(model), ...)                       # to look at the model, or to write it

Three modes. One process: nothing to do. `ddp`: every process holds everything, the gradients are averaged (Li et al.
2020, 2006.15704, section 2.2). `fsdp`: every process holds one part of each parameter, of its gradient and of its
optimizer state, and whole weights exist for as long as a block is at work (Rajbhandari et al. 2019, 1910.02054, stage
3 of section 5; Zhao et al. 2023, 2304.11277). All take the same step, to rounding. Every method is called by all
processes, in the same order. See `sharded_muon` for the optimizer and `sharded_checkpoint` for saving.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grad_norm_, clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from llmm.foundations.optimizers import Muon
from llmm.training.pretraining.checkpoint import Checkpoints, WholeCheckpoints
from llmm.training.pretraining.sharded_checkpoint import ShardedCheckpoints
from llmm.training.pretraining.sharded_muon import ShardedMuon
from llmm.transformers.gpt import GPT

Parallel = Literal["ddp", "fsdp"]


class OneProcess:
    """A process on its own, and what the modes of several have in common."""

    rank = 0
    world_size = 1
    in_step = False  # whether processes exchange messages within a micro-batch

    def __init__(self, parallel: Parallel = "ddp") -> None:
        """`parallel` is what several processes would do: a run may go on with another number of them."""
        self.parallel = parallel

    def shard(self, model: GPT) -> GPT:
        """The model as this process is to hold it: the same object, on its device already."""
        return model

    def adapt(self, optimizers: Sequence[Optimizer]) -> list[Optimizer]:
        """Optimizers, not yet used, that take the step of `optimizers` on what this process holds."""
        return list(optimizers)

    def average(self, loss: Tensor, model: GPT) -> Tensor:
        """The mean loss () over the processes; each gradient becomes, or is already, the mean gradient."""
        return loss

    def clip(self, model: GPT, max_norm: float) -> Tensor:
        """Scale the gradients so that, as one vector, they are no longer than `max_norm`; their norm () before that."""
        return clip_grad_norm_(model.parameters(), max_norm, foreach=True)

    def whole(self, model: GPT) -> GPT:
        """A model with whole weights, in every process, that needs no other process to be called."""
        return model

    def saver(self, checkpoints: Checkpoints) -> WholeCheckpoints | ShardedCheckpoints:
        """What saves and loads the run, in the folder of `checkpoints`: whole, or in parts under `fsdp`."""
        if self.parallel == "fsdp":
            return ShardedCheckpoints(checkpoints.folder)
        return WholeCheckpoints(checkpoints, leads=self.rank == 0)


class DataParallel(OneProcess):
    """A copy of everything in each process, kept equal by equal gradients."""

    def __init__(self, parallel: Parallel = "ddp") -> None:
        super().__init__(parallel)
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()

    def average(self, loss: Tensor, model: GPT) -> Tensor:
        """One message for all, after the last backward pass of the step.

        torch's DistributedDataParallel would send while the backward pass still runs, but it hooks on `forward`,
        which a loss that is compiled as one function never calls, and it sends once for each accumulated part.
        """
        mean = loss.clone()
        _average_in_place([mean, *(p.grad for p in model.parameters() if p.grad is not None)])
        return mean


class FullyShardedDataParallel(DataParallel):
    """FSDP2: rows of each parameter; blocks are made whole one at a time, gradients averaged during the backward."""

    in_step = True

    def shard(self, model: GPT) -> GPT:
        """Each parameter becomes a DTensor of the rows that this process keeps.

        A group of parameters per block; the rest (embeddings, last norm, LM head) is one group, which stays whole
        from `hidden` to the end of the backward pass, since `loss` reads the same weights after `hidden` has returned.
        """
        mesh = init_device_mesh(model.lm_head.weight.device.type, (self.world_size,))
        for block in model.model.layers:
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh, reshard_after_forward=False)
        register_fsdp_forward_method(model, "hidden")  # the loss calls it instead of `forward`
        return model

    def adapt(self, optimizers: Sequence[Optimizer]) -> list[Optimizer]:
        """AdamW is elementwise and moves parts as they are; Muon needs whole matrices."""
        return [ShardedMuon(o.param_groups) if type(o) is Muon else o for o in optimizers]

    def average(self, loss: Tensor, model: GPT) -> Tensor:
        """Of the loss alone: the backward pass has averaged the gradients."""
        mean = loss.clone()
        _average_in_place([mean])
        return mean

    def clip(self, model: GPT, max_norm: float) -> Tensor:
        """The norm is that of all processes' parts together."""
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        norm = get_total_norm(grads, foreach=True)
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        clip_grads_with_norm_(model.parameters(), max_norm, norm, foreach=True)
        return norm

    @torch.no_grad()
    def whole(self, model: GPT) -> GPT:
        """A copy of its own: it costs the memory of the weights and one message for each parameter."""
        like = model.lm_head.weight
        copy = GPT(model.config).to(like.device, like.dtype)
        for mine, theirs in zip(copy.parameters(), model.parameters(), strict=True):
            mine.copy_(theirs.full_tensor())
        return copy.train(model.training)


def processes(parallel: Parallel) -> OneProcess:
    """How this process works with the others of its process group; without one, or alone in it, on its own."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return OneProcess(parallel)
    return FullyShardedDataParallel(parallel) if parallel == "fsdp" else DataParallel(parallel)


def _average_in_place(tensors: list[Tensor]) -> None:
    """Replace each tensor by its mean over all processes, in one message."""
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(mean.view_as(tensor))
