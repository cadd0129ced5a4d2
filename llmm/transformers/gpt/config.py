"""The sizes of a GPT, and the same sizes in the words of `transformers`."""

from dataclasses import dataclass
from typing import Any

from llmm.errors import UserError


@dataclass(frozen=True)
class GPTConfig:
    """Architecture of a decoder-only transformer with RMSNorm, RoPE, QK-norm and SwiGLU (Qwen3's block)."""

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

    @property
    def d_head(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.n_head

    @property
    def n_matmul_params(self) -> int:
        """Parameters in a matrix product for every token: blocks and head, without look-ups and gains."""
        attention = self.d_model * self.d_head * (2 * self.n_head + 2 * self.n_kv_head)
        return self.n_layer * (attention + 3 * self.d_model * self.d_ff) + self.vocab_size * self.d_model

    def flops_per_token(self, seq_len: int) -> float:
        """FLOPs of a token's forward and backward pass in a causal window: 6 N + 6 L D T (it sees T/2 on average).

        Source: Kaplan et al. 2020 (2001.08361), section 2.1, with the causal half of the attention products.
        """
        return 6.0 * self.n_matmul_params + 6.0 * self.n_layer * self.d_model * seq_len

    def to_transformers(self) -> dict[str, Any]:
        """The content of `config.json` for `transformers`' Qwen3ForCausalLM."""
        return {
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            "vocab_size": self.vocab_size,
            "hidden_size": self.d_model,
            "intermediate_size": self.d_ff,
            "num_hidden_layers": self.n_layer,
            "num_attention_heads": self.n_head,
            "num_key_value_heads": self.n_kv_head,
            "head_dim": self.d_head,
            "max_position_embeddings": self.context_len,
            "rope_theta": self.rope_theta,
            "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_theta},
            "rms_norm_eps": self.norm_eps,
            "hidden_act": "silu",
            "attention_bias": False,
            "tie_word_embeddings": self.tie_embeddings,
            "dtype": "float32",
        }

    @staticmethod
    def from_transformers(config: dict[str, Any]) -> "GPTConfig":
        """Read `config.json`. Raises UserError for another architecture or a missing key."""
        if config.get("model_type") != "qwen3":
            raise UserError(f"config.json: model_type = {config.get('model_type')!r}, expected 'qwen3'")
        try:
            sizes = GPTConfig(
                vocab_size=config["vocab_size"],
                n_layer=config["num_hidden_layers"],
                n_head=config["num_attention_heads"],
                n_kv_head=config["num_key_value_heads"],
                d_model=config["hidden_size"],
                d_ff=config["intermediate_size"],
                context_len=config["max_position_embeddings"],
                rope_theta=(config.get("rope_parameters") or config)["rope_theta"],
                norm_eps=config["rms_norm_eps"],
                tie_embeddings=config["tie_word_embeddings"],
            )
        except KeyError as error:
            raise UserError(f"config.json: {error.args[0]} is missing") from None
        if config.get("head_dim", sizes.d_head) != sizes.d_head:
            raise UserError(f"config.json: head_dim = {config['head_dim']}, expected {sizes.d_head} (d_model / n_head)")
        return sizes
