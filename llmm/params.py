"""params.yaml as typed, validated objects: one class a section, one line for every fault.

What each key means is written beside it in params.yaml; here are its type, its range and the rules that bind several
keys together.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from llmm.errors import UserError
from llmm.paths import PARAMS

Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A frozen section of params.yaml: unknown keys and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class CorpusParams(Section):
    """Where the text comes from and how it is cleaned and split."""

    source: Literal["stdlib", "files", "hub"]
    path: str
    hub_name: str
    hub_config: str
    hub_split: str
    text_column: str
    title_column: str
    max_documents: CountOrZero
    min_chars: Count
    max_chars: Count
    near_duplicate_similarity: Annotated[float, Field(gt=0, le=1)]
    val_fraction: Annotated[float, Field(gt=0, le=0.4)]
    test_fraction: Annotated[float, Field(gt=0, le=0.4)]

    @model_validator(mode="after")
    def _source_is_named(self) -> Self:
        if self.source == "files" and not self.path:
            raise ValueError("path: '' but source 'files' needs a folder or a glob of files")
        if self.source == "hub" and not self.hub_name:
            raise ValueError("hub_name: '' but source 'hub' needs the name of a data set")
        if self.max_chars < self.min_chars:
            raise ValueError(f"max_chars: {self.max_chars} is below min_chars = {self.min_chars}")
        return self


class TokenizerParams(Section):
    """The byte-level BPE tokenizer."""

    # 256 bytes and the special tokens are always there; ids must fit the uint32 of the token shards
    vocab_size: Annotated[int, Field(ge=300, le=2**31)]


class PretrainParams(Section):
    """Architecture of the GPT and the recipe that trains it."""

    n_layer: Count
    n_head: Count
    n_kv_head: Count
    d_model: Count
    d_ff: Count
    seq_len: Annotated[int, Field(ge=8)]
    context_len: Annotated[int, Field(ge=8)]
    rope_theta: Positive
    tie_embeddings: bool
    positions: Literal["rope", "learned"]
    norm: Literal["rms", "layer"]
    qk_norm: bool
    feed_forward: Literal["swiglu", "gelu", "gelu_tanh", "relu2"]
    bias: bool
    zero_init: bool
    induction_start: bool
    batch_size: Count
    grad_accum_steps: Count
    steps: Count
    optimizer: Literal["muon", "adamw"]
    muon_lr: Positive
    muon_momentum: Annotated[float, Field(ge=0, lt=1)]
    muon_momentum_end: Annotated[float, Field(ge=0, lt=1)]
    muon_neuron_beta: Annotated[float, Field(ge=0, lt=1)]
    adamw_lr: Positive
    weight_decay: Annotated[float, Field(ge=0)]
    schedule: Literal["wsd", "cosine"]
    warmup_steps: CountOrZero
    cooldown_fraction: Fraction
    grad_clip: Positive
    dropout: Annotated[float, Field(ge=0, lt=1)]
    dtype: Literal["auto", "float32", "bfloat16"]
    residual_dtype: Literal["float32", "bfloat16"]
    compile: bool | Literal["auto"]
    parallel: Literal["ddp", "fsdp"]
    eval_every: Count
    checkpoint_every: Count

    @model_validator(mode="after")
    def _shapes_fit(self) -> Self:
        if self.d_model % self.n_head:
            raise ValueError(f"n_head: {self.n_head} does not divide d_model = {self.d_model}")
        if self.n_head % self.n_kv_head:
            raise ValueError(f"n_kv_head: {self.n_kv_head} does not divide n_head = {self.n_head}")
        if self.positions == "rope" and (self.d_model // self.n_head) % 2:
            raise ValueError(
                f"d_model / n_head: {self.d_model // self.n_head} is odd, but rotary embeddings turn pairs of channels"
            )
        if self.induction_start and not (
            self.positions == "rope" and self.qk_norm and self.tie_embeddings and self.n_layer > 1
        ):
            raise ValueError(
                "induction_start: needs positions = rope, qk_norm = true, tie_embeddings = true and two layers"
            )
        if self.context_len < self.seq_len:
            raise ValueError(f"context_len: {self.context_len} is below seq_len = {self.seq_len}")
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps: {self.warmup_steps} leaves none of the {self.steps} steps")
        return self


class FinetuneParams(Section):
    """Instruction data made from the source by program, and the LoRA that learns from it."""

    rank: Count
    alpha: Positive
    dropout: Annotated[float, Field(ge=0, lt=1)]
    trained_tokens: Literal["all", "special"]
    muon_lr: Positive
    muon_momentum: Annotated[float, Field(ge=0, lt=1)]
    adamw_lr: Positive
    decision_weight: Positive
    warmup_steps: CountOrZero
    steps: Count
    batch_size: Count
    checkpoint_every: Count
    seq_len: Annotated[int, Field(ge=32)]
    dtype: Literal["auto", "float32", "bfloat16"]
    compile: bool
    tool_examples: Count
    object_examples: Count


class EncoderParams(Section):
    """The embedding model: a contrastively tuned LoRA on the pretrained weights."""

    layers: Count
    rank: Count
    alpha: Positive
    lr: Positive
    temperature: Positive
    steps: Count
    batch_size: Annotated[int, Field(ge=2)]
    query_len: Annotated[int, Field(ge=8)]
    document_len: Annotated[int, Field(ge=8)]


class IndexParams(Section):
    """Chunks, and how they are searched."""

    chunk_chars: Annotated[int, Field(ge=50)]
    chunk_overlap: CountOrZero
    bm25_k1: Positive
    bm25_b: Fraction
    retriever: Literal["bm25", "dense", "hybrid"]
    fusion: Literal["rrf", "scores"]
    dense_weight: Fraction

    @model_validator(mode="after")
    def _overlap_is_smaller(self) -> Self:
        if self.chunk_overlap >= self.chunk_chars:
            raise ValueError(f"chunk_overlap: {self.chunk_overlap} is not below chunk_chars = {self.chunk_chars}")
        return self


class RagEvalParams(Section):
    """The retrieval benchmark and the question answering on top of it."""

    retrieval_queries: Count
    questions: Count
    top_k: Count
    bootstrap_samples: Annotated[int, Field(ge=100)]


class AgentEvalParams(Section):
    """The agent's five suites of tasks."""

    tasks: Count
    max_steps: Count
    bootstrap_samples: Annotated[int, Field(ge=100)]


