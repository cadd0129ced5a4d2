"""What a family of `transformers` calls each tensor of a GPT.

Llama and Qwen3 name tensors as we do. GPT-2 fuses the projections to queries, keys and values into one matrix, and
stores the matrices of its blocks transposed (inputs × outputs).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

State = dict[str, Tensor]


@dataclass(frozen=True)
class Row:
    """One tensor of theirs: which of ours it holds, one under the other, and whether it is stored transposed."""

    theirs: str
    ours: tuple[str, ...]
    transposed: bool = False


def gpt2_rows(n_layer: int) -> Iterator[Row]:
    """Every tensor of a GPT-2 of `n_layer` blocks but the LM head, which both call lm_head.weight."""
    yield Row("transformer.wte.weight", ("model.embed_tokens.weight",))
    yield Row("transformer.wpe.weight", ("model.embed_positions.weight",))
    for i in range(n_layer):
        block, layer = f"transformer.h.{i}", f"model.layers.{i}"
        for kind in ("weight", "bias"):
            matrix = kind == "weight"
            qkv = tuple(f"{layer}.self_attn.{name}_proj.{kind}" for name in "qkv")
            yield Row(f"{block}.ln_1.{kind}", (f"{layer}.input_layernorm.{kind}",))
            yield Row(f"{block}.attn.c_attn.{kind}", qkv, matrix)
            yield Row(f"{block}.attn.c_proj.{kind}", (f"{layer}.self_attn.o_proj.{kind}",), matrix)
            yield Row(f"{block}.ln_2.{kind}", (f"{layer}.post_attention_layernorm.{kind}",))
            yield Row(f"{block}.mlp.c_fc.{kind}", (f"{layer}.mlp.up_proj.{kind}",), matrix)
            yield Row(f"{block}.mlp.c_proj.{kind}", (f"{layer}.mlp.down_proj.{kind}",), matrix)
    for kind in ("weight", "bias"):
        yield Row(f"transformer.ln_f.{kind}", (f"model.norm.{kind}",))


def to_gpt2(state: State, n_layer: int) -> State:
    """Our tensors in GPT-2's names and shapes."""
    theirs = {name: state[name] for name in ("lm_head.weight",) if name in state}
    for row in gpt2_rows(n_layer):
        fused = torch.cat([state[name] for name in row.ours])
        theirs[row.theirs] = fused.mT.contiguous() if row.transposed else fused
    return theirs


def from_gpt2(state: State, n_layer: int) -> State:
    """GPT-2's tensors in our names and shapes; what has no place keeps its name, for the reader to refuse.

    Published checkpoints lack the prefix `transformer.` and carry each layer's causal mask, which is no weight.
    """
    left = {}
    for name, tensor in state.items():
        prefixed = name if name.startswith(("transformer.", "lm_head.")) else f"transformer.{name}"
        if not prefixed.endswith((".attn.bias", ".attn.masked_bias")):
            left[prefixed] = tensor
    ours: State = {}
    for row in gpt2_rows(n_layer):
        if row.theirs in left:
            fused = left.pop(row.theirs)
            if row.transposed and fused.ndim == 2:
                fused = fused.mT
            parts = fused.tensor_split(len(row.ours))
            ours.update((name, part.contiguous()) for name, part in zip(row.ours, parts, strict=True))
    return {**ours, **left}
