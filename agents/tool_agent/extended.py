"""The agent with more than it was made with: tools of MCP servers, and a model behind a server in place of ours.

Whatever decides the turns, calls of foreign tools wait for `ask` (approval.py): what a server says of its own tools is
believed on request only. Our own model was never tuned on foreign tools: the grammar holds its calls to their schemas,
but which tool it takes is little better than chance.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.tool_agent.agent import load_agent, load_toolbox
from agents.tool_agent.approval import GuardedToolbox
from agents.tool_agent.grammar import CallGrammar
from agents.tool_agent.loop import Limits, run_tasks
from agents.tool_agent.mcp_tools import McpServer, McpTool
from agents.tool_agent.policy import Policy
from agents.tool_agent.server_policy import SERVER_LIMITS, ServerPolicy
from agents.tool_agent.tools import Tool, Toolbox, one_line
from agents.tool_agent.trace import Trace
from llmm.errors import UserError
from llmm.training.lora.chat import ChatCodec

OWN_LIMITS = Limits(seconds=600)  # there is a person to wait for
_HELD = {"type", "minLength", "maxLength", "pattern"}  # what grammar.py keeps of an argument's schema
_NOTES = {"title", "description", "default", "examples", "format", "$comment"}  # what refuses no value
_OF_OBJECTS = {"type", "properties", "required", "additionalProperties", "$schema", "$id", "$defs", "definitions"}


@dataclass(frozen=True)
class ModelServer:
    """An OpenAI-compatible server, one of its models, and the key if it wants one."""

    base_url: str
    model: str
    key: str | None = None


def run_extended(
    task: str,
    commands: Sequence[tuple[Sequence[str], Path]],
    server: ModelServer | None,
    ask: Callable[[str], bool],
    trust: bool = False,
) -> Trace:
    """Do `task` with the project's tools and those of the MCP servers that (command, folder) start.

    Every call of theirs waits for `ask`; with `trust` those of tools that a server says only read do not.

    Raises UserError where an artifact, a server or one of its tools cannot be used.
    """
    with ExitStack() as stack:
        servers = [stack.enter_context(McpServer(command, cwd=folder)) for command, folder in commands]
        policy: Policy
        if server is None:
            agent = load_agent()
            tools = with_servers(agent.tools, servers)
            check_grammar((tool for tool in tools.tools.values() if isinstance(tool, McpTool)), agent.policy.codec)
            policy = agent.policy.with_tools(list(tools.tools.values()))
        else:
            tools = with_servers(load_toolbox(), servers)
            policy = ServerPolicy(server.base_url, server.model, list(tools.tools.values()), server.key)
        limits = OWN_LIMITS if server is None else SERVER_LIMITS
        return run_tasks([(task, ())], policy, GuardedToolbox(tools, effects_of(tools, trust), ask), limits)[0]


def with_servers(tools: Toolbox, servers: Sequence[McpServer]) -> Toolbox:
    """`tools` and those of the servers. Raises UserError where two have one name."""
    together = dict(tools.tools)
    for server in servers:
        for tool in server.tools:
            if tool.name in together:
                raise UserError(
                    f"the MCP server `{server.command}` offers a tool {tool.name!r}, but there is one of that name: "
                    "leave one of the two out"
                )
            together[tool.name] = tool
    return Toolbox(list(together.values()))


def effects_of(tools: Toolbox, trust: bool) -> set[str]:
    """The names of the tools whose calls may change something: all of a server's, with `trust` less what only reads."""
    foreign = {name: tool for name, tool in tools.tools.items() if isinstance(tool, McpTool)}
    return {name for name, tool in foreign.items() if tool.effect or not trust}


def check_grammar(tools: Iterable[Tool], codec: ChatCodec) -> None:
    """Raises UserError where our model's grammar could write a call of a tool that the tool's schema refuses."""
    for tool in tools:
        if (beyond := _beyond_grammar(tool.schema())) is None:
            beyond = CallGrammar(codec, [tool]).matcher(()).get_error().strip() or None
        if beyond is not None:
            raise UserError(
                f"the grammar of our model does not hold the tool {tool.name!r}: {one_line(beyond, 160)}; "
                "use a model behind a server (--server), which needs no grammar"
            )


def _beyond_grammar(schema: dict[str, Any]) -> str | None:
    if extra := sorted(set(schema) - _OF_OBJECTS - _NOTES):
        return f"its schema uses {extra[0]!r}"
    if missing := sorted(set(schema.get("required", ())) - set(schema["properties"])):
        return f"the schema of its argument {missing[0]!r} is missing"
    for name, field in schema["properties"].items():
        if not isinstance(field, dict):
            return f"the schema of its argument {name!r} is {field}"
        if extra := sorted(set(field) - _HELD - _NOTES):
            return f"the schema of its argument {name!r} uses {extra[0]!r}"
    return None
