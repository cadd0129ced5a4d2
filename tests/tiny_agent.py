"""A small tokenizer, model and library for tests of the agent and of fine-tuning."""

import functools

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from agents.tool_agent.tools import Passage, Toolbox, make_toolbox
from llmm.corpus import Document, PythonObject
from llmm.training.lora.chat import ChatCodec
from llmm.training.tokenizer.special import SPECIAL_TOKENS
from llmm.transformers.gpt import GPT, GPTConfig

TEXT = (
    "what is the sum of two numbers? please search the documentation for json files. The answer is 12. "
    'def loads(s, *, cls=None): """Parse a JSON document.""" {"name":"calculator","arguments":{"expression":"12*7"}} '
)
OBJECTS = [
    PythonObject(
        f"{module}.{name}",
        "function",
        module,
        f"{name}(s, *, strict=True)",
        f"Parse a {module} text.",
        f"Parse a {module} text.",
        "return s",
        split,
        0,
        60,
    )
    for module, name, split in (
        ("jay", "loads", "train"),
        ("jay", "dumps", "train"),
        ("zed", "loads", "train"),
        ("zed", "unpack", "val"),
        ("why", "compare", "test"),
    )
]
DOCUMENTS = [
    Document(
        module,
        f"The {module} format.",
        f'def {name}(s, *, strict=True):\n    """Parse a {module} text."""\n    return s\n\n\n'
        + f"Reading {module} files needs an open stream. The reader of {module} stops at the first fault. "
        + "Nothing is guessed then.\n",
    )
    for module, name in (("jay", "loads"), ("zed", "unpack"), ("why", "compare"))
]


@functools.lru_cache(maxsize=1)
def tokenizer() -> Tokenizer:
    """Byte-level BPE with the project's special tokens and single digits."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([TEXT] * 20, trainer)
    return made


@functools.lru_cache(maxsize=1)
def codec() -> ChatCodec:
    """Of that tokenizer."""
    return ChatCodec(tokenizer())


def gpt(seed: int = 0) -> GPT:
    """Two layers of random weights."""
    model = GPT(GPTConfig(tokenizer().get_vocab_size(), 2, 2, 2, 32, 64, 1024))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.2, generator=generator)
    return model.eval()


def toolbox(found: str = "Parse a JSON document.") -> Toolbox:
    """The four tools over the small library; every search finds `found`."""
    return make_toolbox(lambda query, k: [Passage("jay", found)][:k], OBJECTS)
