"""What leaves the project: a GGUF file that computes what our model does."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from click.testing import CliRunner
from gguf import GGUFReader, TokenType
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from agents.capstone import gguf as exporting
from agents.capstone.gguf import TOLERANCE, Type, export_to_gguf, refuse_others, store
from agents.capstone.gguf_tokenizer import LlamaCppTokenizer, compare, to_gguf_tokens
from llmm import cli
from llmm.errors import UserError
from llmm.files import sha256_of
from llmm.lineage import Artifact
from llmm.training.lora.chat_template import CHAT_TEMPLATE
from llmm.training.tokenizer.codec import ByteLevelBPE
from llmm.training.tokenizer.export import to_tokenizers
from llmm.training.tokenizer.special import SPECIAL_TOKENS
from llmm.transformers.gpt import GPTConfig
from tests.tiny_build import SIZES, build, small_tokenizer

BUILDS = {
    "tied": SIZES,
    "grouped heads": replace(SIZES, n_kv_head=2),
    "a head of its own": replace(SIZES, tie_embeddings=False),
    "wide heads, another base": replace(SIZES, head_dim=16, rope_theta=5e4, norm_eps=1e-5),
    "rows of 48": replace(SIZES, d_model=48, n_head=3, n_kv_head=3),
}


@pytest.fixture
def tokenizer() -> Tokenizer:
    return small_tokenizer()


@pytest.fixture
def project(tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> dict[str, Artifact]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("seed: 0\n")
    return build(tmp_path, tokenizer, SIZES)


def fields(file: Path) -> dict[str, Any]:
    return {name: field.contents() for name, field in GGUFReader(file).fields.items()}


# --- the weights ---


@pytest.mark.parametrize("config", BUILDS.values(), ids=BUILDS.keys())
def test_transformers_computes_from_the_file_what_our_model_does(
    config: GPTConfig, tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    build(tmp_path, tokenizer, config)
    for base in (True, False):
        found = export_to_gguf(Path(f"{base}.gguf"), base)
        assert found.difference <= TOLERANCE and found.bytes == Path(f"{base}.gguf").stat().st_size
    assert fields(Path("True.gguf"))["llmm.weights.sha256"] != fields(Path("False.gguf"))["llmm.weights.sha256"]


@pytest.mark.parametrize("kind", ["f16", "q8_0"])
def test_fewer_bits_are_a_smaller_file_and_a_difference_that_is_told(kind: Type, project: dict[str, Artifact]) -> None:
    exact, rounded = export_to_gguf(Path("exact.gguf")), export_to_gguf(Path("rounded.gguf"), kind=kind)
    assert rounded.stored_difference <= TOLERANCE < rounded.difference < 1
    assert rounded.bytes < exact.bytes and rounded.weights_sha256 == exact.weights_sha256
    kinds = {tensor.name: tensor.tensor_type.name.lower() for tensor in GGUFReader("rounded.gguf").tensors}
    assert kinds["blk.0.attn_q.weight"] == kind and kinds["output_norm.weight"] == "f32"


def test_rows_that_are_no_whole_number_of_blocks_keep_half_precision() -> None:
    data, quantization = store("w", np.ones((4, 48), np.float32), "q8_0")
    assert quantization is gguf.GGMLQuantizationType.F16 and data.shape == (4, 48)


def test_a_weight_too_large_for_half_precision_is_refused() -> None:
    with pytest.raises(UserError, match="w holds a weight that is not finite as f16"):
        store("w", np.full((4, 32), 1e5, np.float32), "f16")


def test_the_file_says_what_it_was_made_from(project: dict[str, Artifact]) -> None:
    found = export_to_gguf(Path("model.gguf"))
    said = fields(Path("model.gguf"))
    assert said["general.architecture"] == "qwen3" and said["qwen3.context_length"] == SIZES.context_len
    assert said["llmm.weights.sha256"] == found.weights_sha256
    for kind, artifact in project.items():
        assert said[f"llmm.{kind}.sha256"] == artifact.sha256
    assert said["tokenizer.chat_template"] == CHAT_TEMPLATE
    assert said["tokenizer.ggml.tokens"][said["tokenizer.ggml.eos_token_id"]] == "<|end|>"
    assert said["tokenizer.ggml.add_bos_token"] is False
    export_to_gguf(Path("base.gguf"), base=True)
    plain = fields(Path("base.gguf"))
    assert "llmm.adapter.sha256" not in plain and "tokenizer.chat_template" not in plain
    assert plain["tokenizer.ggml.add_bos_token"] is True and plain["tokenizer.ggml.eos_token_id"] == 0


def test_the_same_weights_give_the_same_bytes(project: dict[str, Artifact]) -> None:
    for name in ("a.gguf", "b.gguf"):
        export_to_gguf(Path(name))
    assert sha256_of(Path("a.gguf")) == sha256_of(Path("b.gguf"))


def test_a_wrong_size_is_noticed_and_leaves_nothing(
    project: dict[str, Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(writer: gguf.GGUFWriter, config: GPTConfig) -> None:
        right(writer, replace(config, rope_theta=2 * config.rope_theta))

    right = exporting._add_sizes
    monkeypatch.setattr(exporting, "_add_sizes", wrong)
    with pytest.raises(UserError, match="differ from ours"):
        export_to_gguf(Path("model.gguf"))
    assert not list(Path().glob("*gguf*")) and not list(Path().glob(".*gguf*"))


def test_nothing_is_overwritten(project: dict[str, Artifact]) -> None:
    Path("there.gguf").write_text("mine")
    with pytest.raises(UserError, match=r"there.gguf is there already"):
        export_to_gguf(Path("there.gguf"))
    assert Path("there.gguf").read_text() == "mine"
    with pytest.raises(UserError, match=r"ends in .gguf"):
        export_to_gguf(Path("model.bin"))


def test_other_builds_are_refused_in_one_line() -> None:
    refuse_others(SIZES)
    for change, words in (
        ({"qk_norm": False}, "qk_norm = False"),
        ({"norm": "layer", "feed_forward": "gelu"}, "norm = 'layer', feed_forward = 'gelu'"),
        ({"norm_placement": "post"}, "norm_placement = 'post'"),
        ({"bias": True}, "bias = True"),
        ({"positions": "learned"}, "positions = 'learned'"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            refuse_others(replace(SIZES, **change))
        assert "\n" not in str(caught.value)


def test_the_command_writes_the_file_and_says_what_it_found(project: dict[str, Artifact]) -> None:
    done = CliRunner().invoke(cli.llmm, ["export", "gguf", "out.gguf", "--type", "q8_0"])
    assert done.exit_code == 0 and len(done.output.splitlines()) == 2
    assert "opened by transformers" in done.output and "the corpus is not there" in done.output


# --- the tokenizer ---

TEXTS = (
    "def read(path):\n    with open(path) as file:\n        return file.read()\n\n\nclass A(B):\n\tx = 12_345\n",
    "It's here, isn't it? don't we'll they've  two  spaces\n\n- a list\n- of 'some' \"words\"\n",
    "if x:\r\n    pass\r\n# Über naïve café, Привет мир, 你好 世界, é\n",
)


def test_tokens_types_and_merges_are_those_of_the_tokenizer(tokenizer: Tokenizer) -> None:
    tokens = to_gguf_tokens(tokenizer)
    assert len(tokens.texts) == len(tokens.types) == tokenizer.get_vocab_size() == len(set(tokens.texts))
    assert tokens.texts[: len(SPECIAL_TOKENS)] == list(SPECIAL_TOKENS)
    assert set(tokens.types[: len(SPECIAL_TOKENS)]) == {TokenType.CONTROL}
    assert "\n    " in tokens.marked and "\n" not in tokens.marked
    for text, id in tokens.marked.items():
        assert tokenizer.decode([id]) == text and "\n" in text and not text.strip()
    unmarked = [id for id, kind in enumerate(tokens.types) if kind is TokenType.NORMAL]
    assert all(tokens.texts[id] == tokenizer.id_to_token(id) for id in unmarked)
    assert tokens.merges == [" ".join(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]


def test_what_llama_cpp_cuts_is_ours_on_code_and_prose(tokenizer: Tokenizer) -> None:
    theirs = LlamaCppTokenizer(tokenizer)
    for text in TEXTS[:1]:
        assert theirs.encode(text) == tokenizer.encode(text).ids
    said = compare(tokenizer, TEXTS)
    assert said.documents == 3 and said.moved <= 0.02 * said.tokens
    assert compare(tokenizer, TEXTS[:1]).words == "all documents of the test split (1) get our ids"


def test_names_of_special_tokens_in_a_text_stay_text(tokenizer: Tokenizer) -> None:
    text = "<|user|>\n    <|end|>"
    ids = LlamaCppTokenizer(tokenizer).encode(text)
    assert min(ids) >= len(SPECIAL_TOKENS) and tokenizer.decode(ids) == text


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("aé1 \n\r\t.'\"#中́"), max_size=40))
def test_no_text_is_lost(text: str) -> None:
    made = small_tokenizer()
    assert made.decode(LlamaCppTokenizer(made).encode(text)) == text


def test_differences_are_counted(tokenizer: Tokenizer) -> None:
    """An indentation that is no token: the rest of its spaces is ours, but goes with the next word in llama.cpp."""
    said = compare(tokenizer, ["x\n     in y\n", "x\n    in y\n"])
    assert said.documents_that_differ == 1 and 0 < said.moved < said.tokens
    assert "in 1 of 2 documents" in said.words


MERGES = [
    (b"\n", b" "), (b" ", b" "), (b"\n ", b"  "), (b" ", b"i"), (b" i", b"n"), (b"i", b"n"), (b"s", b"e"), (b"l", b"f"),
    (b"se", b"lf"), (b"'", b"self"), (b"\n", b"\n"), (b"'", b"s"), (b")", b":"),
]  # fmt: skip


LLAMA_CPP = [  # text, the ids that llama.cpp itself gave from a file of these merges, whether they are ours
    ("x:\n    in self\n", [98, 36, 269, 271, 231, 275, 209], False),
    ("x\n     in y", [98, 269, 231, 271, 231, 99], False),
    ("b'self'\n\n    f(self):\n", [76, 278, 79, 274, 17, 209, 269, 231, 80, 18, 275, 279, 209], False),
    ("a\n\n\n   in\t12345", [75, 277, 269, 272, 208, 27, 28, 29, 30, 31], True),
    ("<|end|>\n   <|user|>", [38, 102, 79, 88, 78, 102, 40, 269, 38, 102, 95, 273, 92, 102, 40], True),
    ("déjà vu 你\n  \r\n", [78, 138, 113, 84, 138, 265, 231, 96, 95, 231, 171, 132, 265, 267, 231, 212, 209], True),
]


def test_the_steps_are_those_of_llama_cpp() -> None:
    made = to_tokenizers(ByteLevelBPE(MERGES, SPECIAL_TOKENS))
    made.encode_special_tokens = True
    for text, theirs, same in LLAMA_CPP:
        assert LlamaCppTokenizer(made).encode(text) == theirs, text
        assert (made.encode(text).ids == theirs) is same, text
