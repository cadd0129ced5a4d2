"""The likeliest call, where the one that was written token by token may not be it.

A mask renormalises at every step, so decoding under it can be led to where hardly anything of the model's probability
is left (README, section 3). A call that has half of the probability or more is the likeliest for certain; for any other
one a beam search looks for a likelier.
"""

import math

import llguidance
import llguidance.numpy as masks
import numpy as np
import torch
from torch import Tensor

from agents.tool_agent.beam_search import beam_search
from agents.tool_agent.grammar import CallGrammar
from llmm.training.lora.chat import Conversation
from llmm.transformers.gpt import GPT
from llmm.transformers.gpt.likelihood import token_nats

BEAMS = 4  # of the assistant
_CERTAIN = math.log(0.5)


class CallSoFar:
    """A beginning of a call under llguidance's grammar, as beam search takes it."""

    def __init__(self, matcher: llguidance.LLMatcher, vocab_size: int) -> None:
        self._matcher, self._vocab_size = matcher, vocab_size

    def allowed(self) -> Tensor:
        """See Grammar."""
        bits = masks.allocate_token_bitmask(1, self._vocab_size)
        masks.fill_next_token_bitmask(self._matcher, bits)
        return torch.from_numpy(np.unpackbits(bits.view(np.uint8), count=self._vocab_size, bitorder="little") == 1)

    def after(self, token: int) -> "CallSoFar":
        """See Grammar."""
        longer = self._matcher.deep_copy()
        longer.consume_token(token)
        return CallSoFar(longer, self._vocab_size)


def likeliest_turn(
    model: GPT, grammar: CallGrammar, conversation: Conversation, written: list[int], max_tokens: int, beams: int
) -> list[int]:
    """The turn `written` after `conversation`, or a likelier call in its place, of at most `max_tokens`.

    A turn that is no call stays as it is, as does every turn where `beams` is 1.
    """
    codec = grammar.codec
    if beams == 1 or written[:1] != [codec.role_ids["tool_call"]]:
        return written
    prompt, call = [*codec.prompt(conversation), written[0]], written[1:]
    known = -math.inf
    if call[-1:] == [codec.end]:
        ids = torch.tensor([[*prompt, *call]], device=model.lm_head.weight.device)
        known = -float(token_nats(model, ids)[0, -len(call) :].sum())
    if known >= _CERTAIN:
        return written
    start = CallSoFar(grammar.matcher(conversation), codec.vocab_size)
    found = beam_search(model, prompt, max_tokens - 1, codec.end, beams, start, floor=known)
    return [written[0], *found.tokens] if found else written
