"""The GPT that the pipeline trains, serves and tunes."""

from llmm.transformers.gpt.checkpoint import load_gpt, save_gpt
from llmm.transformers.gpt.config import GPTConfig
from llmm.transformers.gpt.model import GPT

__all__ = ["GPT", "GPTConfig", "load_gpt", "save_gpt"]
