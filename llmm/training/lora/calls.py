"""A tool call in words, as the model writes it; everybody else sees JSON.

In words {"name":"search_docs","arguments":{"query":"open files"}} is `search_docs query open files`.

A byte-level BPE knows most words with the space before them: " files" is one token, and after a quotation mark the
same word is another one, or several. A call copies words of the question; written after a space, they are the very
tokens that stand there, and most of the JSON around them, two thirds of a short call, is not written at all.
"""

import json

from llmm.training.lora.chat import call_text


def to_words(call: str) -> str:
    """The call in words if it has one argument, a string; any other one as it stands."""
    try:
        read = json.loads(call)
        name, ((argument, value),) = read["name"], read["arguments"].items()
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return call
    if call != call_text(name, {argument: value}) or not isinstance(value, str) or not in_words(name, argument):
        return call
    return f"{name} {argument} {value}"


def of_words(written: str) -> str:
    """The call that `to_words` has written; what is none stays as it is, and no tool will take it."""
    if written.startswith("{") or written.count(" ") < 2:
        return written
    name, argument, value = written.split(" ", 2)
    return call_text(name, {argument: value})


def in_words(name: str, argument: str) -> bool:
    """Whether calls with these names can be told from JSON, and taken apart again."""
    return bool(name) and not name.startswith("{") and " " not in name + argument
