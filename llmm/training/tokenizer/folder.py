"""The tokenizer on disk: a folder that `transformers.AutoTokenizer` opens with the same ids."""

from pathlib import Path

from tokenizers import Tokenizer

from llmm.errors import UserError
from llmm.files import write_json
from llmm.training.tokenizer.special import CHAT_TEMPLATE, END, END_OF_TEXT, PAD, SPECIAL_TOKENS


def write_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json, special_tokens_map.json and chat_template.jinja."""
    named = {"bos_token": END_OF_TEXT, "eos_token": END, "pad_token": PAD}
    others = [token for token in SPECIAL_TOKENS if token not in named.values()]
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **named,
            "extra_special_tokens": others,
            "clean_up_tokenization_spaces": False,
            "model_input_names": ["input_ids", "attention_mask"],
        },
    )
    write_json(folder / "special_tokens_map.json", named)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer in `folder`; names of special tokens in a text become those tokens, as chats need it.

    For text that somebody else wrote use `load_text_tokenizer`. Raises UserError where there is none, or a damaged one.
    """
    path = Path(folder) / "tokenizer.json"
    if not path.is_file():
        raise UserError(f"{path} is not there: `dvc repro` makes it")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise UserError(f"{path} is no tokenizer ({error}): delete {folder} and run `dvc repro`") from None
    if [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] != list(range(len(SPECIAL_TOKENS))):
        raise UserError(f"{path} lacks this project's special tokens: it belongs to another model")
    return tokenizer


def load_text_tokenizer(folder: Path) -> Tokenizer:
    """Like `load_tokenizer`, but text never becomes a special token: "<|end|>" in a document is seven characters."""
    tokenizer = load_tokenizer(folder)
    tokenizer.encode_special_tokens = True
    return tokenizer
