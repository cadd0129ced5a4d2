"""Text from a GPT: a batch of prompts of any lengths, each token read once thanks to the KV cache."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from llmm.errors import UserError
from llmm.transformers.gpt.decode import decode_step
from llmm.transformers.gpt.model import GPT
from llmm.transformers.gpt.sampling import GREEDY, Sampler

# (rows, what each has generated so far, their logits (B, V)) → logits, with -inf for what may not come next
LogitsProcessor = Callable[[Sequence[int], list[list[int]], Tensor], Tensor]

PAD = 0  # what stands left of shorter prompts; the mask hides it


def generate(
    model: GPT,
    prompts: list[list[int]],
    max_new_tokens: int,
    stop_ids: Sequence[int] = (),
    sampler: Sampler = GREEDY,
    generator: torch.Generator | None = None,
    logits_processor: LogitsProcessor | None = None,
) -> list[list[int]]:
    """Continue every prompt; the answer holds the new tokens of each, with the stop token where one came.

    Raises UserError for an empty prompt, for ids outside the vocabulary and for a prompt that leaves no room.
    """
    generated: list[list[int]] = [[] for _ in prompts]
    for row, token in stream(model, prompts, max_new_tokens, stop_ids, sampler, generator, logits_processor):
        generated[row].append(token)
    return generated


@torch.inference_mode()
def stream(
    model: GPT,
    prompts: list[list[int]],
    max_new_tokens: int,
    stop_ids: Sequence[int] = (),
    sampler: Sampler = GREEDY,
    generator: torch.Generator | None = None,
    logits_processor: LogitsProcessor | None = None,
) -> Iterator[tuple[int, int]]:
    """Yield (row, token) as they are drawn; arguments as in `generate`.

    A row ends at a stop token, and where it has filled the model's context.
    """
    if not prompts:
        return
    check_prompts(model, prompts)
    width = max(len(prompt) for prompt in prompts)
    device = model.model.embed_tokens.weight.device
    ids_BT = torch.tensor([[PAD] * (width - len(prompt)) + prompt for prompt in prompts], device=device)
    ragged = any(len(prompt) != width for prompt in prompts)
    max_new_tokens = min(max_new_tokens, model.config.context_len - width)
    mask_BS = None
    if ragged:
        mask_BS = torch.tensor(
            [[0] * (width - len(p)) + [1] * (len(p) + max_new_tokens) for p in prompts], device=device
        )

    stops = set(stop_ids)
    penalised = sampler.repetition_penalty != 1
    rows = list(range(len(prompts)))
    generated: list[list[int]] = [[] for _ in prompts]
    running = [True] * len(prompts)
    cache = model.new_cache(len(prompts), width + max_new_tokens)
    read = mask_BS[:, :width] if mask_BS is not None else None
    logits_BV = model.lm_head(model.model(ids_BT, read, cache)[:, -1])
    step = decode_step(model, cache, mask_BS)
    for left in reversed(range(max_new_tokens)):
        if logits_processor is not None:
            logits_BV = logits_processor(rows, generated, logits_BV)
        history = [[*p, *g] for p, g in zip(prompts, generated, strict=True)] if penalised else None
        next_B = sampler(logits_BV, generator, history)
        for row, token in enumerate(next_B.tolist()):
            if running[row]:
                generated[row].append(token)
                running[row] = token not in stops
                yield row, token
        if not any(running):
            return
        if left:
            logits_BV = step(next_B)


def check_prompts(model: GPT, prompts: list[list[int]]) -> None:
    """Raise UserError for an empty prompt, one that leaves no room, or ids outside the vocabulary."""
    vocab_size, context_len = model.config.vocab_size, model.config.context_len
    for prompt in prompts:
        if not prompt:
            raise UserError("the prompt is empty: expected at least one token")
        if len(prompt) >= context_len:
            raise UserError(f"the prompt has {len(prompt)} tokens, the model takes {context_len}: shorten it")
        if not all(0 <= token < vocab_size for token in prompt):
            outside = next(token for token in prompt if not 0 <= token < vocab_size)
            raise UserError(
                f"the prompt has the id {outside}, the vocabulary ends at {vocab_size - 1}: wrong tokenizer?"
            )
