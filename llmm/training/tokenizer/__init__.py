"""Byte-level BPE and Unigram: from text to ids and back, without loss.

In the order of reading:

- `words`: cutting text into words; `byte_level`: the alphabet; `naive`: BPE as it is defined, the referee
- `ties`, `training`: the fast trainer; `encoding`: the fast encoder; `special_splits`, `codec`: the whole tokenizer
- `streaming`: text while it is being written; `export`: for `tokenizers` and tiktoken
- `unigram`, `unigram_training`: the other way to choose tokens, by likelihood
- `optimal`: how far greedy merging is from the best merges
- `special`, `folder`, `bpe`: what the pipeline uses
"""
