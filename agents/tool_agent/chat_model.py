"""Our model as a chat model of langchain-core, so that `langchain.agents.create_agent` drives it, under limits.

The model knows the four tools it was tuned on; `bind_tools` takes any subset of them and refuses others.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool, StructuredTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from agents.tool_agent.policy import ModelPolicy
from agents.tool_agent.tools import Arguments, Tool, Toolbox
from llmm.errors import UserError
from llmm.training.lora.chat import Message, call_text


class ToolChatModel(BaseChatModel):
    """A tuned GPT that answers or calls one tool. The grammar of the bound tools masks its output."""

    policy: Any  # ModelPolicy, which is no pydantic model
    max_tokens: int = 160

    @property
    def _llm_type(self) -> str:
        return "llmm"

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """The same model with the grammar of `tools`. Raises UserError for a tool that it was not tuned on."""
        known = {tool.name: tool for tool in self.policy.tools}
        names = [convert_to_openai_tool(tool)["function"]["name"] for tool in tools]
        for name in names:
            if name not in known:
                raise UserError(f"the model was not tuned on the tool {name!r}; it knows {', '.join(known)}")
        policy = self.policy.with_tools([known[name] for name in names])
        return ToolChatModel(policy=policy, max_tokens=self.max_tokens)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        turn = self.policy.turns([to_conversation(messages)], self.max_tokens)[0]
        if turn.message is None:
            answer = AIMessage(content="", response_metadata={"finish_reason": "length"})
        elif turn.message.role == "assistant":
            answer = AIMessage(content=turn.message.text, response_metadata={"finish_reason": "stop"})
        else:
            call = json.loads(turn.message.text)
            number = sum(isinstance(message, AIMessage) for message in messages)
            answer = AIMessage(
                content="",
                tool_calls=[{"name": call["name"], "args": call["arguments"], "id": f"call_{number}"}],
                response_metadata={"finish_reason": "tool_calls"},
            )
        return ChatResult(generations=[ChatGeneration(message=answer)])


def to_conversation(messages: Sequence[BaseMessage]) -> list[Message]:
    """langchain's messages as ours. System prompts are left out: the model was tuned without any."""
    conversation: list[Message] = []
    for message in messages:
        text = message.content if isinstance(message.content, str) else str(message.text)
        if isinstance(message, HumanMessage):
            conversation.append(Message("user", text))
        elif isinstance(message, ToolMessage):
            conversation.append(Message("tool_result", text))
        elif isinstance(message, AIMessage):
            calls = [Message("tool_call", call_text(call["name"], call["args"])) for call in message.tool_calls]
            conversation += calls or [Message("assistant", text)]
    return conversation


def langchain_tools(toolbox: Toolbox) -> list[BaseTool]:
    """The tools for langchain. A failed call returns its message, since a tool that raises would end the run."""
    return [_langchain_tool(tool, toolbox) for tool in toolbox.tools.values()]


def _langchain_tool(tool: Tool, toolbox: Toolbox) -> BaseTool:
    def run(**arguments: Any) -> str:
        return toolbox.call(call_text(tool.name, arguments)).text

    schema: type[Arguments] = tool.arguments
    return StructuredTool.from_function(run, name=tool.name, description=tool.description, args_schema=schema)


def create_limited_agent(policy: ModelPolicy, toolbox: Toolbox, steps: int = 4) -> Any:
    """langchain's agent over our model and tools with at most `steps` turns of the model.

    langchain's own limit is thousands of turns, so both middlewares and the recursion limit are set.
    """
    from langchain.agents import create_agent
    from langchain.agents.middleware import ModelCallLimitMiddleware, ToolCallLimitMiddleware

    limits: list[Any] = [
        ModelCallLimitMiddleware(run_limit=steps, exit_behavior="end"),
        ToolCallLimitMiddleware(run_limit=steps, exit_behavior="continue"),
    ]
    agent = create_agent(ToolChatModel(policy=policy), langchain_tools(toolbox), middleware=limits)
    return agent.with_config(recursion_limit=10 * steps + 10)
