"""Text embeddings from our own GPT: its first layers under a contrastively tuned LoRA adapter.

A text is read behind a token that says what it is, <|query|> or <|document|>; the final-norm hidden states of its
tokens are averaged and scaled to length 1, so that an inner product is a cosine. Reading is causal and padding stands
on the right, where no real token looks: no mask is needed.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer
from torch import Tensor, nn

from llmm.errors import UserError
from llmm.files import read_json, write_json
from llmm.lineage import Artifact, open_artifact
from llmm.training.tokenizer.folder import load_text_tokenizer
from llmm.transformers.gpt import GPT, load_gpt

QUERY, DOCUMENT, PAD = "<|query|>", "<|document|>", "<|pad|>"
SETTINGS_FILE = "encoder.json"
VALIDATION_FILE = "validation.json"
EMBEDDING = "embed_tokens"
# a pattern: peft would keep a list as a set and write it in another order each time, and the file has a hash
ADAPTED = rf".*\.({EMBEDDING}|q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
TOKENS_IN_A_BATCH = 8192
# a token is rarely longer than so many characters on average; reading more of a text would be cut away again
CHARS_PER_TOKEN = 12


@dataclass(frozen=True)
class EncoderSettings:
    """How texts are read: `layers` of the GPT, at most so many tokens of a query and of a document."""

    layers: int
    query_len: int
    document_len: int


class Encoder:
    """Embeds queries and documents as L2-normalised float32 vectors (N, D)."""

    def __init__(self, gpt: GPT, tokenizer: Tokenizer, settings: EncoderSettings) -> None:
        self.gpt, self.tokenizer, self.settings = gpt, tokenizer, settings
        self.pad = _special_id(tokenizer, PAD)
        self.marks = {mark: _special_id(tokenizer, mark) for mark in (QUERY, DOCUMENT)}

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self.gpt.config.d_model

    def embed_queries(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Vectors (N, D) of questions."""
        return self._embed(self.tokens(texts, QUERY))

    def embed_documents(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Vectors (N, D) of the beginnings of documents."""
        return self._embed(self.tokens(texts, DOCUMENT))

    def tokens(self, texts: Sequence[str], mark: str) -> list[list[int]]:
        """Token ids of each text behind its mark, cut to the length of its kind."""
        length = self.settings.query_len if mark == QUERY else self.settings.document_len
        cut = [text[: CHARS_PER_TOKEN * length] for text in texts]
        encoded = self.tokenizer.encode_batch(cut, add_special_tokens=False)
        return [[self.marks[mark], *entry.ids[: length - 1]] for entry in encoded]

    def forward(self, sequences: Sequence[Sequence[int]]) -> Tensor:
        """Vectors (B, D) of token sequences, with gradients where they are on."""
        lengths = torch.tensor([len(sequence) for sequence in sequences])
        ids_BT = torch.full((len(sequences), int(lengths.max())), self.pad)
        for row, sequence in enumerate(sequences):
            ids_BT[row, : len(sequence)] = torch.tensor(sequence)
        real_BT = torch.arange(ids_BT.shape[1]) < lengths[:, None]
        device = self.gpt.model.embed_tokens.weight.device
        hidden_BTD = self.gpt.hidden(ids_BT.to(device))
        mean_BD = (hidden_BTD * real_BT[..., None].to(device)).sum(1) / lengths[:, None].to(device)
        return F.normalize(mean_BD, dim=-1)

    @torch.inference_mode()
    def _embed(self, sequences: list[list[int]]) -> npt.NDArray[np.float32]:
        # texts of like length together: hardly a pad is computed
        order = sorted(range(len(sequences)), key=lambda i: (len(sequences[i]), sequences[i]))
        vectors = np.zeros((len(sequences), self.dimension), dtype=np.float32)
        start = 0
        while start < len(order):
            stop = start + 1
            while stop < len(order) and (stop + 1 - start) * len(sequences[order[stop]]) <= TOKENS_IN_A_BATCH:
                stop += 1
            rows = order[start:stop]
            vectors[rows] = self.forward([sequences[i] for i in rows]).float().cpu().numpy()
            start = stop
        return vectors


def _special_id(tokenizer: Tokenizer, token: str) -> int:
    number = tokenizer.token_to_id(token)
    if number is None:
        raise UserError(f"the tokenizer has no {token}: it belongs to another project")
    return number


def base_model(folder: Path, layers: int) -> GPT:
    """The GPT of `folder` without the blocks above the first `layers`, its own weights frozen."""
    gpt = load_gpt(folder)
    gpt.model.layers = nn.ModuleList(list(gpt.model.layers)[:layers])
    return gpt.requires_grad_(False)


def add_lora(gpt: GPT, rank: int, alpha: float, seed: int) -> PeftModel:
    """Give the embedding and every matrix of the blocks a LoRA branch (rsLoRA: scale alpha / √rank), in place.

    The embedding's has four times the rank: what a word means for search is most of what is learned.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # peft draws its matrices from the global generator
        return get_peft_model(
            gpt,
            LoraConfig(
                r=rank,
                lora_alpha=alpha,
                use_rslora=True,
                target_modules=ADAPTED,
                rank_pattern={EMBEDDING: 4 * rank},
            ),
        )


def save_encoder(adapter: PeftModel, settings: EncoderSettings, validation: dict[str, float], folder: Path) -> None:
    """Write peft's adapter files, the settings and nDCG@10 on validation by retriever into `folder`."""
    adapter.save_pretrained(str(folder), save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card
    write_json(folder / SETTINGS_FILE, asdict(settings))
    write_json(folder / VALIDATION_FILE, validation)


def best_retriever(folder: Path, wished: str) -> str:
    """`wished`, but "bm25" instead of "hybrid" unless the encoder in `folder` was shown to help on validation.

    Shown: the 95% interval of the paired difference in nDCG@10 excludes zero.
    """
    validation = read_json(folder / VALIDATION_FILE)
    return "bm25" if wished == "hybrid" and validation["gain_low"] <= 0 else wished


def load_encoder(folder: Path, model_folder: Path, tokenizer_folder: Path) -> tuple[Encoder, Artifact]:
    """The encoder with its adapter merged into the weights, and its artifact.

    Raises UserError where the encoder was tuned on another model, or the model trained with another tokenizer.
    """
    artifact, model = open_artifact(folder, "encoder"), open_artifact(model_folder, "model")
    artifact.require(model)
    model.require(open_artifact(tokenizer_folder, "tokenizer"))
    record = read_json(folder / SETTINGS_FILE)
    try:
        settings = EncoderSettings(**record)
    except TypeError:
        raise UserError(f"{folder / SETTINGS_FILE} has other keys than expected: run `dvc repro encoder`") from None
    tuned = PeftModel.from_pretrained(base_model(model_folder, settings.layers), str(folder))
    gpt = tuned.merge_and_unload().eval()
    return Encoder(gpt, load_text_tokenizer(tokenizer_folder), settings), artifact
