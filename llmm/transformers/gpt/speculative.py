"""Speculative decoding: a small model guesses several tokens, the large one reads them all in one pass.

What comes out is distributed exactly as if the large model had drawn every token itself. Source: Leviathan et al. 2022
(2211.17192), algorithm 1; the proof stands in README, section 7.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from llmm.errors import UserError
from llmm.transformers.attention.kv_cache import KVCache
from llmm.transformers.gpt.generate import check_prompts
from llmm.transformers.gpt.model import GPT
from llmm.transformers.gpt.sampling import GREEDY, Sampler


def acceptance(target: Tensor, draft: Tensor) -> Tensor:
    """The probability min(1, p / q) of keeping each token that the draft drew; p and q are (..., V), so is the result.

    Tokens that the draft never draws (q = 0) get 1, which nothing asks for.
    """
    return torch.where(draft > 0, target / draft, torch.ones_like(target)).clamp(max=1)


def residual(target: Tensor, draft: Tensor) -> Tensor:
    """What a rejected token is replaced from: max(0, p - q), normalised over the last axis; (..., V).

    Where p = q nothing is ever rejected; there the result is p.
    """
    left = (target - draft).clamp(min=0)
    total = left.sum(-1, keepdim=True)
    return torch.where(total > 0, left / total, target)


def verify(
    drafted: Sequence[int], draft_KV: Tensor, target_KV: Tensor, generator: torch.Generator | None = None
) -> tuple[int, int]:
    """How many of the K drafted tokens to keep, and the token that comes after those.

    `draft_KV` (K, V) are the distributions that the tokens were drawn from; `target_KV` (K + 1, V) those of the target
    at the same places and one further, which is drawn from where all are kept.
    """
    for place, token in enumerate(drafted):
        keep = acceptance(target_KV[place], draft_KV[place])[token]
        if torch.rand((), generator=generator, device=keep.device) >= keep:
            return place, _draw(residual(target_KV[place], draft_KV[place]), generator)
    return len(drafted), _draw(target_KV[len(drafted)], generator)


def expected_tokens(alpha: float, guesses: int) -> float:
    """Tokens that a pass of the target yields, each guess being kept with probability `alpha`: (1 - α^(K+1)) / (1 - α).

    Source: 2211.17192, equation 1.
    """
    return float(sum(alpha**i for i in range(guesses + 1)))


def expected_speedup(alpha: float, guesses: int, cost: float) -> float:
    """Tokens a second over those of the target alone, `cost` being the time of a draft's pass over a target's.

    Source: 2211.17192, theorem 3.8.
    """
    return expected_tokens(alpha, guesses) / (cost * guesses + 1)


@dataclass
class Speculated:
    """The new `tokens`, and how they came about: passes of the target, and of each guess whether it was kept."""

    tokens: list[int] = field(default_factory=list)
    target_passes: int = 0
    tested: int = 0  # guesses that were looked at; those after a rejected one are not
    kept: int = 0

    @property
    def alpha(self) -> float:
        """Share of the tested guesses that were kept."""
        return self.kept / self.tested if self.tested else 1.0


@torch.inference_mode()
def speculate(
    target: GPT,
    draft: GPT,
    prompt: list[int],
    max_new_tokens: int,
    guesses: int = 4,
    stop_ids: Sequence[int] = (),
    sampler: Sampler = GREEDY,
    generator: torch.Generator | None = None,
) -> Speculated:
    """Continue `prompt` as `target` would, with `guesses` tokens of `draft` a pass.

    `sampler` shapes both distributions, so it is the shaped target that comes out; at temperature 0 the tokens are
    those of greedy decoding. Raises UserError where a prompt or the two vocabularies do not fit, and for a sampler with
    a repetition penalty, which looks at tokens that may yet be rejected.
    """
    if target.config.vocab_size != draft.config.vocab_size:
        sizes = f"{draft.config.vocab_size} tokens, the target {target.config.vocab_size}"
        raise UserError(f"the draft model knows {sizes}: they must share a vocabulary")
    if guesses < 1:
        raise UserError(f"guesses = {guesses}: expected 1 or more")
    if sampler.repetition_penalty != 1:
        raise UserError("a repetition penalty does not go with speculative decoding")
    check_prompts(target, [prompt])
    check_prompts(draft, [prompt])
    room = min(target.config.context_len, draft.config.context_len) - len(prompt)
    wanted = min(max_new_tokens, room)

    found = Speculated()
    text = list(prompt)  # all that is decided
    models = (target, draft)
    caches = [model.new_cache(1, len(prompt) + wanted) for model in models]
    while len(found.tokens) < wanted:
        K = min(guesses, wanted - len(found.tokens) - 1)
        drafted: list[int] = []
        draft_rows: list[Tensor] = []
        for _ in range(K):
            row = sampler.distribution(_read(draft, [*text, *drafted], caches[1])[-1:])
            drafted.append(_draw(row[0], generator))
            draft_rows.append(row)
        target_KV = sampler.distribution(_read(target, [*text, *drafted], caches[0])[-K - 1 :])
        draft_KV = torch.cat(draft_rows) if K else target_KV[:0]
        kept, token = verify(drafted, draft_KV, target_KV, generator)

        found.target_passes += 1
        found.tested += min(kept + 1, K)
        found.kept += kept
        for new in (*drafted[:kept], token):
            text.append(new)
            found.tokens.append(new)
            if new in stop_ids:
                return found
        for cache in caches:  # what was rejected is forgotten; the newest token is yet to be read
            rewind(cache, len(text) - 1)
    return found


def rewind(cache: KVCache, length: int) -> None:
    """Forget all but the first `length` tokens: their places will be written over."""
    for layer in cache.layers:
        layer.length = min(layer.length, length)


def _read(model: GPT, text: list[int], cache: KVCache) -> Tensor:
    """Logits (T, V) after each token of `text` that the cache does not hold yet."""
    new = torch.tensor([text[cache.length :]], device=model.lm_head.weight.device)
    return model(new, cache=cache)[0]


def _draw(row_V: Tensor, generator: torch.Generator | None) -> int:
    return int(torch.multinomial(row_V, 1, generator=generator))
