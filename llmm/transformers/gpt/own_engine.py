"""The same GPT on the autograd engine of M2: NumPy below, nothing of torch.

Modules, attributes and so the names of the parameters are those of `model.GPT`, shapes too: weights pass between the
two by name. Of the space that GPTConfig spans this is the pipeline's part (RMSNorm before each branch, RoPE, QK-norm or
none, grouped heads, SwiGLU); README, section 8.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmm.errors import UserError
from llmm.foundations.neural_network.functional import cross_entropy, silu, softmax
from llmm.foundations.neural_network.layers import Embedding, Linear, Module
from llmm.foundations.neural_network.tensor import Tensor, concatenate
from llmm.transformers.attention.rope import rope_tables
from llmm.transformers.gpt.config import GPTConfig

Array = NDArray[Any]
_UNSEEDED = np.random.default_rng(0)  # layers draw weights that `load` replaces


class RMSNorm(Module):
    """x / √(mean of x² + ε) · gain over the last axis."""

    def __init__(self, d: int, eps: float) -> None:
        self.weight = Tensor(np.ones(d), requires_grad=True)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) → (..., d)."""
        return x * ((x * x).mean(-1, keepdims=True) + self.eps) ** -0.5 * self.weight


class Attention(Module):
    """Causal attention whose `n_kv_head` key and value heads each serve n_head / n_kv_head query heads."""

    def __init__(self, c: GPTConfig) -> None:
        d = c.d_head
        self.q_proj, self.k_proj, self.v_proj = (
            _linear(c.d_model, heads * d) for heads in (c.n_head, c.n_kv_head, c.n_kv_head)
        )
        self.o_proj = _linear(c.n_head * d, c.d_model)
        self.q_norm = RMSNorm(d, c.norm_eps) if c.qk_norm else None
        self.k_norm = RMSNorm(d, c.norm_eps) if c.qk_norm else None
        self.n_kv_head, self.group, self.d = c.n_kv_head, c.n_head // c.n_kv_head, d

    def forward(self, x: Tensor, cos: Array, sin: Array) -> Tensor:
        """(B, T, D) → (B, T, D); `cos` and `sin` (T, d) are RoPE's angles."""
        B, T, _ = x.shape
        Hkv, G, d = self.n_kv_head, self.group, self.d
        q = self.q_proj(x).reshape(B, T, Hkv, G, d)
        k, v = (projected.reshape(B, T, Hkv, 1, d) for projected in (self.k_proj(x), self.v_proj(x)))
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k, v = (heads.transpose(0, 2, 3, 1, 4) for heads in (q, k, v))  # (B, Hkv, G or 1, T, d)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)

        scores = (q @ k.mT) * d**-0.5  # (B, Hkv, G, T, T): the one key head of a group is broadcast over it
        weights = softmax(scores.masked_fill(np.triu(np.ones((T, T), dtype=bool), 1), -np.inf))
        return self.o_proj((weights @ v).transpose(0, 3, 1, 2, 4).reshape(B, T, Hkv * G * d))


class SwiGLU(Module):
    """down(silu(gate x) · up x)."""

    def __init__(self, d_model: int, d_ff: int) -> None:
        self.gate_proj, self.up_proj, self.down_proj = (
            _linear(n_in, n_out) for n_in, n_out in ((d_model, d_ff), (d_model, d_ff), (d_ff, d_model))
        )

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) → (..., D)."""
        return self.down_proj(silu(self.gate_proj(x)) * self.up_proj(x))


class Block(Module):
    """x + attention(norm x), then x + feed-forward(norm x)."""

    def __init__(self, c: GPTConfig) -> None:
        self.input_layernorm = RMSNorm(c.d_model, c.norm_eps)
        self.self_attn = Attention(c)
        self.post_attention_layernorm = RMSNorm(c.d_model, c.norm_eps)
        self.mlp = SwiGLU(c.d_model, c.d_ff)

    def forward(self, x: Tensor, cos: Array, sin: Array) -> Tensor:
        """(B, T, D) → (B, T, D)."""
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(Module):
    """Token ids (B, T) → hidden states (B, T, D) after the last norm."""

    def __init__(self, c: GPTConfig) -> None:
        self.embed_tokens = Embedding(c.vocab_size, c.d_model, _UNSEEDED)
        self.layers = [Block(c) for _ in range(c.n_layer)]
        self.norm = RMSNorm(c.d_model, c.norm_eps)
        # float32, as torch's model and `transformers` have them: the angles are a convention, not a computation
        self.cos, self.sin = (table.double().numpy() for table in rope_tables(c.d_head, c.context_len, c.rope_theta))

    def forward(self, ids: Array) -> Tensor:
        """(B, T) → (B, T, D)."""
        T = ids.shape[1]
        x = self.embed_tokens(ids)
        for block in self.layers:
            x = block(x, self.cos[:T], self.sin[:T])
        return self.norm(x)


class OwnGPT(Module):
    """Token ids (B, T) → logits (B, T, V), float64."""

    def __init__(self, config: GPTConfig) -> None:
        """Raises UserError for a config outside the part that is built here."""
        c = config
        if (c.positions, c.norm, c.norm_placement, c.feed_forward, c.bias) != ("rope", "rms", "pre", "swiglu", False):
            raise UserError(
                "the model on M2's engine is of Llama's and Qwen3's build: RoPE, RMSNorm, SwiGLU, no biases"
            )
        self.config = config
        self.model = Decoder(config)
        self.lm_head = None if config.tie_embeddings else _linear(config.d_model, config.vocab_size)

    def forward(self, ids: Array) -> Tensor:
        """(B, T) → (B, T, V); with tied embeddings the LM head's matrix is the embedding's."""
        hidden = self.model(ids)
        return hidden @ self.model.embed_tokens.weight.T if self.lm_head is None else self.lm_head(hidden)

    def loss(self, ids: Array) -> Tensor:
        """Mean cross-entropy, in nats, of each token of `ids` (B, T) after the first given those before it."""
        return cross_entropy(self(ids[:, :-1]), ids[:, 1:])

    def load(self, weights: dict[str, Array]) -> None:
        """Take copies of `weights` by name. Raises UserError where a name or a shape does not fit."""
        parameters = self.named_parameters()
        if difference := sorted(parameters.keys() ^ weights.keys()):
            raise UserError(f"the weights do not fit the model: {difference[0]} is in one of them only")
        for name, parameter in parameters.items():
            if parameter.shape != weights[name].shape:
                raise UserError(f"the tensor {name} is {weights[name].shape}, expected {parameter.shape}")
            parameter.data = np.array(weights[name], dtype=np.float64)


def rotate(x: Tensor, cos: Array, sin: Array) -> Tensor:
    """Turn the pairs (i, i + d/2) of channels (..., T, d) by the angles whose `cos` and `sin` are (T, d)."""
    half = x.shape[-1] // 2
    swapped = concatenate([-x[..., half:], x[..., :half]], -1)
    return x * cos + swapped * sin


def _linear(n_in: int, n_out: int) -> Linear:
    return Linear(n_in, n_out, _UNSEEDED, bias=False)
