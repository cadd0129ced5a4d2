"""Byte-level BPE: from text to ids and back, without loss.

- `special`: the special tokens, in the order of their ids, and the chat template
- `bpe`: training by the `tokenizers` library
- `folder`: the tokenizer on disk, which `transformers` opens too
"""

from llmm.training.tokenizer.bpe import train_tokenizer
from llmm.training.tokenizer.folder import load_text_tokenizer, load_tokenizer, write_tokenizer
from llmm.training.tokenizer.special import SPECIAL_TOKENS

__all__ = ["SPECIAL_TOKENS", "load_text_tokenizer", "load_tokenizer", "train_tokenizer", "write_tokenizer"]
