"""One more token for every row of a batch, in as few operations as it takes.

A step of generation multiplies a few rows by each matrix, which takes microseconds; what takes the time in a small
model is the number of operations. So this is the arithmetic of `Decoder` for a single position, with what does not
change from step to step worked out before:

- RMSNorm of x (D,) divides by √(|x|²/D + ε) = hypot(|x|, √(Dε)) / √D: two operations, and √D goes into the gain;
- gains of QK-norm, the scale 1/√d of the scores and RoPE's angles become one table, made for all layers at once;
- the caches of all layers are one block of memory, so a step slices it once and each layer writes to it once;
- queries that share a key head are the rows of one product, so shared keys are never copied;
- the residual sum is the addend of the product before it.

The same numbers up to rounding; `tests/test_mini_gpt.py` compares them. README, section 6.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

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
    """Matrices (in, out) and gains of one block."""

    norm_in: Tensor  # (D,), as are all gains here times √D
    query: Tensor
    key: Tensor
    value: Tensor
    out: Tensor
    norm_between: Tensor
    gate: Tensor
    up: Tensor
    down: Tensor


class LeanStep:
    """The newest tokens (B,) → logits (B, V), taking them into the cache. Models of Llama's and Qwen3's build."""

    def __init__(self, model: GPT, cache: KVCache, mask_BS: Tensor | None = None) -> None:
        c = self.config = model.config
        self.cache, self.decoder, self.read_out = cache, model.model, model.lm_head.weight.mT
        self.norm = model.model.norm.weight * math.sqrt(c.d_model)
        self.layers = [_layer(block) for block in model.model.layers]
        d, H, H_kv = c.d_head, c.n_head, c.n_kv_head
        self.floor_D, self.floor_d = (self.norm.new_tensor(math.sqrt(n * c.norm_eps)) for n in (c.d_model, d))

        # gains of R = H + H_kv rows: the queries', which carry the scale of the scores, then the keys'
        scale = self.norm.new_ones(H + H_kv, 1)
        scale[:H] = d**-0.5
        gains_L1Rd = torch.stack([_qk_gain(block.self_attn, H, H_kv, d) * scale for block in model.model.layers], 0)
        gains_L1Rd = gains_L1Rd[:, None]
        # rotate(g x) = g x cos + swapped(g x) sin', where sin' is -sin in the first half of the channels
        sign = self.norm.new_ones(d)
        sign[: d // 2] = -1
        self.gains, self.swapped_gains = gains_L1Rd, gains_L1Rd.roll(d // 2, -1) * sign

        B = cache.layers[0].keys.shape[0]
        self.block = _joined(cache)  # (2, L, B, H_kv, capacity, d)
        self.keys, self.values = self.block.flatten(2, 3)  # (L, B * H_kv, capacity, d) each
        # what the three projections write to, and the parts of it that are read
        written = self.norm.new_empty(B, (H + 2 * H_kv) * d)
        self.q_out, self.k_out, self.v_out = written.split((H * d, H_kv * d, H_kv * d), 1)
        self.qk = written[:, : (H + H_kv) * d].view(B, H + H_kv, d)
        self.halves = self.qk.split(d // 2, -1)
        self.swapped = torch.empty_like(self.qk)
        self.swapped_halves = self.swapped.split(d // 2, -1)
        self.query = self.qk[:, :H]
        self.kv = written[:, H * d :].view(B, 2, H_kv, d).transpose(0, 1)

        self.pads_B, self.mask_N1S = None, None
        if mask_BS is not None:
            self.pads_B = (1 - mask_BS).sum(1)
            hidden_BS = torch.zeros_like(mask_BS, dtype=self.norm.dtype).masked_fill(mask_BS == 0, -torch.inf)
            self.mask_N1S = hidden_BS.repeat_interleave(H_kv, 0)[:, None]

    def __call__(self, ids_B: Tensor) -> Tensor:
        """See the class."""
        now = self.cache.length
        self.mask_now = None if self.mask_N1S is None else self.mask_N1S[..., : now + 1]
        of_layers = zip(self.layers, *self._angles(now), *self._memory(now), strict=True)
        x_BD = torch.embedding(self.decoder.embed_tokens.weight, ids_B)
        for layer, cos, sin, slot, keys, values in of_layers:
            self._project(layer, _rms(x_BD, self.floor_D, layer.norm_in), cos, sin)
            slot.copy_(self.kv)
            x_BD = torch.addmm(x_BD, self._mix(keys, values), layer.out)
            y_BD = _rms(x_BD, self.floor_D, layer.norm_between)
            hidden_BF = F.silu(torch.mm(y_BD, layer.gate)).mul_(torch.mm(y_BD, layer.up))
            x_BD = torch.addmm(x_BD, hidden_BF, layer.down)
        for filled in self.cache.layers:
            filled.length = now + 1
        return torch.mm(_rms(x_BD, self.floor_D, self.norm), self.read_out)

    def _angles(self, now: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """For each layer its gains times cosines and sines of the new position, (1 or B, H + H_kv, d)."""
        positions: slice | Tensor = slice(now, now + 1) if self.pads_B is None else now - self.pads_B
        cos, sin = self.decoder.cos[positions][:, None], self.decoder.sin[positions][:, None]
        return (self.gains * cos).unbind(), (self.swapped_gains * sin).unbind()

    def _memory(self, now: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], tuple[Tensor, ...]]:
        """For each layer the new place (2, B, H_kv, d), all keys (B * H_kv, d, S) and all values (B * H_kv, S, d)."""
        filled = slice(0, now + 1)
        slots = self.block[..., now, :].unbind(1)
        return slots, self.keys[:, :, filled].mT.unbind(), self.values[:, :, filled].unbind()

    def _project(self, layer: _Layer, x_BD: Tensor, cos: Tensor, sin: Tensor) -> None:
        """Write query, key and value of the new position, normalised and turned, to where they are read."""
        torch.mm(x_BD, layer.query, out=self.q_out)
        torch.mm(x_BD, layer.key, out=self.k_out)
        torch.mm(x_BD, layer.value, out=self.v_out)
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


def _rms(x: Tensor, floor: Tensor, gain: Tensor) -> Tensor:
    """x √D / hypot(|x|, `floor`) over the last axis, with `floor` = √(Dε); `gain` (D,) has √D in it already."""
    return x / torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), floor) * gain


def _qk_gain(attention: Attention, H: int, H_kv: int, d: int) -> Tensor:
    """√d times the gains (H + H_kv, d) of queries and keys; ones where they are not normalised."""
    if isinstance(attention.q_norm, nn.Identity):
        return attention.q_proj.weight.new_ones(H + H_kv, d)
    return math.sqrt(d) * torch.cat([attention.q_norm.weight.expand(H, d), attention.k_norm.weight.expand(H_kv, d)])


def _layer(block: Block) -> _Layer:
    attention, mlp = block.self_attn, block.mlp
    root = math.sqrt(attention.q_proj.in_features)
    return _Layer(
        block.input_layernorm.weight * root,
        attention.q_proj.weight.mT,
        attention.k_proj.weight.mT,
        attention.v_proj.weight.mT,
        attention.o_proj.weight.mT,
        block.post_attention_layernorm.weight * root,
        mlp.gate_proj.weight.mT,
        mlp.up_proj.weight.mT,
        mlp.down_proj.weight.mT,
    )
