"""Answers that the fine-tuned model writes, with passages in its context or without."""

from collections.abc import Sequence
from pathlib import Path

from peft import PeftModel
from tokenizers import Tokenizer

from llmm.lineage import open_artifact
from llmm.training.lora.chat import Message, passages_text
from llmm.training.lora.spaced import SpacedCodec, said
from llmm.training.tokenizer.folder import load_text_tokenizer
from llmm.transformers.gpt import GPT, load_gpt
from llmm.transformers.gpt.generate import generate

MAX_NEW_TOKENS = 64


class Reader:
    """The fine-tuned model as a reader: question and passages to an answer."""

    def __init__(self, gpt: GPT, tokenizer: Tokenizer, context_tokens: int) -> None:
        self.gpt, self.codec, self.context_tokens = gpt, SpacedCodec(tokenizer), context_tokens

    def answers(self, questions: Sequence[str], passages: Sequence[tuple[str, str] | None]) -> list[str]:
        """Greedy answers; each passage is (title, text), None for a closed book.

        The role of the turn is given: here the model is to answer, not to choose a tool.
        """
        prompts = []
        for question, passage in zip(questions, passages, strict=True):
            messages = [Message("user", question)]
            if passage is not None:
                messages.insert(0, Message("context", self._cut(passages_text([passage]))))
            prompts.append([*self.codec.prompt(messages), self.codec.role_ids["assistant"]])
        generated = generate(self.gpt, prompts, MAX_NEW_TOKENS, [self.codec.end])
        return [said(self.codec, [token for token in tokens if token != self.codec.end]) for tokens in generated]

    def _cut(self, text: str) -> str:
        """The beginning of `text` that fits the context."""
        encoding = self.codec.tokenizer.encode(text, add_special_tokens=False)
        if len(encoding.ids) <= self.context_tokens:
            return text
        return text[: encoding.offsets[self.context_tokens - 1][1]]


def load_reader(adapter: Path, model: Path, tokenizer: Path, context_tokens: int) -> Reader:
    """The model under its adapter, merged. Raises UserError where they do not belong together."""
    base = open_artifact(model, "model")
    open_artifact(adapter, "adapter").require(base)
    base.require(open_artifact(tokenizer, "tokenizer"))
    tuned = PeftModel.from_pretrained(load_gpt(model), str(adapter)).merge_and_unload()
    return Reader(tuned.eval(), load_text_tokenizer(tokenizer), context_tokens)
