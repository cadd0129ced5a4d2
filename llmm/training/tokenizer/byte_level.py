"""Bytes as the alphabet, and GPT-2's way of writing any of them as a printable character.

256 symbols spell every text of every script, so no text is ever unknown, and decoding gives back the very bytes. Only
`tokenizer.json` needs the spelling, since JSON holds text and not bytes: printable bytes stand for themselves, the
others for the characters from U+0100 on. Source: Radford et al. 2019, section 2.2, and their `bytes_to_unicode`.
"""

_PRINTABLE = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]

CHARACTER_OF = {byte: chr(byte) for byte in _PRINTABLE} | {byte: chr(256 + i) for i, byte in enumerate(_OTHERS)}
BYTE_OF = {character: byte for byte, character in CHARACTER_OF.items()}

# The order in which `tokenizers` numbers the bytes: that of their characters. "!" comes first, the space 221st.
ALPHABET = tuple(bytes([byte]) for byte in sorted(range(256), key=CHARACTER_OF.__getitem__))
RANK_OF_BYTE = bytes(ALPHABET.index(bytes([byte])) for byte in range(256))  # a table for `bytes.translate`


def spell(token: bytes) -> str:
    """The token as printable characters: b" the" is "Ġthe"."""
    return "".join(map(CHARACTER_OF.__getitem__, token))


def unspell(spelling: str) -> bytes:
    """The bytes that `spell` wrote. Raises KeyError for a character that spells no byte."""
    return bytes(map(BYTE_OF.__getitem__, spelling))
