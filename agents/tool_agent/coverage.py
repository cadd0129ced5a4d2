"""Numbers of a message that its calls leave out: "20000 people, 3832 got on and 85 got off" is not 20000+85-85.

Whoever says a number wants it used. A model that copies one number twice and another one not at all may be sure of
every token of that: what is missing has no token to blame. So a call pays for each number that it leaves out. It is a
price and no rule, since some numbers are said in passing.
Source: the coverage penalty of translation, Wu et al. 2016 (1609.08144), equation 14. README, section 3.
"""

import json
import re
from collections import Counter

from llmm.training.lora.chat import Conversation

_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?")
_COMMAS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


def left_out(conversation: Conversation, call: str) -> int:
    """How many numbers that the user wrote last, in digits, neither the calls since then nor `call` (JSON) copy.

    A number that is said twice has to be copied twice; one in a name (base64) is none. Whether 12,200 is a number or
    two of a list is for the calls to say: the reading counts in which they leave out less.
    """
    asked = max((i for i, message in enumerate(conversation) if message.role == "user"), default=-1)
    if asked < 0:
        return 0
    copied = _copied(call)
    for message in conversation[asked + 1 :]:
        if message.role == "tool_call":
            copied += _copied(message.text)
    text = conversation[asked].text
    return min((Counter(_NUMBER.findall(said)) - copied).total() for said in (text, _COMMAS.sub("", text)))


def _copied(call: str) -> Counter[str]:
    try:
        values = json.loads(call)["arguments"].values()
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        values = [call]
    return Counter(_NUMBER.findall("\n".join(map(str, values))))
