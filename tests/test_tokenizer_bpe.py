"""The tokenizer: loss-free on any text, the same in every tool, digits and special tokens as promised."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from llmm import lineage
from llmm.errors import UserError
from llmm.training.tokenizer.bpe import train_tokenizer
from llmm.training.tokenizer.folder import load_text_tokenizer, load_tokenizer, write_tokenizer
from llmm.training.tokenizer.special import SPECIAL_TOKENS

TEXTS = [Path(name).read_text(encoding="utf-8") for name in ("llmm/files.py", "llmm/lineage.py", "llmm/params.py")]
PIECES = st.one_of(
    st.text(),
    st.sampled_from([*SPECIAL_TOKENS, "\n        ", "  \r\n\t", "0123456789", "٣४", "def f(x):", "é", "🙂‍↔️", "\0"]),
)
ANY_TEXT = st.lists(PIECES, max_size=8).map("".join)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small tokenizer of this project's own source."""
    path = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(train_tokenizer(TEXTS, 600), path)
    return path


@pytest.fixture(scope="module")
def plain(folder: Path) -> Tokenizer:
    return load_text_tokenizer(folder)


@pytest.fixture(scope="module")
def automatic(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


@settings(max_examples=300, deadline=None)
@given(ANY_TEXT)
def test_every_text_comes_back(plain: Tokenizer, text: str) -> None:
    ids = plain.encode(text).ids
    assert plain.decode(ids, skip_special_tokens=False) == text
    assert all(id >= len(SPECIAL_TOKENS) for id in ids), "a text never makes a special token"


@settings(max_examples=200, deadline=None)
@given(ANY_TEXT)
def test_transformers_gives_the_same_ids(folder: Path, plain: Tokenizer, automatic: Any, text: str) -> None:
    assert automatic(text)["input_ids"] == load_tokenizer(folder).encode(text).ids
    assert automatic(text, split_special_tokens=True)["input_ids"] == plain.encode(text).ids
    assert automatic.decode(plain.encode(text).ids) == text


@settings(max_examples=100, deadline=None)
@given(st.lists(ANY_TEXT, max_size=5))
def test_batches_give_the_same_ids(plain: Tokenizer, texts: list[str]) -> None:
    batch = [encoding.ids for encoding in plain.encode_batch_fast(texts)]
    assert batch == [plain.encode(text).ids for text in texts]


@given(st.from_regex(r"[0-9]{1,12}", fullmatch=True))
def test_digits_stand_alone(plain: Tokenizer, number: str) -> None:
    tokens = plain.encode(f"x={number};").tokens
    assert [token for token in tokens if any(sign.isdigit() for sign in token)] == list(number)


def test_no_token_of_the_vocabulary_joins_digits(plain: Tokenizer) -> None:
    assert [
        token for token in plain.get_vocab() if len(token) > 1 and any(sign in "0123456789" for sign in token)
    ] == []


def test_indentation_is_one_token_with_its_line_end(plain: Tokenizer) -> None:
    assert plain.encode("):\n        return").tokens[-2:] == ["ĊĠĠĠĠĠĠĠĠ", "return"]
    # a prompt that ends a line continues as training text does
    assert (
        plain.encode("def f(x):\n    return").ids[: len(plain.encode("def f(x):").ids)] == plain.encode("def f(x):").ids
    )


def test_special_tokens_have_the_lowest_ids(folder: Path, automatic: Any) -> None:
    tokenizer = load_tokenizer(folder)
    assert tokenizer.get_vocab_size() == 600
    assert tokenizer.encode("".join(SPECIAL_TOKENS)).ids == list(range(len(SPECIAL_TOKENS)))
    assert (automatic.bos_token, automatic.eos_token, automatic.pad_token) == ("<|endoftext|>", "<|end|>", "<|pad|>")
    assert set(automatic.all_special_tokens) == set(SPECIAL_TOKENS)
    assert len(automatic) == 600


def test_huge_words_and_lines_do_not_hang(plain: Tokenizer) -> None:
    for text in ("a" * 300_000, "=" * 300_000, " " * 300_000, "é" * 100_000, "\n" * 100_000):
        assert plain.decode(plain.encode(text).ids) == text


def test_the_same_texts_give_the_same_tokenizer(folder: Path, tmp_path: Path) -> None:
    write_tokenizer(train_tokenizer(iter(TEXTS), 600), tmp_path)
    assert lineage.seal(tmp_path, "tokenizer", []).sha256 == lineage.seal(folder, "tokenizer", []).sha256


def test_too_large_a_vocabulary_says_what_can_be_reached() -> None:
    with pytest.raises(UserError) as error:
        train_tokenizer(["a few words only"], 5000)
    reached = int(str(error.value).split("it makes ")[1].split(":")[0])
    assert "5000" in str(error.value)
    assert train_tokenizer(["a few words only"], reached).get_vocab_size() == reached


def test_missing_damaged_and_foreign_tokenizers_are_one_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not there"):
        load_tokenizer(tmp_path)
    content = (folder / "tokenizer.json").read_text()
    (tmp_path / "tokenizer.json").write_text(content[:1000])
    with pytest.raises(UserError, match="is no tokenizer"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text(content.replace("<|tool_call|>", "<|other|>"))
    with pytest.raises(UserError, match="another model"):
        load_tokenizer(tmp_path)


CALL = {"name": "calculator", "arguments": {"expression": '12*7 "é"', "digits": 3}}
CONVERSATION = [
    {"role": "system", "content": "Be short."},
    {"role": "context", "content": "A passage.\n"},
    {"role": "user", "content": " What is 12*7? <b>&</b>"},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": CALL}]},
    {"role": "tool", "tool_call_id": "1", "content": "84"},
    {"role": "assistant", "content": "It is 84."},
]
RENDERED_CALL = '{"name":"calculator","arguments":{"expression":"12*7 \\"é\\"","digits":3}}'
TURNS = [
    "<|system|>Be short.<|end|>",
    "<|context|>A passage.\n<|end|>",
    "<|user|> What is 12*7? <b>&</b><|end|>",
    f"<|tool_call|>{RENDERED_CALL}<|end|>",
    "<|tool_result|>84<|end|>",
    "<|assistant|>It is 84.<|end|>",
]


def test_chat_template_renders_the_format(automatic: Any) -> None:
    for count in range(1, len(TURNS) + 1):
        for prompt in (False, True):
            text = automatic.apply_chat_template(
                CONVERSATION[:count], tokenize=False, add_generation_prompt=prompt, tools=None
            )
            assert text == "".join(TURNS[:count])
    assert json.loads(RENDERED_CALL) == CALL


def test_chat_template_takes_arguments_as_a_string_too(automatic: Any) -> None:
    call = {"name": "calculator", "arguments": json.dumps(CALL["arguments"], separators=(",", ":"), ensure_ascii=False)}
    message = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": call}]}
    assert automatic.apply_chat_template([message], tokenize=False) == TURNS[3]


def test_chat_template_marks_what_the_model_says(automatic: Any) -> None:
    encoded = automatic.apply_chat_template(CONVERSATION, return_dict=True, return_assistant_tokens_mask=True)
    said = [id for id, mask in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if mask]
    assert automatic.decode(said) == TURNS[3] + TURNS[5]


def test_chat_template_refuses_unknown_roles(automatic: Any) -> None:
    with pytest.raises(Exception, match="role function: expected"):
        automatic.apply_chat_template([{"role": "function", "content": "x"}], tokenize=False)
