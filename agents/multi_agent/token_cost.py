"""Tokens that a model reads and writes for a task of k parts: in one conversation, and in a fresh one for each part.

Every turn reads the conversation so far, so a single agent reads its first result k times: the cost grows with k². A
worker sees its own part alone, and the cost grows with k, from a higher start: somebody has to take the task apart.
README, section 4.
"""

import math


def conversation(k: int, prompt: int, call: int, result: int, answer: int) -> int:
    """Tokens read and written by one agent: k calls and results, then an answer, every turn reading all before: (4.1).

    `prompt` is the message; `call`, `result` and `answer` are turns.
    """
    read = (k + 1) * prompt + (call + result) * k * (k + 1) // 2
    return read + k * call + answer


def team(k: int, prompt: int, part: int, call: int, result: int, answer: int) -> int:
    """The same of a planner, which reads the message and writes k parts of `part` tokens, and k workers: (4.2)."""
    planner = prompt + k * part
    return planner + k * conversation(1, part, call, result, answer)


def crossing(prompt: int, part: int, call: int, result: int, answer: int) -> int:
    """The smallest number of parts for which the team reads and writes fewer tokens, where a message of k parts has
    `prompt` + k `part` tokens: (4.3). Raises ValueError where a call with its result has no tokens."""
    if call + result <= 0:
        raise ValueError("a conversation that does not grow is never the dearer one")
    bound = 4 + math.ceil(8 * (prompt + part + call + result + answer + 1) / (call + result + 2 * part))
    found = (
        k
        for k in range(1, bound + 1)
        if team(k, prompt + k * part, part, call, result, answer)
        < conversation(k, prompt + k * part, call, result, answer)
    )
    return next(found)
