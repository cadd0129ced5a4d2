"""What the model may write: first a role, then an answer or exactly one valid call; everything else is masked out.

After `<|tool_call|>` a grammar compiled by llguidance from the tools' JSON schemas allows one compact object
`{"name":...,"arguments":{...}}`, or the same in words where the codec writes calls so (calls.py), and then `<|end|>`.
Its strings are made of what the conversation says (evidence.py). So every finished call fits its schema, whatever the
weights: validity is no measure of the model. After `<|assistant|>` any text without special tokens goes. Only where
tools were called whose results answer in few ways (answers.py) it is one of these: the model chooses what was asked
for, and nothing is retold.
"""

import json
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import llguidance
import llguidance.numpy as masks
import numpy as np
import torch
from torch import Tensor

from agents.tool_agent.answers import possible_answers
from agents.tool_agent.assistant_tools import AnsweringTool
from agents.tool_agent.evidence import pattern_of
from agents.tool_agent.tools import Tool
from agents.tool_agent.trace import called_tool
from llmm.training.lora.calls import PROGRAM, in_words
from llmm.training.lora.chat import ChatCodec, Conversation, Message, as_read
from llmm.training.lora.spaced import space_of

_COMPACT: Any = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"}


class CallGrammar:
    """The grammar for one tokenizer and one set of tools; `processor` masks the logits of one batched generation."""

    def __init__(self, codec: ChatCodec, tools: Sequence[Tool]) -> None:
        self.codec = codec
        self.calls = bool(tools)  # whether a turn may be a call
        self._arguments = {tool.name: tool.schema()["properties"] for tool in tools}
        self._answers = {tool.name: tool.answers for tool in tools if isinstance(tool, AnsweringTool)}
        self.tokenizer = llguidance.LLTokenizer(codec.tokenizer.to_str(), n_vocab=codec.vocab_size, eos_token=codec.end)
        free = torch.zeros(codec.vocab_size)
        free[[index for index in codec.special_ids if index != codec.end]] = -torch.inf
        first = torch.full((codec.vocab_size,), -torch.inf)
        first[codec.role_ids["assistant"]] = 0
        if self.calls:  # without tools the role of a call is masked out, and no grammar is ever asked for
            first[codec.role_ids["tool_call"]] = 0
        self.free, self.first = free, first

    def processor(self, conversations: Sequence[Conversation]) -> "TurnMasks":
        """A fresh mask for one call of `generate`, whose rows continue `conversations`."""
        return GrammarMasks(self, conversations)

    def matcher(self, conversation: Conversation) -> llguidance.LLMatcher:
        """What follows a call token by token: a valid call whose arguments come from `conversation`, as it is read."""
        read, space = as_read(conversation), space_of(self.codec)
        grammar = _in_words(self._arguments, read, space) if space else _as_json(self._arguments, read)
        return llguidance.LLMatcher(self.tokenizer, grammar)

    def answers(self, conversation: Conversation) -> list[list[int]] | None:
        """The turns that answer from the results since the user spoke last; None where any text may: nothing was
        called, or a tool whose results are not known here."""
        asked = max((i for i, message in enumerate(conversation) if message.role == "user"), default=-1)
        turns = conversation[asked + 1 :]
        results = []
        for call, result in zip(turns[::2], turns[1::2], strict=False):
            kinds = self._answers.get(called_tool(call.text)) if call.role == "tool_call" else None
            if result.role != "tool_result" or not kinds:
                return None
            results.append((kinds, result.text))
        if not results:
            return None
        try:
            texts = possible_answers(results)
        except ValueError:  # somebody else's result, or far too many
            return None
        return [self.codec.turn(Message("assistant", text)) for text in texts]


class TurnMasks(ABC):
    """A logits processor for one turn of each of some conversations, a row each."""

    @abstractmethod
    def __call__(self, rows: Sequence[int], generated: list[list[int]], logits: Tensor) -> Tensor:
        """Logits (B, V) with -inf wherever the token may not come after what was generated."""

    def prepare(self, row: int) -> object:
        """Make ready what the row will need, where that takes a while: another thread can do it beforehand."""
        return None

    def whole(self, row: int, written: list[int]) -> list[int]:
        """The turn that `written` stands for, which is itself where turns are not cut short."""
        return written


