"""Text from ids while a model writes them: as soon as possible, and never half a character.

A token may end in the middle of a character, since it is bytes. UTF-8 says in its first byte how long a character is,
and no other byte looks like a first one, so the last three bytes tell whether something is missing (README 6.1).
"""

from collections.abc import Sequence


def unfinished(data: bytes) -> int:
    """How many bytes at the end of `data` begin a character whose end is not there yet: 0 to 3."""
    for length in range(1, min(3, len(data)) + 1):
        byte = data[-length]
        if byte >= 0xC0:  # a first byte, of a character of 2, 3 or 4 bytes
            needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return length if length < needed else 0
        if byte < 0x80:
            return 0
    return 0


class StreamingDecoder:
    """Takes ids one by one; what it returns, joined, is what decoding them all at once gives."""

    def __init__(self, tokens: Sequence[bytes]) -> None:
        """`tokens` holds the bytes of every id."""
        self.tokens = tokens
        self.held = b""

    def push(self, id: int) -> str:
        """The text that is complete with this token; empty where its last character is not."""
        data = self.held + self.tokens[id]
        end = len(data) - unfinished(data)
        self.held = data[end:]
        return data[:end].decode(errors="replace")

    def finish(self) -> str:
        """What is left at the end of the text: U+FFFD for a character that never came to its end."""
        rest, self.held = self.held, b""
        return rest.decode(errors="replace")
