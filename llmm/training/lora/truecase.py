"""Truecasing: a message in capitals is read in small letters, so that its words are those that the model knows.

To a tokenizer WHAT and what have no piece in common, and of a text that is hardly ever shouted the model has learnt
the second. Lita et al. 2003 ("tRuEcasIng", ACL) restore the case of each word by a language model; here it is enough
to see that a message is shouted.
"""

import re

_QUOTED = re.compile(r"""("[^"]*"|`[^`]*`|(?<!\w)'[^']*'(?!\w))""")
_WORD = re.compile(r"(?<![\w./'])[A-Za-z]+(?:'[A-Za-z]+)?(?![\w(]|[./]\w)")  # no part of a name, a path or a number


def truecased(text: str) -> str:
    """`text` with its words in capitals made small where these are most of its words, else as it is.

    What stands in quotes, and every name with a small letter, a dot, a digit or an underscore, stays as it is. The
    length stays, too: a part of `text` and the same part of what is returned have the same places.
    """
    parts = _QUOTED.split(text)  # every second one is in quotes
    words = [word for part in parts[::2] for word in _WORD.findall(part) if len(word) > 1]
    shouted = sum(word.isupper() for word in words)
    if shouted < 2 or 2 * shouted <= len(words):
        return text
    return "".join(part if i % 2 else _WORD.sub(_small, part) for i, part in enumerate(parts))


def _small(match: re.Match[str]) -> str:
    word = match.group()
    return word.lower() if word.isupper() else word
