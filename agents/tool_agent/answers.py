"""What a right final answer is, as a function of the question's kind and the tool's result: short, and checkable."""

import itertools
import math
import re
from collections.abc import Sequence
from typing import Literal

from agents.tool_agent.tools import ERROR, one_line

# What can be asked of a result: the value of a calculation or a program, the best line of a search; and of an object
# its signature, what it does and where it lives
Kind = Literal["calculator", "python", "search_docs", "signature", "summary", "module"]
TOOL_OF: dict[Kind, str] = {
    "calculator": "calculator",
    "python": "python",
    "search_docs": "search_docs",
    "signature": "signature",
    "summary": "signature",
    "module": "signature",
}
_MOST = 100  # answers that one turn is chosen from
_MOST_CHARS = 145  # of a value: a digit is a token, and a turn has 160
_HIT = re.compile(r"\[1\] (.+)")
_OBJECT = re.compile(r"(.+)\n(module .+)\n(.*)")


def possible_answers(results: Sequence[tuple[Sequence[Kind], str]]) -> list[str]:
    """Every answer that (kinds of question, result) pairs give together, in their order; whatever was asked of each.

    Raises ValueError where a result is none that a tool for these questions gives, or the answers are too many.
    """
    each = [dict.fromkeys(final_answer(kind, result) for kind in kinds) for kinds, result in results]
    if math.prod(map(len, each)) > _MOST:
        raise ValueError(f"more than {_MOST} answers")
    return [" ".join(parts) for parts in itertools.product(*each)]


def final_answer(kind: Kind, result: str) -> str:
    """The sentence that answers a question of `kind` from `result`; every character of the fact is copied from it.

    Raises ValueError where `result` is none that a tool for such questions gives.
    """
    if result.startswith(ERROR):
        fault = result.removeprefix(ERROR)
        return {
            "calculator": f"I cannot calculate that: {fault}.",
            "python": f"The program failed: {fault}.",
            "search_docs": "I found nothing about that.",
        }.get(kind, f"I cannot look that up: {fault}.")
    if kind in ("calculator", "python"):
        value = result if len(result) <= _MOST_CHARS else one_line(result, _MOST_CHARS)
        return f"The {'answer' if kind == 'calculator' else 'result'} is {value}."
    read = _HIT.match(result) if kind == "search_docs" else _OBJECT.fullmatch(result)
    if read is None:
        raise ValueError(f"a result in another form: {result[:80]!r}")
    if kind == "search_docs":
        return read[1]
    signature, module, summary = read.groups()
    if kind == "signature":
        return f"Its signature is {signature}"
    if kind == "module":
        return f"It is in the {module}."
    return f"Its docstring says: {summary}" if summary else "It has no docstring."
