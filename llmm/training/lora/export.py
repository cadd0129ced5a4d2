"""The assistant as a folder for `transformers`, opened by it and compared before it is handed over."""

import shutil
from pathlib import Path

import torch

from llmm import lineage, paths
from llmm.errors import UserError
from llmm.files import atomic_folder, write_text
from llmm.training.lora.adapter import load_tuned
from llmm.training.lora.chat_template import CHAT_TEMPLATE
from llmm.training.pretraining.folder import write_model
from llmm.transformers.gpt import load_gpt

TOLERANCE = 1e-4  # of the logits; a wrong weight differs by far more


def export_to_transformers(folder: Path, base: bool = False) -> float:
    """Write the model with the adapter merged in (or the pretrained one, with `base`) into `folder`.

    Returns the largest difference of `transformers`' logits from ours on a few tokens. Raises UserError where the
    folder holds something already, an artifact is missing, or the logits differ.
    """
    folder = folder.absolute()
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty: name a new folder")
    if base:
        lineage.open_artifact(paths.MODEL, "model")
        gpt = load_gpt(paths.MODEL)
    else:
        gpt, _ = load_tuned(paths.ADAPTER, paths.MODEL, paths.TOKENIZER)
    with atomic_folder(folder) as temporary:
        write_model(gpt, paths.TOKENIZER, temporary)
        if not base:
            write_text(temporary / "chat_template.jinja", CHAT_TEMPLATE)
        from transformers import AutoModelForCausalLM

        theirs = AutoModelForCausalLM.from_pretrained(temporary).eval()
        ids = torch.arange(min(64, gpt.config.context_len))[None] % gpt.config.vocab_size
        with torch.inference_mode():
            difference = float((theirs(ids).logits - gpt(ids)).abs().max())
        if not difference <= TOLERANCE:
            shutil.rmtree(temporary)
            raise UserError(f"transformers' logits differ from ours by {difference:.1e}, more than {TOLERANCE:.0e}")
    return difference
