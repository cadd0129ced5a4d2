"""Sizes and choices that make a GPT: those of GPT-2, Llama and Qwen3 are points of one space."""

from dataclasses import dataclass
from typing import Literal

from llmm.errors import UserError
from llmm.transformers.block.block import Placement


@dataclass(frozen=True)
class GPTConfig:
    """Architecture of a decoder-only transformer; the defaults are Qwen3's (RMSNorm, RoPE, QK-norm, SwiGLU).

    Raises UserError where the sizes do not fit together.
    """

    vocab_size: int
    n_layer: int
    n_head: int
    n_kv_head: int
    d_model: int
    d_ff: int
    context_len: int
    rope_theta: float = 10000.0
    norm_eps: float = 1e-6
    tie_embeddings: bool = True
    dropout: float = 0.0
    head_dim: int | None = None  # None: d_model / n_head
    positions: Literal["rope", "learned"] = "rope"
    norm: Literal["rms", "layer"] = "rms"
    norm_placement: Placement = "pre"
    qk_norm: bool = True
    feed_forward: Literal["swiglu", "gelu", "gelu_tanh", "relu2"] = "swiglu"
    bias: bool = False  # of all linear layers but the LM head

    def __post_init__(self) -> None:
        """Refuse sizes that do not fit together."""
        for name in ("vocab_size", "n_layer", "n_head", "n_kv_head", "d_model", "d_ff", "context_len"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} = {getattr(self, name)}: expected 1 or more")
        if self.head_dim is None and self.d_model % self.n_head:
            raise UserError(f"n_head = {self.n_head} does not divide d_model = {self.d_model}")
        if self.n_head % self.n_kv_head:
            raise UserError(f"n_kv_head = {self.n_kv_head} does not divide n_head = {self.n_head}")
        if self.positions == "rope" and self.d_head % 2:
            raise UserError(f"heads of width {self.d_head}: RoPE turns pairs of channels, expected an even number")

    @property
    def d_head(self) -> int:
        """Width of one attention head."""
        return self.head_dim or self.d_model // self.n_head

    @property
    def n_matmul_params(self) -> int:
        """Parameters in a matrix product for every token: blocks and head, without look-ups, gains and biases."""
        attention = self.d_model * self.d_head * (2 * self.n_head + 2 * self.n_kv_head)
        matrices = 3 if self.feed_forward == "swiglu" else 2
        return self.n_layer * (attention + matrices * self.d_model * self.d_ff) + self.vocab_size * self.d_model

    def flops_per_token(self, seq_len: int) -> float:
        """FLOPs of a token's forward and backward pass in a causal window: 6 N + 6 L H d T (it sees T/2 on average).

        Source: Kaplan et al. 2020 (2001.08361), section 2.1, with the causal half of the attention products.
        """
        return 6.0 * self.n_matmul_params + 6.0 * self.n_layer * self.n_head * self.d_head * seq_len
