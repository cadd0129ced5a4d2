"""Looking inside: what the model would say if it stopped after each layer, and where each head looks.

The residual stream keeps one vector a position from the embedding to the LM head, so the LM head can be applied to it
anywhere on the way: the logit lens (nostalgebraist 2020; Belrose et al. 2023, 2303.08112, section 2).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from llmm.transformers.attention.attention import Attention
from llmm.transformers.attention.rope import rotate
from llmm.transformers.gpt.generate import check_prompts
from llmm.transformers.gpt.model import GPT


@dataclass(frozen=True)
class Lens:
    """Row l is what the LM head says after l blocks (row 0: of the embedding alone), column t at position t.

    `token` and `probability` (L + 1, T) are the likeliest next token and its probability; `nats` (L + 1, T) is the
    divergence KL(last row ‖ row l) from what the whole model says.
    """

    token: Tensor
    probability: Tensor
    nats: Tensor

    def settled(self) -> Tensor:
        """(T,), the first row from which on the likeliest token is the whole model's."""
        agrees = self.token == self.token[-1]
        return len(agrees) - agrees.flip(0).int().cumprod(0).sum(0)


@torch.inference_mode()
def residual_stream(model: GPT, ids: list[int]) -> Tensor:
    """The stream after the embedding and after every block, (L + 1, T, D).

    Raises UserError for an empty text, one that fills the model's context, or ids outside the vocabulary.
    """
    check_prompts(model, [ids])
    seen: list[Tensor] = []

    def watch_input(_: Any, inputs: tuple[Any, ...]) -> None:
        seen.append(inputs[0][0])

    def watch_output(_: Any, __: Any, output: Tensor) -> None:
        seen.append(output[0])

    blocks = model.model.layers
    handles = [blocks[0].register_forward_pre_hook(watch_input)]
    handles += [block.register_forward_hook(watch_output) for block in blocks]
    _read(model, ids, handles)
    return torch.stack(seen)


@torch.inference_mode()
def logit_lens(model: GPT, ids: list[int]) -> Lens:
    """The LM head, with the last norm before it, applied to every row of `residual_stream`."""
    log_p = model.lm_head(model.model.norm(residual_stream(model, ids))).float().log_softmax(-1)
    probability, token = log_p.exp().max(-1)
    nats = (log_p[-1].exp() * (log_p[-1] - log_p)).sum(-1)
    return Lens(token, probability, nats.clamp(min=0))


@torch.inference_mode()
def attention_patterns(model: GPT, ids: list[int]) -> Tensor:
    """Where each head looks, (L, H, T, T): row t holds the weights of the keys up to t, which sum to 1."""
    check_prompts(model, [ids])
    seen: list[Tensor] = []

    def watch(attention: Any, inputs: tuple[Any, ...]) -> None:
        seen.append(_weights(attention, inputs[0], inputs[1])[0])

    _read(model, ids, [block.self_attn.register_forward_pre_hook(watch) for block in model.model.layers])
    return torch.stack(seen)


def _weights(attention: Attention, x_BTD: Tensor, rope: tuple[Tensor, Tensor] | None) -> Tensor:
    """softmax(q kᵀ / √d) of causal attention, (B, H, T, T): what `attend` multiplies the values by."""
    B, T, _ = x_BTD.shape
    H, H_kv, d = attention.n_head, attention.n_kv_head, attention.d_head
    query = attention.q_norm(attention.q_proj(x_BTD).view(B, T, H, d)).transpose(1, 2)
    key = attention.k_norm(attention.k_proj(x_BTD).view(B, T, H_kv, d)).transpose(1, 2)
    if rope is not None:
        query, key = rotate(query, *rope), rotate(key, *rope)
    scores = query @ key.repeat_interleave(H // H_kv, 1).mT * d**-0.5
    later = torch.ones(T, T, dtype=torch.bool, device=x_BTD.device).triu(1)
    return scores.masked_fill(later, -torch.inf).softmax(-1)


def _read(model: GPT, ids: list[int], handles: Sequence[RemovableHandle]) -> None:
    """One pass over `ids` with the hooks in place, which are gone afterwards, whatever happens."""
    try:
        model.model(torch.tensor([ids], device=model.lm_head.weight.device))
    finally:
        for handle in handles:
            handle.remove()
