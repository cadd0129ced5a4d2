"""The assistant's codec: every turn's text stands after a space, and a call is in words (calls.py).

So a word has the same tokens wherever it is said, in a question, a result, a call or an answer, and copying it needs no
spelling. What a user quotes is read with a space after the mark that opens the quotation, as it stands in a program.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from llmm.training.lora.calls import of_words, to_words
from llmm.training.lora.chat import ChatCodec, Message, as_read
from llmm.training.tokenizer.folder import load_tokenizer

_SPACE = " "
_OPENING = (" '", "('")  # marks that open a string, with what stands before them; "…" quote sentences of a text


class SpacedCodec(ChatCodec):
    """See ChatCodec."""

    def turn(self, message: Message) -> list[int]:
        """See ChatCodec."""
        (read,) = as_read([message])
        text = _SPACE + (to_words(read.text) if read.role == "tool_call" else read.text)
        if read.role == "user":
            for opening in _OPENING:
                text = text.replace(opening, opening + _SPACE)
        return super().turn(replace(read, text=text))

    def read_turn(self, generated: Sequence[int]) -> Message | None:
        """See ChatCodec."""
        turn = super().read_turn(generated)
        if turn is None:
            return None
        text = turn.text.removeprefix(_SPACE)
        return replace(turn, text=of_words(text) if turn.role == "tool_call" else text)


def space_of(codec: ChatCodec) -> str:
    """What stands before the text of each of the codec's turns."""
    return _SPACE if isinstance(codec, SpacedCodec) else ""


def said(codec: ChatCodec, tokens: Sequence[int]) -> str:
    """The text of a turn's `tokens`, of which neither the role nor the end is one."""
    return codec.tokenizer.decode(list(tokens), skip_special_tokens=False).removeprefix(space_of(codec))


def load_codec(tokenizer: Path) -> SpacedCodec:
    """The assistant's codec, of the tokenizer in a folder. Raises UserError where there is none."""
    return SpacedCodec(load_tokenizer(tokenizer))
