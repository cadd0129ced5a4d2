"""Faults put into the tools of a team, to see what it makes of them."""

import random
from dataclasses import replace

from agents.tool_agent.tools import Tool, Toolbox, ToolError


class FaultyToolbox(Toolbox):
    """The tools of another toolbox, of whose calls a share of `rate` fails, each call by itself.

    With `persistent` a call that has failed fails every time, as a broken link does; else it may be luckier next time.
    """

    def __init__(self, tools: Toolbox, rate: float, seed: int, persistent: bool = False) -> None:
        super().__init__([self._faulty(tool) for tool in tools.tools.values()])
        self.rate, self.seed, self.persistent = rate, seed, persistent
        self.calls = 0

    def _faulty(self, tool: Tool) -> Tool:
        def run(arguments: object) -> str:
            self.calls += 1
            about = f"{tool.name} {arguments}" if self.persistent else self.calls
            if random.Random(f"{self.seed} {about}").random() < self.rate:
                raise ToolError("out of order")
            return tool.run(arguments)

        return replace(tool, run=run)
