"""Tokens to text as they come: no half characters, and nothing of a stop string."""

from collections.abc import Sequence

from llmm.training.lora.chat import ChatCodec
from llmm.training.lora.spaced import said

_HALF = "\ufffd"  # how a decoder shows a character of which not all bytes are there


class TextStream:
    """The text of one turn. It ends before that of the strings `stop` which is complete first, of those that end in one
    place before the longest: so it does not matter how the text is cut into tokens."""

    def __init__(self, codec: ChatCodec, stop: Sequence[str] = ()) -> None:
        self.codec, self.stop = codec, tuple(stop)
        self.text = ""  # given out so far
        self.stopped = False
        self._tokens: list[int] = []

    def feed(self, token: int) -> str:
        """The text that `token` completes; "" where it must wait for the next one, or the text has ended."""
        self._tokens.append(token)
        return self._give(last=False)

    def flush(self) -> str:
        """What was held back, when no more tokens come."""
        return self._give(last=True)

    def _give(self, last: bool) -> str:
        if self.stopped:
            return ""
        text = said(self.codec, self._tokens)
        found = [(at + len(stop), at) for stop in self.stop if (at := text.find(stop)) >= 0]
        if found:
            _, at = min(found)
            text, self.stopped = text[:at], True
        elif not last:
            text = text.rstrip(_HALF)
            text = text[: len(text) - self._begun(text)]
        new = text[len(self.text) :]
        self.text += new
        return new

    def _begun(self, text: str) -> int:
        """How many characters at the end of `text` may be the beginning of a stop string."""
        longest = max(map(len, self.stop), default=1) - 1
        tails = (text[-n:] for n in range(min(longest, len(text)), 0, -1))
        return next((len(tail) for tail in tails if any(stop.startswith(tail) for stop in self.stop)), 0)
