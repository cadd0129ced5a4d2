"""The folder for `transformers`: which chat template goes with which weights."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from llmm.training.lora.chat_template import CHAT_TEMPLATE
from llmm.training.lora.export import export_to_transformers
from llmm.training.tokenizer import special
from tests.tiny_build import SIZES, build, small_tokenizer


@pytest.mark.parametrize(("base", "template"), [(False, CHAT_TEMPLATE), (True, special.CHAT_TEMPLATE)])
def test_the_tuned_model_leaves_with_its_own_template(
    base: bool, template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("seed: 0\n")
    build(tmp_path, small_tokenizer(), SIZES)
    export_to_transformers(tmp_path / "out", base)
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template == template
