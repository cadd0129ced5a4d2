"""Beam search: the likeliest text, or that of the highest score, looked for along the likeliest beginnings.

The likeliest token at each step need not begin the likeliest text, least of all where a grammar decides what may come.
Keeping several beginnings finds more, and says whether what it found is certain: no text scores more than the ln p of
what it begins with, so nothing that was passed over can win once its ln p is no more than the score that was found.
Sources: Lowerre 1976, "The Harpy Speech Recognition System"; Sutskever et al. 2014 (1409.3215), section 3.2; the bound:
Stahlberg and Byrne 2019 (1908.10090), section 2. README, section 3.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from llmm.transformers.gpt.decode import decode_step
from llmm.transformers.gpt.generate import check_prompts
from llmm.transformers.gpt.model import GPT


class Grammar(Protocol):
    """What may follow a beginning. It does not change: every token leads to another one."""

    def allowed(self) -> Tensor:
        """Whether each token may come next: (V,) of bool."""
        ...

    def after(self, token: int) -> "Grammar":
        """What may follow once `token` has come."""
        ...


@dataclass(frozen=True)
class Found:
    """A text with its end, its score (ln p of all its tokens less its penalty), and whether no other has a higher."""

    tokens: tuple[int, ...]
    score: float
    certain: bool


@dataclass(frozen=True)
class _Beginning:
    tokens: tuple[int, ...]
    log_probability: float
    grammar: Grammar
    row: int  # of the cache, where the beginning that it continues stands


@torch.inference_mode()
def beam_search(
    model: GPT,
    prompt: list[int],
    max_new_tokens: int,
    end: int,
    width: int,
    grammar: Grammar,
    floor: float = -math.inf,
    penalty: Callable[[tuple[int, ...]], float] | None = None,
) -> Found | None:
    """The text of the highest score after `prompt` that `grammar` allows, along `width` beginnings at a time.

    Probabilities are the model's own, not divided by what the grammar leaves of them. A text ends with the token `end`
    and has at most `max_new_tokens` with it; `penalty` says how many nats, at least 0, are taken off its ln p. None
    where nothing that was found scores more than `floor`, the score of a text that is known already; a `floor` spares
    the beginnings below it. Raises UserError as `generate` does.
    """
    check_prompts(model, [prompt])
    max_new_tokens = min(max_new_tokens, model.config.context_len - len(prompt))
    cache = model.new_cache(width, len(prompt) + max_new_tokens)
    logits_WV = model.lm_head(model.model(torch.tensor([prompt] * width, device=_device(model)), None, cache)[:, -1])
    step = decode_step(model, cache)
    kept = [_Beginning((), 0.0, grammar, 0)]
    best, passed_over = None, -math.inf
    for left in reversed(range(max_new_tokens)):
        kept, ended, lost = _continue(kept, logits_WV.log_softmax(-1), end, width)
        for text in ended:
            score = text.log_probability - (penalty(text.tokens) if penalty else 0.0)
            if score > floor:
                best, floor = text.tokens, score
        passed_over = max(passed_over, lost)
        kept = [beginning for beginning in kept if beginning.log_probability > floor]
        if not kept or not left:
            break
        rows = torch.tensor([one.row for one in kept] + [0] * (width - len(kept)), device=logits_WV.device)
        for layer in cache.layers:
            for filled in (layer.keys[:, :, : cache.length], layer.values[:, :, : cache.length]):
                filled.copy_(filled[rows])
        newest = [one.tokens[-1] for one in kept] + [end] * (width - len(kept))
        logits_WV = step(torch.tensor(newest, device=logits_WV.device))
    if best is None:
        return None
    unfinished = max((one.log_probability for one in kept), default=-math.inf)
    return Found(best, floor, floor >= max(passed_over, unfinished))


def _continue(
    kept: list[_Beginning], log_p_WV: Tensor, end: int, width: int
) -> tuple[list[_Beginning], list[_Beginning], float]:
    """The `width` likeliest beginnings that are a token longer, the texts that end among them, and ln p of the
    likeliest beginning that there was no room for."""
    allowed_KV = torch.stack([one.grammar.allowed() for one in kept]).to(log_p_WV.device)
    before_K1 = log_p_WV.new_tensor([one.log_probability for one in kept])[:, None]
    total_KV = (before_K1 + log_p_WV[: len(kept)]).masked_fill(~allowed_KV, -torch.inf)
    V = total_KV.shape[1]
    # each of the beginnings can end in one way, so these are enough to keep `width` and to see the first one lost
    likeliest = total_KV.flatten().topk(min(2 * width + 1, total_KV.numel()))
    longer: list[_Beginning] = []
    ended: list[_Beginning] = []
    lost = -math.inf
    for log_probability, place in zip(likeliest.values.tolist(), likeliest.indices.tolist(), strict=True):
        row, token = divmod(place, V)
        if log_probability == -math.inf:
            break
        tokens = (*kept[row].tokens, token)
        if token == end:
            ended.append(_Beginning(tokens, log_probability, kept[row].grammar, row))
        elif len(longer) < width:
            longer.append(_Beginning(tokens, log_probability, kept[row].grammar.after(token), row))
        else:
            lost = max(lost, log_probability)
    return longer, ended, lost


def _device(model: GPT) -> torch.device:
    return model.model.embed_tokens.weight.device
