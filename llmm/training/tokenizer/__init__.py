"""Byte-level BPE: from text to ids and back, without loss.

- `special`: the special tokens, in the order of their ids, and the chat template
- `bpe`: training by the `tokenizers` library
- `folder`: the tokenizer on disk, which `transformers` opens too
"""
