"""What a right final answer is, as a function of the question's kind and the tool's result: short, and checkable."""

from typing import Literal

from agents.tool_agent.tools import ERROR

Kind = Literal["calculator", "python", "search_docs", "signature", "summary", "module"]


def final_answer(kind: Kind, result: str) -> str:
    """The sentence that answers a question of `kind` from `result`; every character of the fact is copied from it."""
    if result.startswith(ERROR):
        fault = result.removeprefix(ERROR)
        return {
            "calculator": f"I cannot calculate that: {fault}.",
            "python": f"The program failed: {fault}.",
            "search_docs": "I found nothing about that.",
        }.get(kind, f"I cannot look that up: {fault}.")
    if kind == "calculator":
        return f"The answer is {result}."
    if kind == "python":
        return f"The result is {result}."
    if kind == "search_docs":
        return result.split("\n")[0].removeprefix("[1] ")
    signature, module, summary = result.split("\n", 2)
    if kind == "signature":
        return signature
    return f"It is in the {module}." if kind == "module" else summary or "It has no description."
