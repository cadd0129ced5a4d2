"""Stage finetune: instruction data made from the source, a LoRA tuned on it, and what that took."""

import random
from typing import Any

from llmm import lineage, paths
from llmm.corpus import load_documents, load_objects
from llmm.errors import UserError
from llmm.files import atomic_folder, write_json, write_text
from llmm.lineage import open_artifact, seal
from llmm.params import Params
from pipelines.stage import run_stage

VAL_EXAMPLES = 600
# what decides the outcome: an edited trainer must not go on from an old checkpoint
CODE = ("llmm/transformers", "llmm/foundations/optimizers", "llmm/training/lora", "agents/tool_agent")


def main(params: Params) -> dict[str, Any]:
    """Make the data, tune, write data/adapter, data/metrics/finetune.json and data/plots/finetune.csv."""
    import torch

    from llmm.device import pick_device, pick_dtype
    from llmm.training.lora.adapter import save_adapter
    from llmm.training.lora.chat_template import CHAT_TEMPLATE
    from llmm.training.lora.dataset import Example, encode
    from llmm.training.lora.finetune import finetune, mean_loss
    from llmm.training.lora.spaced import load_codec
    from llmm.training.pretraining.checkpoint import Checkpoints
    from llmm.transformers.gpt import load_gpt

    corpus, tokenizer = open_artifact(paths.CORPUS, "corpus"), open_artifact(paths.TOKENIZER, "tokenizer")
    model = open_artifact(paths.MODEL, "model")
    model.require(tokenizer)
    tokenizer.require(corpus)
    recipe = params.finetune
    train, val = (make_data(params, split) for split in ("train", "val"))
    codec = load_codec(paths.TOKENIZER)

    def by_kind(data: list[tuple[str, Any]]) -> dict[str, list[Example]]:
        kinds = sorted({kind for kind, _ in data})
        weight = recipe.decision_weight
        return {k: encode([m for kind, m in data if kind == k], codec, recipe.seq_len, weight) for k in kinds}

    train_examples, val_examples = by_kind(train), by_kind(val)
    examples, every_val = (
        [one for found in split.values() for one in found] for split in (train_examples, val_examples)
    )
    kinds = {kind: len(found) for kind, found in train_examples.items()}
    too_long = len(train) - len(examples)
    counts = ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items(), key=lambda item: -item[1]))
    print(f"finetune: {len(examples)} conversations: {counts}; left out as too long: {too_long}")
    if not examples:
        raise UserError(
            f"none of {len(train)} conversations fits into finetune.seq_len = {recipe.seq_len} tokens: raise it, or "
            "tokenizer.vocab_size"
        )
    identity = {
        "params": params.finetune.model_dump(),
        "index": params.index.model_dump(),  # its chunks are what search_docs finds
        "seed": params.seed,
        "model": model.sha256,
        "code": lineage.code_sha256(*CODE),
        "torch": torch.__version__,
        "device": pick_device().type,
        "dtype": str(pick_dtype(recipe.dtype, pick_device())),
        "threads": torch.get_num_threads(),
    }
    checkpoints = Checkpoints("finetune", identity)
    run = finetune(load_gpt(paths.MODEL), recipe, examples, every_val, params.seed, checkpoints)

    with atomic_folder(paths.ADAPTER) as folder:
        save_adapter(run.model, folder)
        write_text(folder / "chat_template.jinja", CHAT_TEMPLATE)
        seal(folder, "adapter", [model, tokenizer], paths.ADAPTER)
    trainable = sum(p.numel() for p in run.model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in run.model.parameters())
    write_json(
        paths.METRICS / "finetune.json",
        {
            "val_loss": round(mean_loss(run.model, every_val, recipe.batch_size, recipe.seq_len), 4),
            "val_loss_by_kind": {
                kind: round(mean_loss(run.model, found, recipe.batch_size, recipe.seq_len), 4)
                for kind, found in val_examples.items()
                if found
            },
            "trainable_parameters": trainable,
            "trainable_share": round(trainable / total, 4),
            "tokens": run.tokens,
            "conversations": len(examples),
            "too_long": too_long,
            "conversations_by_kind": kinds,
            "model": model.short,
        },
    )
    columns = list(run.curve[0])
    rows = [",".join(str(row[column]) for column in columns) for row in run.curve]
    write_text(paths.PLOTS / "finetune.csv", "\n".join([",".join(columns), *rows]) + "\n")
    checkpoints.remove()
    return {"tokens_per_second": round(run.tokens_per_second), "threads": torch.get_num_threads()}


def make_data(params: Params, split: str) -> list[tuple[str, Any]]:
    """(kind, conversation) pairs of one split: tool conversations and questions with passages, shuffled."""
    from agents.tool_agent.traces import make_split, word_search
    from llmm.training.lora.instructions import make_instructions

    rng = random.Random(f"{params.seed} {split}")
    documents, objects = load_documents(paths.CORPUS, split), load_objects(paths.CORPUS)
    tools, asked = params.finetune.tool_examples, params.finetune.object_examples
    if split != "train":
        tools, asked = min(tools, VAL_EXAMPLES), min(asked, VAL_EXAMPLES // 2)
    search = word_search(documents, params.index)
    made = [(one.kind, one.messages) for one in make_split(split, documents, objects, search, tools, rng)]
    questions = make_instructions(documents, [item for item in objects if item.split == split], asked, rng)
    data = [*made, *((one.kind, one.messages) for one in questions)]
    rng.shuffle(data)
    return data


if __name__ == "__main__":
    run_stage("finetune", main)
