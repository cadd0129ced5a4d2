"""The best call, where the one that was written token by token may not be it.

A mask renormalises at every step, so decoding under it can be led to where hardly anything of the model's probability
is left; and a call can leave out a number that the user said (coverage.py). The score of a call is its ln p less a
price for each such number (README, section 3). All other calls share the probability that it leaves them: where the
logarithm of that is no more than its score it is the best for certain. Else a beam search looks for a better one.
"""

import math

import llguidance
import llguidance.numpy as masks
import numpy as np
import torch
from torch import Tensor

from agents.tool_agent.beam_search import beam_search
from agents.tool_agent.coverage import left_out
from agents.tool_agent.grammar import CallGrammar
from llmm.training.lora.chat import Conversation
from llmm.transformers.gpt import GPT
from llmm.transformers.gpt.likelihood import token_nats

BEAMS = 4  # of the assistant
LEFT_OUT = 1.0  # nats that a call pays for each number of the message that it leaves out; chosen on development tasks


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


def is_best(log_p: float, score: float) -> bool:
    """Whether no text can score more than one with this ln p and this score, equation (3.11)."""
    return math.exp(score) >= -math.expm1(log_p)


def best_turn(
    model: GPT,
    grammar: CallGrammar,
    conversation: Conversation,
    written: list[int],
    max_tokens: int,
    beams: int,
    price: float = LEFT_OUT,
) -> list[int]:
    """The turn `written` after `conversation`, or a call of a higher score in its place, of at most `max_tokens`.

    A call pays `price` nats for each number that it leaves out. A turn that is no call stays as it is, as does every
    turn where `beams` is 1.
    """
    codec = grammar.codec
    if beams == 1 or written[:1] != [codec.role_ids["tool_call"]]:
        return written

    def penalty(call: tuple[int, ...]) -> float:
        turn = codec.read_turn([written[0], *call])
        return price * left_out(conversation, turn.text) if turn else 0.0

    prompt, call = [*codec.prompt(conversation), written[0]], written[1:]
    known = -math.inf
    if call[-1:] == [codec.end]:
        ids = torch.tensor([[*prompt, *call]], device=model.lm_head.weight.device)
        log_p = -float(token_nats(model, ids)[0, -len(call) :].sum())
        known = log_p - penalty(tuple(call))
        if is_best(log_p, known):
            return written
    start = CallSoFar(grammar.matcher(conversation), codec.vocab_size)
    found = beam_search(model, prompt, max_tokens - 1, codec.end, beams, start, known, penalty)
    return [written[0], *found.tokens] if found else written
