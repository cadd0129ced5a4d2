"""A small tokenizer, model and adapter, as the pipeline's stages leave them, for tests of what leaves the project."""

import functools
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from llmm import paths
from llmm.lineage import Artifact, seal
from llmm.training.lora.adapter import attach_lora, save_adapter
from llmm.training.pretraining.folder import write_model
from llmm.training.tokenizer.export import byte_level_tokenizer
from llmm.training.tokenizer.folder import write_tokenizer
from llmm.training.tokenizer.special import SPECIAL_TOKENS
from llmm.transformers.gpt import GPT, GPTConfig

ROOT = Path(__file__).parents[1]
SIZES = GPTConfig(500, n_layer=2, n_head=4, n_kv_head=4, d_model=32, d_ff=64, context_len=128)


@functools.lru_cache(maxsize=1)
def small_tokenizer() -> Tokenizer:
    """Our kind of tokenizer, of the project's own Python files."""
    made = byte_level_tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator((file.read_text() for file in sorted((ROOT / "llmm/corpus").glob("*.py"))), trainer)
    made.encode_special_tokens = True
    return made


def gpt(config: GPTConfig) -> GPT:
    model, generator = GPT(config), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(0.2 * drawn if parameter.ndim > 1 else 1 + 0.1 * drawn)
    return model.eval()


def build(folder: Path, tokenizer: Tokenizer, config: GPTConfig) -> dict[str, Artifact]:
    """Tokenizer, model and adapter under `folder`, as the stages leave them."""
    for path in (paths.TOKENIZER, paths.MODEL, paths.ADAPTER):
        (folder / path).mkdir(parents=True)
    write_tokenizer(tokenizer, folder / paths.TOKENIZER)
    words = seal(folder / paths.TOKENIZER, "tokenizer", [])
    write_model(gpt(config), folder / paths.TOKENIZER, folder / paths.MODEL)
    model = seal(folder / paths.MODEL, "model", [words])
    tuned = attach_lora(gpt(config), 4, 4.0, 0.0, 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in tuned.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    save_adapter(tuned, folder / paths.ADAPTER)
    return {"tokenizer": words, "model": model, "adapter": seal(folder / paths.ADAPTER, "adapter", [model, words])}
