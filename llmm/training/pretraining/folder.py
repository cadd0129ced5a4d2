"""The pretrained model on disk: weights, sizes and tokenizer in one folder that `transformers` opens."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer

from llmm import lineage
from llmm.errors import UserError
from llmm.lineage import Artifact
from llmm.training.tokenizer.folder import load_text_tokenizer
from llmm.transformers.gpt import GPT, load_gpt, save_gpt


@dataclass(frozen=True)
class PretrainedModel:
    """A model with the tokenizer that it was trained with; `artifact.short` says which weights these are."""

    gpt: GPT
    tokenizer: Tokenizer
    artifact: Artifact


def write_model(model: GPT, tokenizer_folder: Path, folder: Path) -> None:
    """Write the weights and a copy of the tokenizer's files into `folder`."""
    save_gpt(model, folder)
    for file in sorted(tokenizer_folder.iterdir()):
        if file.name != lineage.LINEAGE_FILE:
            shutil.copyfile(file, folder / file.name)


def load_model(folder: Path, device: str | torch.device = "cpu") -> PretrainedModel:
    """Open the folder that the stage `pretrain` wrote.

    Raises UserError where it is damaged, or where tokenizer and weights do not fit each other.
    """
    artifact = lineage.open_artifact(folder, "model")
    gpt, tokenizer = load_gpt(folder, device), load_text_tokenizer(folder)
    if tokenizer.get_vocab_size() != gpt.config.vocab_size:
        raise UserError(
            f"{folder}: the tokenizer has {tokenizer.get_vocab_size()} tokens, the weights {gpt.config.vocab_size}: "
            f"they do not belong together; delete {folder} and run `dvc repro`"
        )
    return PretrainedModel(gpt, tokenizer, artifact)
