"""What the agent is compared with: rules, random weights under the same grammar, and no tools at all."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from agents.tool_agent.answers import Kind, final_answer
from agents.tool_agent.phrasings import chat
from agents.tool_agent.policy import ModelPolicy, Turn
from agents.tool_agent.tools import Tool
from llmm.training.lora.chat import ChatCodec, Conversation, Message, call_text
from llmm.transformers.gpt import GPT, GPTConfig

_NUMBER = r"-?\d[\d,]*(?:\.\d+)?"
_NAME = r"[A-Za-z_][\w]*(?:\.[A-Za-z_]\w*)*"
_ARITHMETIC = re.compile(rf"(?:{_NUMBER}|[-+*/%^×÷x() ]|\*\*)+")

# (pattern, expression with \1, \2): tried in order; words of one operation that an engineer would think of first
_CALCULATIONS: tuple[tuple[str, str], ...] = (
    (rf"square root of ({_NUMBER})", r"sqrt(\1)"),
    (rf"sqrt\(?(?: of)? ?({_NUMBER})", r"sqrt(\1)"),
    (rf"({_NUMBER}) ?(?:%|percent|per cent) of ({_NUMBER})", r"\1*\2/100"),
    (rf"(?:average|mean) of ({_NUMBER}) and ({_NUMBER})", r"(\1+\2)/2"),
    (rf"(?:add|sum of|total of|sum) ({_NUMBER}),? and ({_NUMBER})", r"\1+\2"),
    (rf"add ({_NUMBER}) to ({_NUMBER})", r"\1+\2"),
    (rf"({_NUMBER}) (?:plus|and) ({_NUMBER})", r"\1+\2"),
    (rf"(?:subtract|take|deduct) ({_NUMBER}) (?:away )?from ({_NUMBER})", r"\2-\1"),
    (rf"difference (?:between|of) ({_NUMBER}) and ({_NUMBER})", r"\1-\2"),
    (rf"({_NUMBER}) (?:minus|less|take away) ({_NUMBER})", r"\1-\2"),
    (rf"(?:multiply|product of) ({_NUMBER}) (?:by|and|with|times) ({_NUMBER})", r"\1*\2"),
    (rf"({_NUMBER}) (?:times|multiplied by|x|×) ({_NUMBER})", r"\1*\2"),
    (rf"(?:divide|split|quotient of) ({_NUMBER}) (?:by|into|and) ({_NUMBER})", r"\1/\2"),
    (rf"({_NUMBER}) (?:divided by|over|÷) ({_NUMBER})", r"\1/\2"),
    (rf"({_NUMBER}) (?:mod|modulo) ({_NUMBER})", r"\1%\2"),
    (rf"({_NUMBER}) (?:to the power of|to the power|\^) ({_NUMBER})", r"\1**\2"),
    (rf"(?:square of|square) ({_NUMBER})|({_NUMBER}) squared", r"\1\2**2"),
    (rf"(?:double|twice) ({_NUMBER})", r"\1*2"),
    (rf"half of ({_NUMBER})", r"\1/2"),
)
_PROGRAMS: tuple[tuple[str, str], ...] = (
    (r"(?:run|execute|evaluate):? (.+)", r"\1"),
    (r"reverse (?:the (?:word|string) )?'?(\w+)'?", r"'\1'[::-1]"),
    (r"'?(\w+)'? (?:backwards|reversed)", r"'\1'[::-1]"),
    (r"how (?:many times|often) (?:does )?'?(\w)'? .*in '?(\w+)'?", r"'\2'.count('\1')"),
    (r"(?:length of|how long is) (?:the (?:word|string) )?'?(\w+)'?", r"len('\1')"),
    (r"how many (?:letters|characters) .*?(?:in|does) (?:the word )?'?(\w+)'?", r"len('\1')"),
    (r"(?:uppercase|upper case|capitals).* '?(\w+)'?$", r"'\1'.upper()"),
    (r"sort (?:the (?:list|numbers) )?\[?(\d+(?:, ?\d+)+)", r"sorted([\1])"),
    (r"(?:largest|biggest|max|maximum|highest).*? (\d+(?:, ?\d+)+)", r"max([\1])"),
    (r"(?:smallest|min|minimum|lowest).*? (\d+(?:, ?\d+)+)", r"min([\1])"),
    (r"is (\d+) (?:a )?prime", r"all(\1%i for i in range(2,\1))"),
    (r"(?:divisors|factors) of (\d+)", r"[i for i in range(1,\1+1) if \1%i==0]"),
    (r"(\d+) (?:in|to) binary", r"bin(\1)"),
    (r"(\d+) (?:in|to) hex", r"hex(\1)"),
    (r"factorial of (\d+)|(\d+) factorial", r"import math" + "\n" + r"math.factorial(\1\2)"),
    (r"(?:gcd|greatest common divisor) of (\d+) and (\d+)", r"import math" + "\n" + r"math.gcd(\1,\2)"),
    (r"sum of (?:the |all )?squares (?:up to|from 1 to) (\d+)", r"sum(i*i for i in range(1,\1+1))"),
    (r"sum of (?:the |all )?(?:numbers|integers) (?:up to|from 1 to) (\d+)", r"sum(range(1,\1+1))"),
)
_LOOK_UPS: tuple[tuple[str, Kind], ...] = (
    (rf"signature (?:of|for) ({_NAME})", "signature"),
    (rf"(?:arguments|parameters|args|params)\b.*?(?:of|for|does|to) ({_NAME})", "signature"),
    (rf"how (?:do i|is|can i|to) call ({_NAME})|how is ({_NAME}) called", "signature"),
    (rf"(?:which|what) module (?:has|contains|defines|is) ({_NAME})", "module"),
    (rf"where (?:is|does|can i find) ({_NAME}\.\w+)", "module"),
    (rf"what does ({_NAME}) do", "summary"),
    (rf"(?:explain|describe|what is|what's) ({_NAME}\.\w+)", "summary"),
)
_SEARCHES = (
    r"(?:search|look|find)\b.*?\b(?:for|about|on) (.+?)(?: in the (?:docs|documentation|library))?$",
    r"(?:docs|documentation|read|anything) (?:about|on|for) (.+)$",
    r"how (?:do|can|would|should) (?:i|you|one) (.+)$",
    r"(?:how|way|function|module) to (.+)$",
)
_SMALL_TALK: tuple[tuple[str, str], ...] = (
    (r"\b(?:thanks|thank you|thx|cheers)\b", chat.THANKS),
    (r"\b(?:bye|goodbye|see you|good night)\b", chat.BYE),
    (r"^(?:hi|hello|hey|good (?:morning|day|evening))\b", chat.HELLO),
    (r"who are you|your name|about yourself|are you an?\b", chat.WHO),
    (r"what can you do|your tools|tools do you have", chat.ABILITIES),
    (r"how are you", chat.FINE),
    (r"^(?:ok|okay|alright|fine|great|good)\b", chat.NEXT),
)


class RegexRouter:
    """Rules that an engineer would write in an afternoon: the bar that a model has to clear."""

    name = "regex_router"

    def turns(self, conversations: Sequence[Conversation], max_tokens: int) -> list[Turn]:
        """See Policy."""
        return [Turn(self._next(conversation), 0) for conversation in conversations]

    def fits(self, conversation: Conversation, max_tokens: int) -> bool:
        """See Policy."""
        return True

    def _next(self, conversation: Conversation) -> Message:
        last = conversation[-1]
        asked = [message.text for message in conversation if message.role == "user"][-1]
        found = route(asked)
        if last.role == "tool_result" and found:
            return Message("assistant", final_answer(found[0], last.text))
        if found:
            return Message("tool_call", found[1])
        return Message("assistant", _reply(asked))


def route(text: str) -> tuple[Kind, str] | None:
    """The kind of question and the call for it, or None where no rule fits."""
    text = text.strip().rstrip("?.! ")
    for rules, kind, tool, argument, tidy in _TABLES:
        for pattern, template in rules:
            match = re.search(pattern, text, re.IGNORECASE)
            if match:
                value = tidy(match.expand(template))
                return kind, call_text(tool, {argument: value})
        if kind == "python" and (bare := _bare_arithmetic(text)):
            return "calculator", call_text("calculator", {"expression": bare})
    for pattern, look_up in _LOOK_UPS:
        if match := re.search(pattern, text, re.IGNORECASE):
            name = next(group for group in match.groups() if group)
            return look_up, call_text("signature", {"name": name})
    for pattern in _SEARCHES:
        if match := re.search(pattern, text, re.IGNORECASE):
            return "search_docs", call_text("search_docs", {"query": match.group(1)})
    return None


def _bare_arithmetic(text: str) -> str:
    longest = max((match.group().strip() for match in _ARITHMETIC.finditer(text)), key=len, default="")
    expression = re.sub(r"[ ,]", "", longest).replace("×", "*").replace("x", "*").replace("÷", "/").replace("^", "**")
    return expression if re.search(r"\d[-+*/%]+\(?\d", expression) else ""


def _reply(text: str) -> str:
    return next((reply for pattern, reply in _SMALL_TALK if re.search(pattern, text, re.IGNORECASE)), chat.NO_TOOL)


def _digits(text: str) -> str:
    return text.replace(",", "").replace(" ", "")


_TABLES: tuple[tuple[tuple[tuple[str, str], ...], Kind, str, str, Callable[[str], str]], ...] = (
    (_PROGRAMS, "python", "python", "code", lambda code: code.replace(", ", ",")),
    (_CALCULATIONS, "calculator", "calculator", "expression", _digits),
)


def random_weights(config: GPTConfig, codec: ChatCodec, tools: Sequence[Tool], seed: int) -> ModelPolicy:
    """A GPT of the same sizes with random weights, under the same grammar: what validity alone is worth."""
    model = GPT(replace(config, dropout=0.0))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, parameter.shape[1] ** -0.5, generator=generator)
    return ModelPolicy(model.eval(), codec, tools, "random_weights")


def no_tools(model: GPT, codec: ChatCodec) -> ModelPolicy:
    """The tuned model, allowed to answer only."""
    return ModelPolicy(model, codec, (), "no_tools")
