"""Checkpoints of a run in progress: written whole or not at all, found again only by the run that they belong to."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from llmm.files import atomic_path, sha256_of
from llmm.paths import WORK


def work_folder() -> Path:
    """The project's folder for work in progress, absolute.

    `dvc exp run --temp` runs in a copy below `.dvc/tmp/exps`; its work lies with the project's own, so that the same
    run, started again anywhere, finds it.
    """
    here = Path.cwd()
    for parent in here.parents:
        if parent.name == "exps" and parent.parent.name == "tmp" and parent.parent.parent.name == ".dvc":
            here = parent.parent.parent.parent
    return here / WORK


class Checkpoints:
    """The newest checkpoint of one run, in a folder named after everything that decides the run's outcome."""

    def __init__(self, stage: str, identity: dict[str, Any]) -> None:
        """`identity`: parameters and hashes of inputs and code. Another identity is another run, in another folder."""
        self.stage = work_folder() / stage
        self.folder = self.stage / sha256_of(json.dumps(identity, sort_keys=True, default=str))[:16]
        self.file = self.folder / "checkpoint.pt"

    def save(self, state: dict[str, Any]) -> None:
        """Replace the newest checkpoint by `state` (tensors, numbers, strings and containers of them)."""
        with atomic_path(self.file) as temporary:
            torch.save(state, temporary)

    def load(self) -> dict[str, Any] | None:
        """The newest checkpoint, or None where the run has none."""
        if not self.file.exists():
            return None
        return torch.load(self.file, map_location="cpu", weights_only=True)

    def remove(self) -> None:
        """The run has succeeded: forget what it left on the way."""
        shutil.rmtree(self.folder, ignore_errors=True)


class WholeCheckpoints:
    """A run's checkpoints in one file: written by the process that `leads`, read by every one."""

    def __init__(self, checkpoints: Checkpoints, leads: bool) -> None:
        self.checkpoints, self.leads = checkpoints, leads

    def save(self, step: int, model: nn.Module, optimizers: Sequence[Optimizer], extra: Any) -> None:
        """Make this the newest checkpoint; `extra` is whatever else the run has to remember."""
        if self.leads:
            states = [optimizer.state_dict() for optimizer in optimizers]
            self.checkpoints.save({"step": step, "model": model.state_dict(), "optimizers": states, "extra": extra})

    def load(self, model: nn.Module, optimizers: Sequence[Optimizer]) -> tuple[int, Any] | None:
        """Put the newest checkpoint into model and optimizers; its step and `extra`. None where there is none."""
        state = self.checkpoints.load()
        if state is None:
            return None
        model.load_state_dict(state["model"], strict=True)
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        return state["step"], state["extra"]
