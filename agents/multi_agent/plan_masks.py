"""A planner may take a message apart and not add to it: what it writes is masked to be parts of the message, in order.

A plan is p₁ ⏎⏎ p₂ ⏎⏎ …, each part a run of whole words of the message that begins where the part before it has ended,
or later. Whatever the weights, no errand is made up and none is done twice.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from agents.tool_agent.grammar import CallGrammar, TurnMasks
from agents.tool_agent.tasks import BETWEEN_PARTS
from llmm.training.lora.chat import ChatCodec, Conversation, as_read
from llmm.training.lora.spaced import space_of


class PlanGrammar(CallGrammar):
    """The grammar of a planner: the assistant's turn, in parts of the last that the user has said as it is read."""

    def __init__(self, codec: ChatCodec) -> None:
        super().__init__(codec, ())
        self.space = space_of(codec)
        special = set(codec.special_ids)
        decoded = [codec.tokenizer.decode([index], skip_special_tokens=False) for index in range(codec.vocab_size)]
        # a token that is half a character alone is left out
        self.texts = ["" if i in special or "\ufffd" in text else text for i, text in enumerate(decoded)]
        self._of_text = {text: i for i, text in enumerate(self.texts) if text}
        self._longest = max(map(len, self._of_text))
        self._breaking = [i for i, text in enumerate(self.texts) if "\n" in text]

    def processor(self, conversations: Sequence[Conversation]) -> "PlanMasks":
        """A fresh mask for one call of `generate`, whose rows continue `conversations`."""
        said = [[message.text for message in as_read(one) if message.role == "user"][-1] for one in conversations]
        return PlanMasks(self, said)

    def allowed(self, written: Sequence[int], message: str) -> list[int]:
        """Tokens that may come after `written`, the end of the turn included where it may."""
        text = "".join(self.texts[index] for index in written)
        space = "" if text else self.space  # what the first token has to begin with
        text = text.removeprefix(self.space)
        *whole, last = text.split(BETWEEN_PARTS)
        rest = _after(whole, message)
        found = {i for i in self._breaking if not space and may_begin(text + self.texts[i], message)}
        if space in self._of_text:
            found.add(self._of_text[space])
        if rest is not None:  # most tokens go on with the part: look up what the message goes on with
            for start in _word_starts(rest):
                if rest.startswith(last, start):
                    at = start + len(last)
                    nexts = (space + rest[at : at + length] for length in range(1, self._longest + 1))
                    found.update(self._of_text[one] for one in nexts if one in self._of_text)
        if is_plan(text, message):
            found.add(self.codec.end)
        return sorted(found)


class PlanMasks(TurnMasks):
    """Follows what each row has written and forbids what the message does not say."""

    def __init__(self, grammar: PlanGrammar, messages: Sequence[str]) -> None:
        self._of, self._messages = grammar, messages

    def __call__(self, rows: Sequence[int], generated: list[list[int]], logits: Tensor) -> Tensor:
        """See TurnMasks."""
        masked = torch.full_like(logits, -torch.inf)
        for position, row in enumerate(rows):
            written = generated[position]
            if not written:
                masked[position] = logits[position] + self._of.first
            elif written[-1] == self._of.codec.end:
                masked[position] = logits[position]  # the row has stopped; whatever comes is thrown away
            else:
                allowed = self._of.allowed(written[1:], self._messages[row])
                masked[position, allowed] = logits[position, allowed]
        return masked


def may_begin(text: str, message: str) -> bool:
    """Whether a plan of `message` may begin with `text`."""
    *whole, last = text.split(BETWEEN_PARTS)
    rest = _after(whole, message)
    if rest is None:
        return False
    if last.endswith("\n"):  # half of what stands between two parts, where another one can come
        end = _end_of(last[:-1], rest)
        if end >= 0 and _word_starts(rest[end:]):
            return True
    return any(rest.startswith(last, start) for start in _word_starts(rest))


def is_plan(text: str, message: str) -> bool:
    """Whether `text` is a whole plan of `message`."""
    return _after(text.split(BETWEEN_PARTS), message) is not None


def _after(parts: Sequence[str], message: str) -> str | None:
    """What is left of the message after these parts, None where one of them does not stand there."""
    for part in parts:
        end = _end_of(part, message)
        if end < 0:
            return None
        message = message[end:]
    return message


def _end_of(part: str, message: str) -> int:
    """Where the first run of whole words of the message that is `part` ends, -1 where there is none."""
    for start in _word_starts(message):
        end = start + len(part)
        cut = part[-1:].isalnum() and message[end : end + 1].isalnum()
        if part.strip() and message.startswith(part, start) and not cut:
            return end
    return -1


def _word_starts(message: str) -> list[int]:
    """Where a part may begin: at what is no space and does not stand inside of a word."""
    return [
        i
        for i, sign in enumerate(message)
        if not sign.isspace() and not (sign.isalnum() and message[i - 1 : i].isalnum())
    ]
