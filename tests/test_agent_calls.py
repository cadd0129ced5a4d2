"""Calls in words: what the model writes of a call, what is read of it again, and that copied words keep tokens."""

import json
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field
from transformers import AutoTokenizer

from agents.tool_agent.grammar import CallGrammar
from agents.tool_agent.tools import Arguments, Tool
from llmm.training.lora.calls import of_words, to_words
from llmm.training.lora.chat import Message, call_text
from llmm.training.lora.chat_template import CHAT_TEMPLATE
from llmm.training.lora.spaced import SpacedCodec, said
from llmm.training.tokenizer.folder import write_tokenizer
from tests.tiny_agent import codec, tokenizer

SPACED = SpacedCodec(tokenizer())
QUOTES = "'a' in (\"b\", 'c')? it's (' d')"
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
values = st.one_of(st.text(), st.text("a' "), st.integers(), st.lists(st.text(), max_size=2), st.none())


@given(names, st.dictionaries(names | st.just("code"), values, max_size=3))
def test_a_call_in_words_is_that_call_again(name: str, arguments: dict[str, Any]) -> None:
    call = call_text(name, arguments)
    assert of_words(to_words(call)) == call
    if "\ud800" not in call and call.isascii():
        assert SPACED.read_turn(SPACED.turn(Message("tool_call", call))) == Message("tool_call", call)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (call_text("search_docs", {"query": "open files"}), "search_docs query open files"),
        (call_text("python", {"code": 'print("a")\n  1'}), 'python code print("a")\n  1'),
        (call_text("python", {"code": "'kayak'.count('a')"}), "python code ' kayak'.count(' a')"),
        (call_text("python", {"code": "' a'+''+'b"}), "python code '  a'+' '+'b"),
        (call_text("search_docs", {"query": "'open' files"}), "search_docs query 'open' files"),
        (call_text("pay", {"to": "eve", "amount": "9"}), None),
        (call_text("wait", {"seconds": 3}), None),
        (call_text("now", {}), None),
        (call_text("two words", {"x": "1"}), None),
        (call_text("{", {"x": "1"}), None),
        ('{"name": "python", "arguments": {"code": "1"}}', None),  # not compact: nothing may change it silently
        ("no call", None),
        ("[" * 5000, None),
    ],
)
def test_only_one_string_is_put_in_words(call: str, words: str | None) -> None:
    assert to_words(call) == (words or call)
    assert of_words(to_words(call)) == call


def test_a_copied_word_has_one_spelling_in_a_question_a_query_and_a_program() -> None:
    said = SPACED.turn(Message("user", "json files"))[1:-1]
    for quoted in ("'json files'", "is 'json files' right?", "len('json files')", "what's 'json files'?"):
        read = SPACED.turn(Message("user", quoted))
        assert any(read[i : i + len(said)] == said for i in range(len(read))), quoted
    for unchanged in ("Ann's, don't", 'where is "The value"?', '("The value")'):  # so stands a sentence in its passage
        assert SPACED.turn(Message("user", unchanged)) == codec().turn(Message("user", " " + unchanged))
    for call in (call_text("search", {"query": "json files"}), call_text("python", {"code": "'json files'"})):
        written = SPACED.turn(Message("tool_call", call))
        assert any(written[i : i + len(said)] == said for i in range(len(written)))


@pytest.mark.parametrize("written", ["", "python", "python code", '{"name":', "{ a b"])
def test_what_is_no_call_stays_as_it_is(written: str) -> None:
    assert of_words(written) == written


def test_every_turn_begins_with_a_space_and_loses_it_again() -> None:
    for role, text in (("user", "json"), ("tool_result", " json"), ("assistant", "json files"), ("assistant", "")):
        ids = SPACED.turn(Message(role, text))  # type: ignore[arg-type]
        assert SPACED.tokenizer.decode(ids[1:-1]) == f" {text}"
        assert said(SPACED, ids[1:-1]) == text


@pytest.mark.parametrize(
    "arguments", [{"code": 'print("é")\n'}, {"code": "'a b'+ 'c'*2+'d"}, {"a": "'b'"}, {"a": "1", "b": 3}, {"n": 3}, {}]
)
def test_transformers_writes_a_conversation_as_the_codec_does(arguments: dict[str, Any], tmp_path: Path) -> None:
    write_tokenizer(tokenizer(), tmp_path)
    (tmp_path / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    function = {"name": "python", "arguments": arguments}
    said = [
        ({"role": "system", "content": "Be short."}, Message("system", "Be short.")),
        ({"role": "context", "content": "A passage.\n"}, Message("context", "A passage.\n")),
        ({"role": "user", "content": "<b>json</b> & 12*7?"}, Message("user", "<b>json</b> & 12*7?")),
        ({"role": "user", "content": QUOTES}, Message("user", QUOTES)),
        (
            {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": function}]},
            Message("tool_call", call_text("python", arguments)),
        ),
        ({"role": "tool", "content": "84"}, Message("tool_result", "84")),
        ({"role": "assistant", "content": "It is 84."}, Message("assistant", "It is 84.")),
    ]
    encoded = theirs.apply_chat_template(
        [message for message, _ in said], return_dict=True, return_assistant_tokens_mask=True
    )
    assert encoded["input_ids"] == SPACED.prompt([message for _, message in said])
    by_the_model = [token for token, mask in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if mask]
    assert by_the_model == [*SPACED.turn(said[4][1]), *SPACED.turn(said[6][1])]


def test_arguments_as_a_string_stay_json_in_the_template(tmp_path: Path) -> None:
    write_tokenizer(tokenizer(), tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    call = {"type": "function", "function": {"name": "python", "arguments": '{"code":"1"}'}}
    text = theirs.apply_chat_template(
        [{"role": "assistant", "content": "", "tool_calls": [call]}], chat_template=CHAT_TEMPLATE, tokenize=False
    )
    assert text == f"<|tool_call|> {call_text('python', {'code': '1'})}<|end|>"


class Two(Arguments):
    """Two arguments, one of them no string."""

    path: Annotated[str, Field(pattern=r"^[a-z/]+$", max_length=5)]
    times: int


class Loose(Arguments):
    """A pattern that may stand anywhere in the string."""

    text: Annotated[str, Field(pattern=r"a/b", max_length=9)]


@pytest.mark.parametrize(
    ("tool", "arguments", "fits"),
    [
        ("two", {"path": "a/b", "times": 3}, True),
        ("two", {"path": "a/b", "times": "3"}, False),
        ("two", {"path": "a/b/c/d", "times": 3}, False),
        ("loose", {"text": "xa/by"}, True),
        ("loose", {"text": "xy\na/b"}, True),
        ("loose", {"text": "ab"}, False),
        ("loose", {"text": "a/b" * 4}, False),
        ("other", {"text": "a/b"}, False),
    ],
)
def test_words_and_json_allow_the_same_calls(tool: str, arguments: dict[str, Any], fits: bool) -> None:
    tools = [Tool("two", "", Two, str), Tool("loose", "", Loose, str)]
    for made in (SPACED, codec()):
        matcher = CallGrammar(made, tools).matcher([Message("user", "x")])
        _, *ids, _ = made.turn(Message("tool_call", call_text(tool, arguments)))
        allowed = matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()
        assert not matcher.is_error() and allowed == fits
    assert json.loads(call_text(tool, arguments))["name"] == tool
