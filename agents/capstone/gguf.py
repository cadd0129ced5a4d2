"""The assistant as one GGUF file, for llama.cpp and the programs around it.

The package `gguf` of llama.cpp writes it: weights, sizes, tokenizer, chat template and the hashes of what it was made
from. `transformers` reads it back before it is handed over, and must compute what our model computes with the weights
as they are stored. For use in `transformers` the folder of `llmm export hf` is better: from a GGUF file it takes any
head to be 128 wide, and the tokenizer without the marks that `agents.capstone.gguf_tokenizer` sets for llama.cpp.
"""

import contextlib
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType, LlamaFileType
from numpy.typing import NDArray
from tokenizers import Tokenizer

from agents.capstone.gguf_tokenizer import PRE_TOKENIZER, Difference, compare, to_gguf_tokens
from llmm import lineage, paths
from llmm.corpus import load_documents
from llmm.errors import UserError
from llmm.files import atomic_path, sha256_of
from llmm.lineage import Artifact
from llmm.training.lora.adapter import load_tuned
from llmm.training.lora.chat_template import CHAT_TEMPLATE
from llmm.training.tokenizer.folder import load_text_tokenizer
from llmm.training.tokenizer.special import END, END_OF_TEXT, PAD, SPECIAL_TOKENS
from llmm.transformers.gpt import GPT, GPTConfig, load_gpt
from llmm.transformers.gpt.families import QWEN3

ARCHITECTURE = "qwen3"
TOLERANCE = 1e-4  # of the logits; a wrong weight differs by far more
Type = Literal["f32", "f16", "q8_0"]
_TYPES: dict[Type, tuple[GGMLQuantizationType, LlamaFileType]] = {
    "f32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),  # 8 bits, a scale for every 32 weights of a row
}
Weights = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Exported:
    """What was found when the file was read back.

    `difference` is the largest of `transformers`' logits from those of our model with its own float32 weights, so it
    holds what storing them with fewer bits did; `stored_difference` from our model with the stored weights.
    `tokens` says how llama.cpp cuts the test split, None where the corpus is not there.
    """

    bytes: int
    weights_sha256: str
    difference: float
    stored_difference: float
    tokens: Difference | None


def export_to_gguf(file: Path, base: bool = False, kind: Type = "f32") -> Exported:
    """Write the model with the adapter merged in (or the pretrained one, with `base`) as `file`.

    Matrices are stored as `kind`, vectors in float32. Raises UserError where the file is there already, an artifact is
    missing, the model is no Qwen3, or what `transformers` computes from the file is not what it should be.
    """
    file = file.absolute()
    if file.suffix != ".gguf":
        raise UserError(f"{file.name}: name a file that ends in .gguf, which programs look for")
    if file.exists():
        raise UserError(f"{file} is there already: name a new file")
    gpt, tokenizer, made_from = _load(base)
    refuse_others(gpt.config)
    weights = _weights(gpt)
    digest = sha256_of(*(part for name in sorted(weights) for part in (name, weights[name].tobytes())))
    stored = {name: store(name, matrix, kind) for name, matrix in weights.items()}
    with atomic_path(file) as temporary:
        writer = gguf.GGUFWriter(temporary, ARCHITECTURE)
        writer.add_name(f"llm-engineering-mastery {'base model' if base else 'assistant'}")
        writer.add_file_type(_TYPES[kind][1])
        writer.add_string("llmm.weights.sha256", digest)
        for artifact in made_from:
            writer.add_string(f"llmm.{artifact.kind}.sha256", artifact.sha256)
        _add_sizes(writer, gpt.config)
        _add_tokenizer(writer, tokenizer, base)
        names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, gpt.config.n_layer)
        for name, (data, quantization) in stored.items():
            writer.add_tensor(str(names.get_name(name, (".weight",))), data, raw_dtype=quantization)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        ids = torch.arange(min(64, gpt.config.context_len))[None] % gpt.config.vocab_size
        theirs = _read_back(temporary, gpt.config, ids)
        _put(gpt, weights)
        difference = _distance(theirs, gpt, ids)
        _put(gpt, {name: gguf.dequantize(data, quantization) for name, (data, quantization) in stored.items()})
        stored_difference = _distance(theirs, gpt, ids)
        if not stored_difference <= TOLERANCE:
            raise UserError(
                f"transformers' logits from the file differ from ours by {stored_difference:.1e}, more than "
                f"{TOLERANCE:.0e}: nothing was written"
            )
        size = temporary.stat().st_size
    tokens = None
    if paths.CORPUS.is_dir():
        tokens = compare(tokenizer, [document.text for document in load_documents(paths.CORPUS, "test")])
    return Exported(size, digest, difference, stored_difference, tokens)


