"""Phrasings that training never sees; whoever writes the training phrasings has no need to read them."""

from types import ModuleType

from agents.tool_agent.phrasings.held_out import calculator, chat, follow_up, python, search, signature

MODULES: dict[str, ModuleType] = {
    "calculator": calculator,
    "chat": chat,
    "follow_up": follow_up,
    "python": python,
    "search": search,
    "signature": signature,
}
