"""LoRA on our GPT by peft: attaching it, saving it, loading it into plain weights.

Embeddings are trained too. Pretraining has seen one of the special tokens only, so the others are near-equal vectors
that no low-rank change of the matrices above can tell apart; and the words of a chat ("thanks", "taxi") are so rare in
a technical text that theirs have hardly moved either.
"""

import os
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from llmm.errors import UserError
from llmm.files import read_json, write_json
from llmm.lineage import Artifact, open_artifact
from llmm.training.tokenizer.special import SPECIAL_TOKENS
from llmm.transformers.gpt import GPT, GPTConfig, load_gpt
from llmm.transformers.gpt.families import to_config_json

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class _PeftConfig(GPTConfig):
    """The sizes in the form that peft asks for, above all whether the LM head shares the embedding."""

    def to_dict(self) -> dict[str, Any]:
        return to_config_json(self)


def attach_lora(
    gpt: GPT, rank: int, alpha: float, dropout: float, seed: int, trained_tokens: Literal["all", "special"] = "special"
) -> Any:
    """`gpt` as a peft model with rsLoRA on all linear layers of the blocks and trainable embeddings of tokens.

    rsLoRA scales by alpha / sqrt(rank) (Kalajdzievski 2023, 2312.03732). The weights of `gpt` stay as they are.
    """
    # peft asks the Hub for the base model's page when it writes an adapter's card
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from peft import LoraConfig, get_peft_model

    from llmm.training.lora.summed import sum_where_cheaper

    gpt.config = _PeftConfig(**vars(gpt.config))
    if gpt.config.tie_embeddings:
        # with these two, peft puts the trained tokens into the LM head as well as into the embedding
        gpt._tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}
        object.__setattr__(gpt, "get_input_embeddings", lambda: gpt.model.embed_tokens)
    trained = len(SPECIAL_TOKENS) if trained_tokens == "special" else gpt.config.vocab_size
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        use_rslora=True,
        target_modules=TARGETS,
        trainable_token_indices={"embed_tokens": list(range(trained))},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # peft draws A from the global generator
        model = get_peft_model(gpt, config)
    if dropout == 0:  # which is one of the branch's input
        sum_where_cheaper(model)
    return model


def save_adapter(model: Any, folder: Path) -> None:
    """Write adapter_config.json and adapter_model.safetensors as peft does; the same weights give the same bytes."""
    model.save_pretrained(str(folder))
    (folder / "README.md").unlink(missing_ok=True)
    config = read_json(folder / "adapter_config.json")
    config["target_modules"] = sorted(config["target_modules"])  # peft keeps a set
    config["base_model_name_or_path"] = "../model"
    write_json(folder / "adapter_config.json", dict(sorted(config.items())))


def load_tuned(adapter: Path, model: Path, tokenizer: Path) -> tuple[GPT, Artifact]:
    """The GPT in `model` with the adapter merged into its weights, ready to generate at full speed.

    Raises UserError where the adapter belongs to another model, or the model to another tokenizer.
    """
    base, words, artifact = (
        open_artifact(model, "model"),
        open_artifact(tokenizer, "tokenizer"),
        open_artifact(adapter, "adapter"),
    )
    base.require(words)
    artifact.require(base)
    artifact.require(words)
    gpt = load_gpt(model)
    merge(gpt, adapter)
    return gpt, artifact


@torch.no_grad()
def merge(gpt: GPT, adapter: Path) -> None:
    """Add the adapter in `adapter` to the weights of `gpt`: W + alpha / sqrt(r) · B A, and the trained tokens' rows.

    Needs no peft, whose import takes longer than the rest of a short command. Raises UserError where a tensor of the
    adapter has no place in the model.
    """
    from safetensors.torch import load_file

    config = read_json(adapter / "adapter_config.json")
    scale = config["lora_alpha"] / (config["r"] ** 0.5 if config["use_rslora"] else config["r"])
    left = load_file(adapter / "adapter_model.safetensors")
    for name, module in gpt.named_modules():
        key = f"base_model.model.{name}"
        a, b = left.pop(f"{key}.lora_A.weight", None), left.pop(f"{key}.lora_B.weight", None)
        if a is not None and b is not None:
            _fit(f"{key}.lora", (b.shape[0], a.shape[1]), module.weight)
            module.weight += scale * (b @ a)
        tokens = left.pop(f"{key}.token_adapter.trainable_tokens_delta", None)
        if tokens is not None:
            indices = next(iter(config["trainable_token_indices"].values()))
            _fit(f"{key}.tokens", (module.weight.shape[0], tokens.shape[1]), module.weight)
            module.weight[indices] = tokens  # the LM head shares this tensor
    if left:
        raise UserError(f"{adapter}: {next(iter(left))} has no place in this model: run `dvc repro`")


def _fit(name: str, found: tuple[int, ...], weight: Tensor) -> None:
    if found != tuple(weight.shape):
        raise UserError(f"the adapter's {name} is {found}, the model's matrix {tuple(weight.shape)}: run `dvc repro`")
