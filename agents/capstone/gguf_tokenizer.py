"""Our tokenizer as llama.cpp reads one from a GGUF file: tokens, their types, merges, and the name of a split.

llama.cpp takes no regular expression from a file, only the name of one that it has built in, and none of them is ours
(llmm.training.tokenizer.words): all of them part a line end from the indentation behind it, which is one token a line
of Python here. Two things mend nearly all of it:

- tokens of a line end with white space are marked as user-defined. llama.cpp looks for those in a text before it
  splits, the longest first, so they come out whole;
- the split `qwen2`, which llama.cpp and `transformers` have long known, cuts the rest as ours does, but for an
  apostrophe before s, t, m, d, re, ve or ll, which it takes with these letters and no more.

`LlamaCppTokenizer` does the same steps, so that the rest can be counted on any text. Source: `llama-vocab.cpp` of
llama.cpp, `tokenizer_st_partition` and `llm_tokenizer_bpe`.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass

import gguf
import regex
from tokenizers import Regex, Tokenizer, pre_tokenizers

from llmm.training.tokenizer.byte_level import unspell
from llmm.training.tokenizer.special import SPECIAL_TOKENS

PRE_TOKENIZER = "qwen2"
_SPLIT = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
    r"|[^\r\n\p{L}\p{N}]?\p{L}+"
    r"|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+"
    r"|\s+(?!\S)"
    r"|\s+"
)
_LINE_END = regex.compile(r"\s*[\r\n]+[ \t]*")  # a word of our pattern


@dataclass(frozen=True)
class GGUFTokens:
    """Texts and types of all tokens by id, and the merges in their order, "left right"."""

    texts: list[str]
    types: list[gguf.TokenType]
    merges: list[str]

    @property
    def marked(self) -> dict[str, int]:
        """The tokens that llama.cpp looks for before it splits, and their ids."""
        found = zip(self.texts, self.types, strict=True)
        return {text: id for id, (text, kind) in enumerate(found) if kind == gguf.TokenType.USER_DEFINED}


def to_gguf_tokens(tokenizer: Tokenizer) -> GGUFTokens:
    """What a GGUF file holds of `tokenizer`, one of this project's."""
    model = json.loads(tokenizer.to_str())["model"]
    texts: list[str] = []
    types: list[gguf.TokenType] = []
    for spelling, id in sorted(model["vocab"].items(), key=lambda item: item[1]):
        assert id == len(texts), "ids without a gap, as the tokenizer's trainer gives them"
        line_end = None if spelling in SPECIAL_TOKENS else _line_end(spelling)
        if spelling in SPECIAL_TOKENS:
            types.append(gguf.TokenType.CONTROL)
        else:
            types.append(gguf.TokenType.USER_DEFINED if line_end else gguf.TokenType.NORMAL)
        texts.append(line_end or spelling)  # llama.cpp looks for a marked token as it stands in the text
    return GGUFTokens(texts, types, [" ".join(pair) for pair in model["merges"]])


def _line_end(spelling: str) -> str | None:
    """The text of a token that is a line end with white space before or after it, None for every other token."""
    try:
        text = unspell(spelling).decode()
    except UnicodeDecodeError:  # a part of a character
        return None
    return text if len(text) > 1 and _LINE_END.fullmatch(text) else None


class LlamaCppTokenizer:
    """The ids that llama.cpp gives a text with the tokens and the split that `to_gguf_tokens` hands it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        marked = to_gguf_tokens(tokenizer).marked
        self._marked = sorted(marked.items(), key=lambda item: -len(item[0].encode()))
        self._rest = Tokenizer.from_str(tokenizer.to_str())
        self._rest.encode_special_tokens = True
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        self._rest.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(_SPLIT), "isolated"), byte_level]
        )

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, in which no name of a special token becomes one."""
        parts: list[str | int] = [text]
        for mark, id in self._marked:
            parts = [
                piece for part in parts for piece in (_between(part, mark, id) if isinstance(part, str) else [part])
            ]
        ids: list[int] = []
        for part in parts:
            ids += [part] if isinstance(part, int) else self._rest.encode(part, add_special_tokens=False).ids
        return ids


def _between(text: str, mark: str, id: int) -> list[str | int]:
    """`text` with `id` in every place of `mark`."""
    first, *others = text.split(mark)
    parts: list[str | int] = [first] if first else []
    for other in others:
        parts += [id, other] if other else [id]
    return parts


@dataclass(frozen=True)
class Difference:
    """How differently two tokenizers cut the same documents. `moved` are tokens of the first that the second lacks."""

    documents: int
    documents_that_differ: int
    tokens: int
    moved: int

    @property
    def words(self) -> str:
        """One line for a person."""
        if not self.moved and not self.documents_that_differ:
            return f"all documents of the test split ({self.documents}) get our ids"
        return (
            f"{self.moved:,} of {self.tokens:,} tokens ({self.moved / self.tokens:.2%}) of the test split are cut "
            f"otherwise, in {self.documents_that_differ} of {self.documents} documents"
        )


def compare(tokenizer: Tokenizer, texts: Iterable[str]) -> Difference:
    """Our ids of `texts` beside llama.cpp's. `tokenizer` must not read names of special tokens as such tokens."""
    theirs = LlamaCppTokenizer(tokenizer)
    lengths = [len(spelling) for spelling in _spellings(tokenizer)]
    documents = differing = tokens = moved = 0
    for text in texts:
        first, second = tokenizer.encode(text, add_special_tokens=False).ids, theirs.encode(text)
        documents, tokens = documents + 1, tokens + len(first)
        if first != second:
            differing += 1
            moved += len(_placed(first, lengths) - _placed(second, lengths))
    return Difference(documents, differing, tokens, moved)


def _spellings(tokenizer: Tokenizer) -> list[str]:
    """A character for each byte of every token, by id."""
    return [spelling for spelling, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])]


def _placed(ids: list[int], lengths: list[int]) -> set[tuple[int, int]]:
    """Each token with the byte of the text at which it begins."""
    found = set()
    at = 0
    for id in ids:
        found.add((at, id))
        at += lengths[id]
    return found
