"""The tools of MCP servers as tools of ours: listed, checked and called over the standard streams of a child process.

What a server says (names, descriptions, schemas, hints, results) is untrusted text: it is checked or shortened, never
carried out. No call leaves before its arguments fit the server's schema, and a server gets neither our environment,
beyond PATH and the like, nor a way to ask our model or the person anything. It runs with the rights of whoever
started it, so start only what you would run by hand. Source: the Model Context Protocol, revision 2026-07-28.
"""

import json
import logging
import math
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

import anyio
import mcp_types as types
from anyio.from_thread import start_blocking_portal
from mcp import Client, MCPError, StdioServerParameters, stdio_client

from agents.tool_agent.json_schema import SchemaArguments, arguments_of
from agents.tool_agent.tools import Tool, ToolError, one_line
from llmm.errors import UserError

for _name in ("mcp", "client"):  # a line that is no message would be logged with its traceback
    logging.getLogger(_name).addHandler(logging.NullHandler())


@dataclass(frozen=True)
class McpTool(Tool):
    """A tool of a server. `effect`: it may change something, which the server denies by readOnlyHint alone;
    `destructive`: what it changes may be lost (destructiveHint). Both are the server's word about itself."""

    effect: bool = True
    destructive: bool = True


class McpServer:
    """`with McpServer(["python", "server.py"]) as server: server.tools`; the process ends with the block."""

    def __init__(self, command: Sequence[str], timeout: float = 30.0, cwd: Path | None = None) -> None:
        """`timeout`: seconds for the start with the listing, and for each call."""
        self.command, self.timeout, self.cwd = one_line(command[0], 120), timeout, cwd  # the rest may hold a secret
        self.tools: list[Tool] = []
        self._words, self._stack = list(command), ExitStack()

    def __enter__(self) -> "McpServer":
        """Raises UserError where the server cannot be started or offers a tool that cannot be used."""
        kept = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # what it says on standard error
        errors = cast(TextIO, self._stack.enter_context(kept))
        try:
            self._portal = self._stack.enter_context(start_blocking_portal())
            self._stack.callback(self._portal.call, self._portal.stop, True)  # also where ctrl-C came while it started
            session = self._portal.wrap_async_context_manager(self._session(errors))
            self._client, listed = self._stack.enter_context(session)
            self.tools = [self._tool(tool) for tool in listed]
        except BaseException as error:
            said = _last_line(errors)
            self._close()
            if isinstance(error, UserError) or not isinstance(error, Exception):
                raise
            said = f"; its standard error ends with {said!r}" if said else ""
            raise UserError(f"the MCP server `{self.command}` did not start: {self._why(error)}{said}") from None
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        """End the process, with force after two seconds."""
        with suppress(Exception):  # of a server that has died there is nothing left to say
            self._stack.close()

    @asynccontextmanager
    async def _session(self, errors: TextIO) -> AsyncIterator[tuple[Client, list[types.Tool]]]:
        """The connection and the list of tools. The deadline is that of the start only."""
        with anyio.fail_after(self.timeout) as start:
            parameters = StdioServerParameters(command=self._words[0], args=self._words[1:], cwd=self.cwd)
            async with Client(stdio_client(parameters, errors)) as client:
                page = await client.list_tools()
                listed = page.tools
                while page.next_cursor:
                    page = await client.list_tools(cursor=page.next_cursor)
                    listed += page.tools
                start.deadline = math.inf
                yield client, listed

    def _tool(self, offered: types.Tool) -> McpTool:
        try:
            arguments = arguments_of(offered.name, offered.input_schema)
        except ValueError as error:
            raise UserError(f"the tool {offered.name!r} of the MCP server `{self.command}`: {error}") from None

        def run(checked: SchemaArguments) -> str:
            return self._call(offered.name, checked.model_extra or {})

        hints = offered.annotations or types.ToolAnnotations()
        effect = hints.read_only_hint is not True
        description = one_line(offered.description or offered.title or offered.name, 1000)
        return McpTool(
            offered.name, description, arguments, run, effect, effect and hints.destructive_hint is not False
        )

    def _call(self, name: str, arguments: dict[str, Any]) -> str:
        """Raises ToolError where the server fails, says that the tool failed, or sends something else than text."""
        try:
            result = self._portal.call(self._ask, name, arguments)
        except Exception as error:  # whatever a foreign process may bring about
            raise ToolError(f"{name} failed: {self._why(error)}") from None
        texts = []
        for block in result.content:
            if not isinstance(block, types.TextContent):
                raise ToolError(f"{name} returned content of type {block.type}; only text can be read")
            texts.append(block.text)
        text = "\n".join(texts)
        if result.is_error:
            raise ToolError(text or f"{name} failed")
        if not text and result.structured_content is not None:
            text = json.dumps(result.structured_content, ensure_ascii=False)
        return text or "(no output)"

    async def _ask(self, name: str, arguments: dict[str, Any]) -> types.CallToolResult:
        with anyio.fail_after(self.timeout):
            return await self._client.call_tool(name, arguments)

    def _why(self, error: BaseException) -> str:
        """A fault in a few words."""
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, TimeoutError):
            return f"no answer within {self.timeout:g} s"
        if isinstance(error, MCPError) and error.code == types.CONNECTION_CLOSED:
            return "it has ended"
        words = one_line(str(error), 160)
        return f"it answered {words!r}" if isinstance(error, MCPError) else words or type(error).__name__


def _last_line(errors: TextIO) -> str:
    """What the server wrote last to its standard error."""
    errors.seek(0)
    lines = errors.read().strip().splitlines()
    return one_line(lines[-1], 160) if lines else ""