class GrammarMasks(TurnMasks):
    """Follows what each row has written and forbids what the grammar does not allow.

    Nobody has to write what is certain: where one answer is left, its end may come at once, and `whole` has the rest.
    """

    def __init__(self, grammar: CallGrammar, conversations: Sequence[Conversation]) -> None:
        self._of, self._conversations = grammar, conversations
        self._matchers: dict[int, llguidance.LLMatcher] = {}
        self._consumed: dict[int, int] = {}
        self._answers: dict[int, list[list[int]] | None] = {}
        self._bits = masks.allocate_token_bitmask(1, grammar.codec.vocab_size)
        self._building = threading.Lock()

    def prepare(self, row: int) -> llguidance.LLMatcher:
        """The row's matcher, built at the first call: some milliseconds."""
        with self._building:
            if row not in self._matchers:
                self._matchers[row] = self._of.matcher(self._conversations[row])
                self._consumed[row] = 1  # the role's token stands before the grammar
            return self._matchers[row]

    def __call__(self, rows: Sequence[int], generated: list[list[int]], logits: Tensor) -> Tensor:
        """See TurnMasks."""
        logits = logits.clone()
        codec = self._of.codec
        for position, row in enumerate(rows):
            written = generated[position]
            if not written:
                logits[position] += self._of.first
            elif written[-1] == codec.end:
                continue  # the row has stopped; whatever comes is thrown away
            elif written[0] == codec.role_ids["assistant"]:
                self._mask_answer(row, written, logits[position])
            else:
                self._mask_call(row, written, logits[position : position + 1])
        return logits

    def whole(self, row: int, written: list[int]) -> list[int]:
        """The turn that `written` stands for: an answer is cut short where only one goes on as it has begun."""
        if written[:1] != [self._of.codec.role_ids["assistant"]] or written[-1] != self._of.codec.end:
            return written
        begun = self._begun(row, written[:-1]) or []
        return begun[0] if len(begun) == 1 else written

    def _mask_answer(self, row: int, written: list[int], logits_V: Tensor) -> None:
        begun = self._begun(row, written)
        if begun is None:
            logits_V += self._of.free
            return
        may_come = sorted({turn[len(written)] for turn in begun}) if len(begun) > 1 else [self._of.codec.end]
        kept = logits_V[may_come]
        logits_V.fill_(-torch.inf)
        logits_V[may_come] = kept

    def _begun(self, row: int, written: list[int]) -> list[list[int]] | None:
        """The answers that begin with `written`; None where any text may come."""
        if row not in self._answers:
            self._answers[row] = self._of.answers(self._conversations[row])
        answers = self._answers[row]
        return answers and [turn for turn in answers if turn[: len(written)] == written]

    def _mask_call(self, row: int, written: list[int], logits_1V: Tensor) -> None:
        matcher = self.prepare(row)
        matcher.consume_tokens(written[self._consumed[row] :])
        self._consumed[row] = len(written)
        masks.fill_next_token_bitmask(matcher, self._bits)
        allowed = np.unpackbits(self._bits.view(np.uint8), count=logits_1V.shape[1], bitorder="little")
        logits_1V.masked_fill_(torch.from_numpy(allowed == 0).to(logits_1V.device), -torch.inf)


def _as_json(tools: dict[str, dict[str, Any]], read: Conversation) -> str:
    """The grammar of a call of one of `tools`, whose arguments have these schemas, as JSON after `read`."""
    schema = {"anyOf": [_call(tool, fields, read) for tool, fields in tools.items()]}
    grammar: str = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=_COMPACT)
    return grammar


def _in_words(tools: dict[str, dict[str, Any]], read: Conversation, space: str) -> str:
    """The same in words; but calls of a tool that has not one string for its argument as JSON. `space` comes first."""
    rules: dict[str, str] = {}
    for number, (tool, fields) in enumerate(tools.items()):
        argument = next(iter(fields), "")
        if len(fields) == 1 and fields[argument].get("type") == "string" and in_words(tool, argument):
            field = _narrowed(fields[argument], read, space if argument == PROGRAM else "")
            rules[f"WORDS{number}"] = f"{json.dumps(f'{space}{tool} {argument} ')} ({_string(field)})"
        else:
            rules[f"json{number}"] = (
                f'"{space}" %json {json.dumps({**_call(tool, fields, read), "x-guidance": _COMPACT})}'
            )
    return "\n".join([f"start: {' | '.join(rules)}", *(f"{name}: {rule}" for name, rule in rules.items())])


def _string(field: dict[str, Any]) -> str:
    """What a string may be, in llguidance's variant of Lark: its pattern and its length at once."""
    least, most = field.get("minLength", 0), field.get("maxLength", "")
    both = [rf"/(?s:.){{{least},{most}}}/"]
    if pattern := field.get("pattern"):
        begins, ends = pattern.startswith("^"), pattern.endswith("$")
        inner = re.sub(r"(?<!\\)/", r"\/", pattern[begins : len(pattern) - ends])
        both.append(f"/{'' if begins else '(?s:.*)'}(?:{inner}){'' if ends else '(?s:.*)'}/")
    return " & ".join(both)


def _call(tool: str, fields: dict[str, Any], read: Conversation) -> dict[str, Any]:
    arguments = {name: _narrowed(field, read) for name, field in fields.items()}
    return _object({"name": {"const": tool}, "arguments": _object(arguments)})


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    required = list(properties)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _narrowed(field: dict[str, Any], conversation: Conversation, before_strings: str = "") -> dict[str, Any]:
    """The schema of one argument. Where the conversation says nothing that it could be, any valid string will do."""
    kept: dict[str, Any] = {key: field[key] for key in ("type", "minLength", "maxLength", "pattern") if key in field}
    if "source" in field and (pattern := pattern_of(field["source"], conversation, before_strings)):
        kept["pattern"] = f"^(?:{pattern})$"
    return kept
