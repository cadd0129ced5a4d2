"""Words of code and of English, as BM25 counts them."""

import re

_WORD = re.compile(r"[^\W_]+")
# "HTTPServerError404" -> HTTP Server Error 404
_CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def split_words(text: str) -> list[str]:
    """Lower-case words of `text`: snake_case and camelCase names are split into theirs.

    Words in other scripts than Latin are kept whole.
    """
    words: list[str] = []
    for word in _WORD.findall(text):
        if word.islower() or not word.isascii():
            words.append(word.lower())
        else:
            words.extend(part.lower() for part in _CAMEL.findall(word))
    return words
