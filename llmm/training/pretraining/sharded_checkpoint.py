"""Checkpoints that any number of processes writes and any other number reads.

Each process writes what it holds, and torch.distributed.checkpoint notes which part of which tensor lies in which file;
a reader takes the parts that it needs, so a checkpoint has no number of processes and no mode. A folder gets its name,
`step-N`, only when it is complete: a writer killed in between leaves the one before it as the newest.
"""

import contextlib
import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.optim import Optimizer

from llmm.files import atomic_folder, full_disk_is_a_user_error, read_json, write_json
from llmm.transformers.gpt import GPT

EXTRA = "extra.json"


class ShardedCheckpoints:
    """The newest checkpoint of one run, in a folder that all processes see."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def newest(self) -> Path | None:
        """The folder of the newest complete checkpoint, or None."""
        return max(self.folder.glob("step-*"), default=None, key=lambda folder: folder.name)

    def save(self, step: int, model: GPT, optimizers: Sequence[Optimizer], extra: Any) -> None:
        """Make this the newest checkpoint. Called by all processes; `extra` (JSON values) is rank 0's.

        Raises UserError where the disk has no room.
        """
        leads = not dist.is_initialized() or dist.get_rank() == 0
        target = self.folder / f"step-{step:08d}"
        with atomic_folder(target) if leads else full_disk_is_a_user_error(target) as temporary:
            with _quiet_alone(), _errors_of_processes():
                dcp.save(_tensors(model, optimizers), checkpoint_id=_from_rank_0(temporary))
            if temporary is not None:
                write_json(temporary / EXTRA, {"step": step, "extra": extra})
        if leads:
            for other in self.folder.glob("*step-*"):  # older ones, and what a killed writer has left
                if other != target:
                    shutil.rmtree(other, ignore_errors=True)

    def load(self, model: GPT, optimizers: Sequence[Optimizer]) -> tuple[int, Any] | None:
        """Put the newest checkpoint into `model` and fresh `optimizers`; its step and `extra`. None if there is none.

        Called by all processes, with a model and optimizers of the saved shapes, sharded in whatever way.
        """
        folder = _from_rank_0(self.newest())
        if folder is None:
            return None
        state = _tensors(model, optimizers)
        with _quiet_alone():
            dcp.load(state, checkpoint_id=folder)
        set_state_dict(model, optimizers, model_state_dict=state["model"], optim_state_dict=state["optimizers"])
        saved = read_json(folder / EXTRA)
        return saved["step"], saved["extra"]


def _tensors(model: GPT, optimizers: Sequence[Optimizer]) -> dict[str, Any]:
    """Weights and optimizer states, both under the parameters' names."""
    weights, states = get_state_dict(model, optimizers)
    return {"model": weights, "optimizers": states}


@contextlib.contextmanager
def _quiet_alone() -> Iterator[None]:
    """Without torch's warning that there is one process: that is meant."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        yield


@contextlib.contextmanager
def _errors_of_processes() -> Iterator[None]:
    """What a process died of, where torch reports it wrapped: its CheckpointException is not even an Exception."""
    try:
        yield
    except dcp.api.CheckpointException as wrapped:
        for error, _ in wrapped.failures.values():
            raise error from None
        raise


def _from_rank_0(path: Path | None) -> Path | None:
    """What rank 0 has passed, in every process."""
    values = [path]
    if dist.is_initialized():
        dist.broadcast_object_list(values)
    return values[0]
