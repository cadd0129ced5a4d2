"""Special tokens in a text: they are cut out before anything else, so no word ever holds a part of one.

Only text that the program itself wrote may hold them. In a document "<|end|>" is seven characters like any others; a
tokenizer that reads it as the end of a turn lets every web page speak for the user.
"""

import re
from collections.abc import Collection, Iterator


def split_special(text: str, special: Collection[str]) -> Iterator[tuple[str, bool]]:
    """(part, whether it is a special token) for the parts of `text`, empty ones left out.

    Where one name begins another, the longer one is meant.
    """
    if not special:
        parts = [text]
    else:
        longest_first = sorted(special, key=len, reverse=True)
        parts = re.split(f"({'|'.join(map(re.escape, longest_first))})", text)
    for index, part in enumerate(parts):
        if part:
            yield part, index % 2 == 1
