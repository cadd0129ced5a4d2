"""One more token for every row of a batch, in as few operations as it takes.

A step of generation multiplies a few rows by each matrix, which takes microseconds; what takes the time in a small
model is the number of operations. So this is the arithmetic of `Decoder` for a single position, with what does not
change from step to step worked out before:

- RMSNorm of x (D,) divides by √(|x|²/D + ε) = hypot(|x|, √(Dε)) / √D: two operations, and √D goes into the gain;
- the gain goes into the matrices behind the norm, and those that read the same vector are one: queries, keys and values
  come out of one product, the gate and what it lets through out of another;
- gains of QK-norm, the scale 1/√d of the scores and RoPE's angles become one table, made for all layers at once;
- the caches of all layers are one block of memory, so a step slices it once and each layer writes to it once;
- queries that share a key head are the rows of one product, so shared keys are never copied;
- the residual sum is the addend of the product before it.

The same numbers up to rounding; `tests/test_mini_gpt.py` compares them. README, section 6.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmm.transformers.attention.attention import Attention
from llmm.transformers.attention.kv_cache import KVCache
from llmm.transformers.block.block import Block
from llmm.transformers.block.feed_forward import SwiGLU
from llmm.transformers.gpt.model import GPT, Decoder

_PLAIN = {
    GPT, Decoder, Block, Attention, SwiGLU,
    nn.Linear, nn.Embedding, nn.RMSNorm, nn.Identity, nn.Dropout, nn.ModuleList,
}  # fmt: skip
Step = Callable[[Tensor], Tensor]  # the newest token of each row (B,) → logits of the next (B, V)


def decode_step(model: GPT, cache: KVCache, mask_BS: Tensor | None = None) -> Step:
    """The step that continues `cache`; where the model is not one that `LeanStep` computes, the model itself.

    `mask_BS` (B, capacity) is 0 for the padding left of shorter prompts and 1 elsewhere; None where there is none.
    """
    if lean(model):
        return LeanStep(model, cache, mask_BS)

    def step(ids_B: Tensor) -> Tensor:
        mask = None if mask_BS is None else mask_BS[:, : cache.length + 1]
        return model.lm_head(model.model(ids_B[:, None], mask, cache)[:, -1])

    return step


def lean(model: GPT) -> bool:
    """Whether `model` has the build of Llama and Qwen3, of plain layers (a LoRA adapter is none), in full precision."""
    c = model.config
    built_so = (c.positions, c.norm, c.norm_placement, c.feed_forward, c.bias) == (
        "rope",
        "rms",
        "pre",
        "swiglu",
        False,
    )
    if not built_so or torch.is_autocast_enabled(model.lm_head.weight.device.type) or (model.training and c.dropout):
        return False
    return all(
        type(module) in _PLAIN and not (module._forward_hooks or module._forward_pre_hooks)
        for module in model.modules()
    ) and all(p.dtype in (torch.float32, torch.float64) for p in model.parameters())


@dataclass(frozen=True)
class _Layer:
    """Matrices (in, out) of one block, with the gain of the norm before them where there is one."""

    project: Tensor  # (D, (H + 2 H_kv) d): to queries, keys and values
    out: Tensor
    widen: Tensor  # (D, 2 F): to the gate and to what it lets through
    down: Tensor


class LeanWeights:
    """A copy of a model's weights in the form that `LeanStep` reads; it knows nothing of later changes of the model."""

    @torch.no_grad()
    def __init__(self, model: GPT) -> None:
        c = model.config
        d, H, H_kv = c.d_head, c.n_head, c.n_kv_head
        self.layers = [_layer(block) for block in model.model.layers]
        self.norm = model.model.norm.weight * math.sqrt(c.d_model)
        # gains of R = H + H_kv rows: the queries', which carry the scale of the scores, then the keys'
        scale = self.norm.new_ones(H + H_kv, 1)
        scale[:H] = d**-0.5
        gains_LRd = torch.stack([_qk_gain(block.self_attn, H, H_kv, d) * scale for block in model.model.layers])
        self.gains = gains_LRd[:, None]
        # rotate(g x) = g x cos + swapped(g x) sin', where sin' is -sin in the first half of the channels
        sign = self.norm.new_ones(d)
        sign[: d // 2] = -1
        self.swapped_gains = self.gains.roll(d // 2, -1) * sign


class LeanStep:
    """The newest tokens (B,) → logits (B, V), taking them into the cache. Models of Llama's and Qwen3's build."""

    def __init__(
        self, model: GPT, cache: KVCache, mask_BS: Tensor | None = None, weights: LeanWeights | None = None
    ) -> None:
        c = self.config = model.config
        self.cache, self.decoder, self.read_out = cache, model.model, model.lm_head.weight.mT
        self.weights = weights or LeanWeights(model)
        d, H, H_kv = c.d_head, c.n_head, c.n_kv_head
        like = self.weights.norm
        self.floor_D, self.floor_d = (like.new_tensor(math.sqrt(n * c.norm_eps)) for n in (c.d_model, d))

        B = cache.layers[0].keys.shape[0]
        self.block = _joined(cache)  # (2, L, B, H_kv, capacity, d)
        self.keys, self.values = self.block.flatten(2, 3)  # (L, B * H_kv, capacity, d) each
        # what the products write to, and the parts of it that are read
        self.written = like.new_empty(B, (H + 2 * H_kv) * d)
        self.qk = self.written[:, : (H + H_kv) * d].view(B, H + H_kv, d)
        self.halves = self.qk.split(d // 2, -1)
        self.swapped = torch.empty_like(self.qk)
        self.swapped_halves = self.swapped.split(d // 2, -1)
        self.query = self.qk[:, :H]
        self.kv = self.written[:, H * d :].view(B, 2, H_kv, d).transpose(0, 1)
        self.wide = like.new_empty(B, 2 * c.d_ff)
        self.gate, self.up = self.wide.split(c.d_ff, 1)

        self.pads_B, self.mask_N1S = None, None
        if mask_BS is not None:
            self.pads_B = (1 - mask_BS).sum(1)
            hidden_BS = torch.zeros_like(mask_BS, dtype=like.dtype).masked_fill(mask_BS == 0, -torch.inf)
            self.mask_N1S = hidden_BS.repeat_interleave(H_kv, 0)[:, None]

    def __call__(self, ids_B: Tensor) -> Tensor:
        """See the class."""
        now = self.cache.length
        self.mask_now = None if self.mask_N1S is None else self.mask_N1S[..., : now + 1]
        of_layers = zip(self.weights.layers, *self._angles(now), *self._memory(now), strict=True)
        x_BD = torch.embedding(self.decoder.embed_tokens.weight, ids_B)
        for layer, cos, sin, slot, keys, values in of_layers:
            torch.mm(_over_norm(x_BD, self.floor_D), layer.project, out=self.written)
            self._normalise_and_turn(cos, sin)
            slot.copy_(self.kv)
            x_BD = torch.addmm(x_BD, self._mix(keys, values), layer.out)
            torch.mm(_over_norm(x_BD, self.floor_D), layer.widen, out=self.wide)
            x_BD = torch.addmm(x_BD, F.silu(self.gate).mul_(self.up), layer.down)
        for filled in self.cache.layers:
            filled.length = now + 1
        return torch.mm(_over_norm(x_BD, self.floor_D).mul_(self.weights.norm), self.read_out)

    def _angles(self, now: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """For each layer its gains times cosines and sines of the new position, (1 or B, H + H_kv, d)."""
        positions: slice | Tensor = slice(now, now + 1) if self.pads_B is None else now - self.pads_B
        cos, sin = self.decoder.cos[positions][:, None], self.decoder.sin[positions][:, None]
        return (self.weights.gains * cos).unbind(), (self.weights.swapped_gains * sin).unbind()

    def _memory(self, now: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], tuple[Tensor, ...]]:
        """For each layer the new place (2, B, H_kv, d), all keys (B * H_kv, d, S) and all values (B * H_kv, S, d)."""
        filled = slice(0, now + 1)
        slots = self.block[..., now, :].unbind(1)
        return slots, self.keys[:, :, filled].mT.unbind(), self.values[:, :, filled].unbind()

    def _normalise_and_turn(self, cos: Tensor, sin: Tensor) -> None:
        """Queries and keys of the new position, in place."""
        qk = self.qk
        self.swapped_halves[0].copy_(self.halves[1])
        self.swapped_halves[1].copy_(self.halves[0])
        turned = torch.addcmul(qk * cos, self.swapped, sin)
        if self.config.qk_norm:  # a norm's divisor is the same before a turn and after it
            torch.div(turned, torch.hypot(torch.linalg.vector_norm(qk, dim=-1, keepdim=True), self.floor_d), out=qk)
        else:
            qk.copy_(turned)

    def _mix(self, keys: Tensor, values: Tensor) -> Tensor:
        """The values (B, H * d) mixed by attention; queries that share a key head are rows of one product."""
        c, N = self.config, len(keys)
        query = self.query.reshape(N, c.n_head // c.n_kv_head, c.d_head)
        scores = torch.bmm(query, keys) if self.mask_now is None else torch.baddbmm(self.mask_now, query, keys)
        return torch.bmm(scores.softmax(-1), values).view(-1, c.n_head * c.d_head)


def _joined(cache: KVCache) -> Tensor:
    """The caches of all layers moved into one block (2, L, B, H_kv, capacity, d), of which they become views."""
    first, n = cache.layers[0].keys, cache.length
    block = first.new_empty(2, len(cache.layers), *first.shape)
    for layer, keys, values in zip(cache.layers, *block, strict=True):
        keys[:, :, :n], values[:, :, :n] = layer.keys[:, :, :n], layer.values[:, :, :n]
        layer.keys, layer.values = keys, values
    return block


def _over_norm(x: Tensor, floor: Tensor) -> Tensor:
    """x / hypot(|x|, `floor`) over the last axis: RMSNorm but for √D and the gain, where `floor` = √(Dε)."""
    return x / torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), floor)


def _qk_gain(attention: Attention, H: int, H_kv: int, d: int) -> Tensor:
    """√d times the gains (H + H_kv, d) of queries and keys; ones where they are not normalised."""
    if isinstance(attention.q_norm, nn.Identity):
        return attention.q_proj.weight.new_ones(H + H_kv, d)
    return math.sqrt(d) * torch.cat([attention.q_norm.weight.expand(H, d), attention.k_norm.weight.expand(H_kv, d)])


def _layer(block: Block) -> _Layer:
    attention, mlp = block.self_attn, block.mlp
    return _Layer(
        _behind(block.input_layernorm, attention.q_proj, attention.k_proj, attention.v_proj),
        attention.o_proj.weight.mT,
        _behind(block.post_attention_layernorm, mlp.gate_proj, mlp.up_proj),
        mlp.down_proj.weight.mT,
    )


def _behind(norm: Any, *layers: nn.Linear) -> Tensor:
    """The layers that read what `norm` gives as one matrix (in, out), its gain and √D in it."""
    gain_D: Tensor = norm.weight * math.sqrt(len(norm.weight))
    return torch.cat([layer.weight for layer in layers]).mul_(gain_D).mT
