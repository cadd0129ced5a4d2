"""Side effects wait for a person: a call that changes something runs only after someone has said yes to this very call.

Text that a tool returns can talk a model into a call, but it cannot approve one: the question goes to a function that
nothing reaches but the call itself. So whatever the model writes, the calls that are begun are those that were
approved, README (6.1). Source: Debenedetti et al. 2024 (2406.13352), for what injected text does to agents.
"""

from collections.abc import Callable, Collection

from agents.tool_agent.tools import ERROR, Toolbox, ToolError, ToolResult, shorten

Ask = Callable[[str], bool]  # the call as it will be carried out → whether a person approves
REFUSED = f"{ERROR}not approved"


class GuardedToolbox(Toolbox):
    """The tools of another toolbox; a call of one of `effects` is carried out only where `ask` says yes to it."""

    def __init__(self, tools: Toolbox, effects: Collection[str], ask: Ask) -> None:
        """Raises ValueError where an effect names no tool: a guard with a slip in it would guard nothing."""
        if unknown := sorted(set(effects) - set(tools.tools)):
            raise ValueError(f"there is no tool {unknown[0]} to guard; there are {', '.join(tools.tools)}")
        super().__init__(list(tools.tools.values()))
        self.effects, self.ask = frozenset(effects), ask

    def call(self, text: str) -> ToolResult:
        """See Toolbox. Asked is only about calls that would run, with checked arguments; each one anew."""
        try:
            tool, arguments = self.parse(text)
            if tool.name in self.effects and not self.ask(f"{tool.name}({arguments.model_dump_json()})"):
                return ToolResult(REFUSED, ok=False)
            result = tool.run(arguments)  # these very arguments, which were shown
        except ToolError as error:
            return ToolResult(shorten(f"{ERROR}{error}"), ok=False)
        return ToolResult(shorten(result), ok=True)
