"""Any model behind an OpenAI-compatible server as a policy of our loop: `/v1/chat/completions` with `tools`.

The loop stays ours, and with it the budgets, the check of every call, the approval and the trace; the server only says
what comes next. Nothing holds its model to a schema, so what is wrong with a call is told to it as a tool's result.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn
from urllib.parse import urlsplit

import openai

from agents.tool_agent.bounded_http import MOST_BYTES, bounded_client, within
from agents.tool_agent.chat_api import read_turn, to_messages
from agents.tool_agent.loop import Limits
from agents.tool_agent.policy import Turn
from agents.tool_agent.tools import Tool, one_line
from llmm.errors import UserError
from llmm.training.lora.chat import Conversation

KEY = "LLMM_API_KEY"  # the environment variable that holds the key
SERVER_LIMITS = Limits(steps=8, turn_tokens=1024, tokens=8192, seconds=600)  # large models are wordy, people slow
_NEW_LIMIT = "max_completion_tokens"  # OpenAI's own newer models refuse max_tokens; other servers know nothing else


class ServerPolicy:
    """Asks `model` at `base_url` for each turn, several conversations at once; of several calls it takes the first."""

    def __init__(
        self,
        base_url: str,
        model: str,
        tools: Sequence[Tool],
        key: str | None = None,
        timeout: float = 120.0,
        retries: int = 2,
        workers: int = 4,
    ) -> None:
        """`timeout`: seconds for a turn, from its request to the whole of its answer; within them it is asked for
        `retries` times more where the server is busy or out of reach. An answer has at most MOST_BYTES.

        Raises UserError for an address or a key that can be none.
        """
        self.name, self.address, self._key = model, _address(base_url), (key or "").strip()
        if not (self._key.isascii() and self._key.isprintable()):
            raise UserError(f"the key in {KEY} holds characters that no key has")
        self._timeout, self._workers, self._limit = timeout, workers, "max_tokens"
        key = self._key or "none"  # without one the library would take that of OPENAI_API_KEY
        self._client = openai.OpenAI(
            base_url=self.address, api_key=key, max_retries=retries, http_client=bounded_client(key, timeout)
        )
        functions = [
            {"name": tool.name, "description": tool.description, "parameters": tool.schema()} for tool in tools
        ]
        self._tools: Any = [{"type": "function", "function": function} for function in functions] or openai.omit

    def turns(self, conversations: Sequence[Conversation], max_tokens: int) -> list[Turn]:
        """See Policy. Raises UserError where the server cannot be asked or does not answer as the API has it."""
        if len(conversations) == 1:  # without a pool, so that ctrl-C waits for no answer
            return [self._turn(conversations[0], max_tokens)]
        with ThreadPoolExecutor(self._workers) as pool:
            return list(pool.map(lambda conversation: self._turn(conversation, max_tokens), conversations))

    def fits(self, conversation: Conversation, max_tokens: int) -> bool:
        """True: how long a conversation may be is the server's to say."""
        return True

    def _turn(self, conversation: Conversation, max_tokens: int) -> Turn:
        limit = self._limit
        try:
            answer = within(
                self._timeout,
                lambda: self._client.chat.completions.with_raw_response.create(
                    model=self.name,
                    messages=to_messages(conversation),  # type: ignore[arg-type]
                    tools=self._tools,
                    extra_body={limit: max_tokens},
                ),
            )
        except (openai.APITimeoutError, TimeoutError):
            self._fail(f"did not answer within {self._timeout:g} s and {MOST_BYTES // 1_000_000} MB")
        except openai.APIConnectionError as error:
            self._fail(f"cannot be reached: {error.__cause__ or error}")
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            self._fail(f"refuses the key ({error.status_code}): set {KEY} to a key of this server")
        except openai.APIStatusError as error:
            if error.status_code == 400 and limit != _NEW_LIMIT and _NEW_LIMIT in error.response.text:
                self._limit = _NEW_LIMIT
                return self._turn(conversation, max_tokens)
            self._fail(f"answered {error.status_code}: {error.response.text!r}")
        try:
            return read_turn(answer.content, max_tokens)
        except ValueError:
            self._fail(f"answered with no chat completion but {answer.text!r}")

    def _fail(self, what: str) -> NoReturn:
        if self._key:  # some servers repeat the key that they were given
            what = what.replace(self._key, "…")
        raise UserError(one_line(f"the model server at {self.address} {what}", 300)) from None


def _address(base_url: str) -> str:
    """The address with its "/v1". Raises UserError where it is none, or holds a secret that would be printed."""
    try:
        parts = urlsplit(base_url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # no number for a port
        valid = False
    if not valid or "@" in parts.netloc or parts.query or parts.fragment:
        raise UserError(f"the address of a model server is like http://localhost:8000/v1, and a key goes into {KEY}")
    return base_url.rstrip("/") + ("/v1" if parts.path in ("", "/") else "")
