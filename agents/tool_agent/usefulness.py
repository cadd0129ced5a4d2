"""Was a call worth it? By how much its result lowers the loss of what comes after. README, section 5.

Source: Schick et al. 2023 (2302.04761), section 2, which keeps a call for training where the gain is large.
"""

from collections.abc import Callable

from llmm.training.lora.chat import Conversation, Message

LossOf = Callable[[Conversation, str], float]  # (what was said, what comes after) → nats of the latter


def call_gain(loss_of: LossOf, before: Conversation, call: str, result: str, after: str) -> float:
    """L⁻ - L⁺ in nats, (5.1): how much more likely `after` is with the call and its result than with less.

    L⁻ is the better of no call at all and a call without a result: what the bare act of calling tells does not count.
    """
    called = Message("tool_call", call)
    with_result = loss_of([*before, called, Message("tool_result", result)], after)
    without = min(loss_of(before, after), loss_of([*before, called, Message("tool_result", "")], after))
    return without - with_result
