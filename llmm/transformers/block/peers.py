"""The block as other programs build it, with their weights, so that outputs can be compared.

torch's encoder layer fuses the three projections into one matrix; GPT-2 does so too and stores all matrices transposed
(inputs × outputs); Llama and Qwen3 name and shape everything as we do.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from llmm.transformers.attention.attention import Attention
from llmm.transformers.block.block import Block
from llmm.transformers.block.feed_forward import MLP, SwiGLU
from llmm.transformers.block.mixture import MixtureOfExperts


def from_encoder_layer(layer: nn.TransformerEncoderLayer) -> Block:
    """The same layer as a Block, float64 or not, without dropout; give it a mask of True for attention both ways.

    The layer must have been made with activation="gelu" and batch_first=True; `norm_first` decides pre or post.
    """
    d_model, n_head = layer.self_attn.embed_dim, layer.self_attn.num_heads
    block = Block(
        Attention(d_model, n_head, n_head, d_model // n_head, bias=True),
        MLP(d_model, layer.linear1.out_features, "gelu", bias=True),
        partial(nn.LayerNorm, d_model, eps=layer.norm1.eps),
        placement="pre" if layer.norm_first else "post",
    )
    state = {
        "input_layernorm": layer.norm1,
        "post_attention_layernorm": layer.norm2,
        "self_attn.o_proj": layer.self_attn.out_proj,
        "mlp.up_proj": layer.linear1,
        "mlp.down_proj": layer.linear2,
    }
    tensors = {f"{name}.{kind}": getattr(module, kind) for name, module in state.items() for kind in ("weight", "bias")}
    tensors |= _split(layer.self_attn.in_proj_weight, layer.self_attn.in_proj_bias)
    return _filled(block, tensors)


def from_gpt2_block(layer: Any, n_head: int) -> Block:
    """`transformers`' GPT2Block (with the tanh form of GELU) as a Block."""
    d_model = layer.ln_1.normalized_shape[0]
    block = Block(
        Attention(d_model, n_head, n_head, d_model // n_head, bias=True),
        MLP(d_model, layer.mlp.c_fc.nf, "gelu_tanh", bias=True),
        partial(nn.LayerNorm, d_model, eps=layer.ln_1.eps),
    )
    matrices = {"self_attn.o_proj": layer.attn.c_proj, "mlp.up_proj": layer.mlp.c_fc, "mlp.down_proj": layer.mlp.c_proj}
    tensors = _split(layer.attn.c_attn.weight.mT, layer.attn.c_attn.bias)
    for name, module in matrices.items():
        tensors |= {f"{name}.weight": module.weight.mT, f"{name}.bias": module.bias}
    for name, norm in {"input_layernorm": layer.ln_1, "post_attention_layernorm": layer.ln_2}.items():
        tensors |= {f"{name}.weight": norm.weight, f"{name}.bias": norm.bias}
    return _filled(block, tensors)


def from_llama_layer(layer: Any) -> Block:
    """`transformers`' LlamaDecoderLayer or Qwen3DecoderLayer as a Block: the second has QK-norm, all else is equal."""
    attention, norm = layer.self_attn, layer.input_layernorm
    d_head, d_model = attention.head_dim, norm.weight.shape[0]
    n_head, n_kv_head = (proj.out_features // d_head for proj in (attention.q_proj, attention.k_proj))
    qk_norm_eps = attention.q_norm.variance_epsilon if hasattr(attention, "q_norm") else None
    block = Block(
        Attention(d_model, n_head, n_kv_head, d_head, qk_norm_eps),
        SwiGLU(d_model, layer.mlp.gate_proj.out_features),
        partial(nn.RMSNorm, d_model, eps=norm.variance_epsilon),
    )
    return _filled(block, layer.state_dict())


def from_mixtral(block: Any) -> MixtureOfExperts:
    """`transformers`' MixtralSparseMoeBlock as ours: one tensor holds the gates and ups of all its experts."""
    n_expert, twice_d_ff, d_model = block.experts.gate_up_proj.shape
    mixture = MixtureOfExperts(
        d_model, n_expert, block.top_k, partial(SwiGLU, d_model, twice_d_ff // 2), renormalise=True
    )
    tensors = {"gate.weight": block.gate.weight}
    for e in range(n_expert):
        gate, up = block.experts.gate_up_proj[e].chunk(2)
        tensors |= {f"experts.{e}.gate_proj.weight": gate, f"experts.{e}.up_proj.weight": up}
        tensors |= {f"experts.{e}.down_proj.weight": block.experts.down_proj[e]}
    return _filled(mixture, tensors)


def _split(weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
    """Queries, keys and values out of the matrix that makes all three."""
    parts = zip("qkv", weight.chunk(3), bias.chunk(3), strict=True)
    return {f"self_attn.{q}_proj.{kind}": part for q, w, b in parts for kind, part in (("weight", w), ("bias", b))}


def _filled(block: Any, tensors: dict[str, Tensor]) -> Any:
    """`block` with exactly these weights, in their precision, ready to be compared. Raises RuntimeError for others."""
    block = block.to(next(iter(tensors.values())).dtype)
    with torch.no_grad():
        block.load_state_dict(tensors, strict=True)
    return block.eval()
