"""A tool call in words, as the model writes it; everybody else sees JSON.

In words {"name":"search_docs","arguments":{"query":"open files"}} is `search_docs query open files`.

A byte-level BPE knows most words with the space before them: " files" is one token, and after a quotation mark the
same word is another one, or several. A call copies words of the question; written after a space, they are the very
tokens that stand there, and most of the JSON around them, two thirds of a short call, is not written at all.
The strings of a program begin after a space for the same reason: 'kayak'.upper() is `python code ' kayak'.upper()`.
"""

import json

from llmm.training.lora.chat import call_text

PROGRAM = "code"  # the argument whose value is a program


def to_words(call: str) -> str:
    """The call in words if it has one argument, a string; any other one as it stands."""
    try:
        read = json.loads(call)
        name, ((argument, value),) = read["name"], read["arguments"].items()
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return call
    if call != call_text(name, {argument: value}) or not isinstance(value, str) or not in_words(name, argument):
        return call
    return f"{name} {argument} {_strings_after_a_space(value) if argument == PROGRAM else value}"


def of_words(written: str) -> str:
    """The call that `to_words` has written; what is none stays as it is, and no tool will take it."""
    if written.startswith("{") or written.count(" ") < 2:
        return written
    name, argument, value = written.split(" ", 2)
    if argument == PROGRAM:
        value = _strings_as_they_are(value)
    return call_text(name, {argument: value})


def in_words(name: str, argument: str) -> bool:
    """Whether calls with these names can be told from JSON, and taken apart again."""
    return bool(name) and not name.startswith("{") and " " not in name + argument


def _strings_after_a_space(program: str) -> str:
    """A space after each quotation mark that opens: of those before the last one, every other."""
    parts = program.split("'")
    return "'".join(f" {part}" if i % 2 and i < len(parts) - 1 else part for i, part in enumerate(parts))


def _strings_as_they_are(program: str) -> str:
    parts = program.split("'")
    return "'".join(part.removeprefix(" ") if i % 2 and i < len(parts) - 1 else part for i, part in enumerate(parts))
