"""What the model may write: first a role, then free text or exactly one valid call; everything else is masked out.

After `<|tool_call|>` a grammar compiled by llguidance from the tools' JSON schemas allows one compact object
`{"name":...,"arguments":{...}}` and then `<|end|>`. After `<|assistant|>` any text without special tokens goes. So
every finished call fits its schema, whatever the weights: validity is no measure of the model.
"""

import json
from collections.abc import Sequence
from typing import Any

import llguidance
import llguidance.torch as masks
import torch
from torch import Tensor

from agents.tool_agent.tools import Tool
from llmm.training.lora.chat import ChatCodec

_COMPACT: Any = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"}


class CallGrammar:
    """The grammar for one tokenizer and one set of tools; `processor` masks the logits of one batched generation."""

    def __init__(self, codec: ChatCodec, tools: Sequence[Tool]) -> None:
        self.codec = codec
        # without tools the role of a call is masked out, and this grammar is never asked
        self.grammar = (
            llguidance.LLMatcher.grammar_from_json_schema(_schema(tools), overrides=_COMPACT) if tools else ""
        )
        self.tokenizer = llguidance.LLTokenizer(codec.tokenizer.to_str(), n_vocab=codec.vocab_size, eos_token=codec.end)
        free = torch.zeros(codec.vocab_size)
        free[[index for index in codec.special_ids if index != codec.end]] = -torch.inf
        first = torch.full((codec.vocab_size,), -torch.inf)
        first[codec.role_ids["assistant"]] = 0
        if tools:
            first[codec.role_ids["tool_call"]] = 0
        self.free, self.first = free, first

    def processor(self) -> "GrammarMasks":
        """A fresh mask for one call of `generate`."""
        return GrammarMasks(self)


class GrammarMasks:
    """A logits processor: follows what each row has written and forbids what may not come next."""

    def __init__(self, grammar: CallGrammar) -> None:
        self._of = grammar
        self._matchers: dict[int, llguidance.LLMatcher] = {}
        self._consumed: dict[int, int] = {}
        self._bits = masks.allocate_token_bitmask(1, grammar.codec.vocab_size)

    def __call__(self, rows: Sequence[int], generated: list[list[int]], logits: Tensor) -> Tensor:
        """Logits (B, V) with -inf wherever the grammar does not allow the token."""
        logits = logits.clone()
        codec = self._of.codec
        for position, row in enumerate(rows):
            written = generated[position]
            if not written:
                logits[position] += self._of.first
            elif written[-1] == codec.end:
                continue  # the row has stopped; whatever comes is thrown away
            elif written[0] == codec.role_ids["assistant"]:
                logits[position] += self._of.free
            else:
                self._mask_call(row, written, logits[position : position + 1])
        return logits

    def _mask_call(self, row: int, written: list[int], logits_1V: Tensor) -> None:
        if row not in self._matchers:
            self._matchers[row] = llguidance.LLMatcher(self._of.tokenizer, self._of.grammar)
            self._consumed[row] = 1  # the role's token stands before the grammar
        matcher = self._matchers[row]
        matcher.consume_tokens(written[self._consumed[row] :])
        self._consumed[row] = len(written)
        masks.fill_next_token_bitmask(matcher, self._bits, 0)
        masks.apply_token_bitmask_inplace(logits_1V, self._bits)


def _schema(tools: Sequence[Tool]) -> str:
    """JSON schema of a call: one of the tools, with its arguments. Free strings are held to printable characters."""
    options = []
    for tool in tools:
        properties = {}
        for name, field in tool.schema()["properties"].items():
            kept = {key: field[key] for key in ("type", "minLength", "maxLength") if key in field}
            if "pattern" in field:
                kept = {"type": "string", "pattern": field["pattern"][:-2] + "{1," + str(field["maxLength"]) + "}$"}
            properties[name] = kept
        arguments = {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
        options.append(
            {
                "type": "object",
                "properties": {"name": {"const": tool.name}, "arguments": arguments},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    return json.dumps({"anyOf": options})