def refuse_others(config: GPTConfig) -> None:
    """Raise UserError where the model makes another choice than llama.cpp's architecture `qwen3` has."""
    wanted = {**QWEN3, "norm_placement": "pre"}
    others = [f"{key} = {getattr(config, key)!r}" for key, value in wanted.items() if getattr(config, key) != value]
    if others:
        raise UserError(
            f"{', '.join(others)}: not supported in GGUF, which is written as {ARCHITECTURE} only; "
            "`llmm export hf` writes gpt2 and llama too"
        )


def store(name: str, weights: NDArray[np.float32], kind: Type) -> tuple[NDArray[np.generic], GGMLQuantizationType]:
    """One tensor as it is stored, and how: vectors in float32, matrices as `kind`.

    Rows that are no whole number of blocks of 32 are stored in half precision, not in 8 bits, as llama.cpp does.
    Raises UserError where a weight is too large for half precision.
    """
    quantization = _TYPES[kind][0] if weights.ndim > 1 else GGMLQuantizationType.F32
    if weights.shape[-1] % gguf.GGML_QUANT_SIZES[quantization][0]:
        quantization = GGMLQuantizationType.F16
    with np.errstate(over="ignore"):
        data = gguf.quantize(weights, quantization)
    if not np.isfinite(gguf.dequantize(data, quantization)).all():
        raise UserError(f"{name} holds a weight that is not finite as {kind}: export it as f32")
    return data, quantization


def _load(base: bool) -> tuple[GPT, Tokenizer, list[Artifact]]:
    """The model, its tokenizer and the artifacts that both were made of."""
    model = lineage.open_artifact(paths.MODEL, "model")
    words = lineage.open_artifact(paths.TOKENIZER, "tokenizer")
    model.require(words)
    tokenizer = load_text_tokenizer(paths.TOKENIZER)
    if base:
        return load_gpt(paths.MODEL), tokenizer, [model, words]
    gpt, adapter = load_tuned(paths.ADAPTER, paths.MODEL, paths.TOKENIZER)
    return gpt, tokenizer, [model, adapter, words]


def _weights(gpt: GPT) -> Weights:
    """Every tensor once, in float32; an LM head that is the embedding is left out, as the format has it."""
    state = {name: tensor.detach().float().cpu().contiguous().numpy() for name, tensor in gpt.state_dict().items()}
    if gpt.config.tie_embeddings:
        del state["lm_head.weight"]
    return {name: tensor.copy() for name, tensor in state.items()}


def _add_sizes(writer: gguf.GGUFWriter, config: GPTConfig) -> None:
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.context_len)
    writer.add_block_count(config.n_layer)
    writer.add_embedding_length(config.d_model)
    writer.add_feed_forward_length(config.d_ff)
    writer.add_head_count(config.n_head)
    writer.add_head_count_kv(config.n_kv_head)
    writer.add_key_length(config.d_head)
    writer.add_value_length(config.d_head)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_dimension_count(config.d_head)
    writer.add_rope_freq_base(config.rope_theta)


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer, base: bool) -> None:
    """Tokens, and what surrounds a text: the pretrained model saw every document behind a separator and ended by it;
    the assistant sees turns, which begin with the token of their role and end with theirs."""
    tokens = to_gguf_tokens(tokenizer)
    writer.add_tokenizer_model("gpt2")  # llama.cpp's word for byte-level BPE
    writer.add_tokenizer_pre(PRE_TOKENIZER)
    writer.add_token_list(tokens.texts)
    writer.add_token_types(tokens.types)
    writer.add_token_merges(tokens.merges)
    writer.add_bos_token_id(SPECIAL_TOKENS.index(END_OF_TEXT))
    writer.add_eos_token_id(SPECIAL_TOKENS.index(END_OF_TEXT if base else END))
    writer.add_pad_token_id(SPECIAL_TOKENS.index(PAD))
    writer.add_add_bos_token(base)
    writer.add_add_space_prefix(False)
    if not base:
        writer.add_chat_template(CHAT_TEMPLATE)


def _read_back(file: Path, config: GPTConfig, ids: torch.Tensor) -> torch.Tensor:
    """The logits of `transformers`, which reads every size from the file but the width of a head."""
    from transformers import AutoConfig, AutoModelForCausalLM

    # it draws a bar for every pass over the tensors
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        named = Path(folder, "model.gguf")  # it goes by the name's end
        named.symlink_to(file)
        # the whole path: of a bare name it would take the file of that name in the working folder
        whole = str(named)
        read = AutoConfig.from_pretrained(folder, gguf_file=whole)
        read.head_dim = config.d_head
        model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=whole, config=read, dtype=torch.float32).eval()
        with torch.inference_mode():
            logits: torch.Tensor = model(ids).logits
    return logits


def _put(gpt: GPT, weights: Weights) -> None:
    state = {name: torch.from_numpy(np.array(values)) for name, values in weights.items()}
    if gpt.config.tie_embeddings:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    gpt.load_state_dict(state, strict=True)


def _distance(theirs: torch.Tensor, gpt: GPT, ids: torch.Tensor) -> float:
    with torch.inference_mode():
        return float((theirs - gpt(ids)).abs().max())