class Params(Section):
    """All of params.yaml."""

    seed: CountOrZero
    corpus: CorpusParams
    tokenizer: TokenizerParams
    pretrain: PretrainParams
    finetune: FinetuneParams
    encoder: EncoderParams
    index: IndexParams
    rag_eval: RagEvalParams
    agent_eval: AgentEvalParams

    @model_validator(mode="after")
    def _sections_fit(self) -> Self:
        if self.finetune.seq_len > self.pretrain.context_len:
            raise ValueError(
                f"finetune.seq_len: {self.finetune.seq_len} is above pretrain.context_len = {self.pretrain.context_len}"
            )
        return self


def load_params(path: Path = PARAMS) -> Params:
    """Read and validate params.yaml.

    Raises UserError with one line that names the file, the key, its value and what is expected.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        raw = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is not there: run this in the project's folder") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is no UTF-8 text: save it as UTF-8") from None
    except MarkedYAMLError as error:
        where = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}{where}: no valid YAML ({error.problem})") from None
    except YAMLError as error:
        raise UserError(f"{path}: no valid YAML ({str(error).splitlines()[0]})") from None
    return validate(raw, path)


def validate(raw: Any, path: Path = PARAMS) -> Params:
    """Check the parsed content of params.yaml; `path` is what the message calls it."""
    if not isinstance(raw, dict):
        raise UserError(f"{path}: found {type(raw).__name__}, expected sections such as `pretrain:`")
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        raise UserError("; ".join(_one_line(path, fault) for fault in error.errors())) from None


def _one_line(path: Path, fault: Any) -> str:
    key = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"{path}: {key} is no key that is known here ({_nearest(fault['loc'])})"
    if fault["type"] == "missing":
        return f"{path}: {key} is missing"
    if fault["type"] == "value_error":
        dot = "." if key else ""
        return f"{path}: {key}{dot}{fault['ctx']['error']}"
    message = fault["msg"].replace("Input should be", "expected").replace("a valid ", "a ")
    return f"{path}: {key} = {fault['input']!r}: {message}"


def _nearest(loc: tuple[Any, ...]) -> str:
    import difflib

    model: type[BaseModel] = Params
    for part in loc[:-1]:
        annotation = model.model_fields[part].annotation
        assert isinstance(annotation, type)
        model = annotation
    known = list(model.model_fields)
    close = difflib.get_close_matches(str(loc[-1]), known, n=1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
