"""The subject of M11's experiments: the standard library as a corpus, and an encoder that trains in seconds."""

import functools
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import nn

from llmm.corpus import SPLITS, Document, PythonObject, load_documents, load_objects
from llmm.corpus.build import build_corpus
from llmm.corpus.sources import open_source
from llmm.params import CorpusParams
from llmm.training.rag.encoder import Encoder, EncoderSettings
from llmm.training.tokenizer.bpe import train_codec
from llmm.training.tokenizer.export import to_tokenizers
from llmm.transformers.gpt import GPT, GPTConfig

VOCABULARY, WIDTH = 2048, 128
QUERY_TOKENS, DOCUMENT_TOKENS = 32, 128
SOURCE = CorpusParams(
    source="stdlib",
    path="",
    hub_name="",
    hub_config="",
    hub_split="train",
    text_column="text",
    title_column="",
    max_documents=0,
    min_chars=64,
    max_chars=2_000_000,
    near_duplicate_similarity=0.8,
    val_fraction=0.05,
    test_fraction=0.05,
)


@dataclass(frozen=True)
class Corpus:
    """The documents of each split, and the Python objects that they define."""

    documents: Mapping[str, Sequence[Document]]
    objects: Sequence[PythonObject]

    @property
    def everything(self) -> list[Document]:
        """The documents of all splits."""
        return [document for split in SPLITS for document in self.documents[split]]


@functools.cache
def corpus() -> Corpus:
    """This machine's standard library, as the pipeline prepares it by default."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "corpus"
        build_corpus(open_source(SOURCE), SOURCE, 0, folder)
        return Corpus({split: load_documents(folder, split) for split in SPLITS}, load_objects(folder))


@functools.cache
def tokenizer() -> Tokenizer:
    """M8's byte-level BPE, trained on the training split; text never becomes a special token."""
    made = to_tokenizers(train_codec([document.text for document in corpus().documents["train"]], VOCABULARY))
    made.encode_special_tokens = True
    return made


def bag_encoder(seed: int) -> Encoder:
    """The pipeline's encoder without any block: a vector a token, scaled by the norm and averaged. Fresh weights."""
    gpt = GPT(GPTConfig(VOCABULARY, 1, 4, 4, WIDTH, WIDTH, DOCUMENT_TOKENS))
    gpt.init_weights(torch.Generator().manual_seed(seed))
    gpt.model.layers = nn.ModuleList()
    return Encoder(gpt, tokenizer(), EncoderSettings(0, QUERY_TOKENS, DOCUMENT_TOKENS))
