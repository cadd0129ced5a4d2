"""The optimizers and schedules that train every model of this project."""

from llmm.foundations.optimizers.adamw import AdamW
from llmm.foundations.optimizers.muon import Muon

__all__ = ["AdamW", "Muon"]
