"""A GPT: token embeddings, a stack of blocks, a norm, and an LM head of the next token's logits.

The parameters carry the names of `transformers`' Llama and Qwen3, so that weights and peft adapters fit both ways.
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmm.transformers.attention.attention import Attention
from llmm.transformers.attention.kv_cache import KVCache
from llmm.transformers.attention.rope import rope_tables
from llmm.transformers.block.block import Block
from llmm.transformers.block.feed_forward import MLP, SwiGLU
from llmm.transformers.gpt.config import GPTConfig


class Decoder(nn.Module):
    """Token ids (B, T) → hidden states (B, T, D) after the last norm."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.embed_positions = None
        if config.positions == "learned":
            self.embed_positions = nn.Embedding(config.context_len, config.d_model)
        else:
            cos, sin = rope_tables(config.d_head, config.context_len, config.rope_theta)
            self.register_buffer("cos", cos, persistent=False)
            self.register_buffer("sin", sin, persistent=False)
        self.layers = nn.ModuleList(_block(config) for _ in range(config.n_layer))
        self.residual_dtype: torch.dtype | None = None  # of the residual stream under autocast
        last = config.norm_placement != "post"  # there every block ends with a norm
        self.norm = _norm(config)() if last else nn.Identity()

    def forward(
        self,
        ids_BT: Tensor,
        attention_mask: Tensor | None = None,
        cache: KVCache | None = None,
        documents_BT: Tensor | None = None,
    ) -> Tensor:
        """See `GPT.forward` and `GPT.hidden`."""
        past = cache.length if cache is not None else 0
        T = ids_BT.shape[1]
        positions: slice | Tensor = slice(past, past + T)
        mask = _causal(past, T, ids_BT.device) if past and T > 1 else None
        if attention_mask is not None:
            positions, mask = _ragged(attention_mask, past, T)
        if documents_BT is not None:
            if attention_mask is not None or past:
                raise ValueError("windows of several documents have neither an attention mask nor a cache")
            positions, mask = _packed(documents_BT)

        x_BTD = self.embed_tokens(ids_BT)
        rope = None
        if self.embed_positions is not None:
            x_BTD = x_BTD + self.embed_positions.weight[positions]
        else:
            rope = self._angles(positions)
        if self.residual_dtype is not None and torch.is_autocast_enabled(ids_BT.device.type):
            x_BTD = x_BTD.to(self.residual_dtype)
        for i, block in enumerate(self.layers):
            x_BTD = block(x_BTD, rope, mask, cache.layers[i] if cache is not None else None)
        return self.norm(x_BTD)

    def _angles(self, positions: slice | Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines (T, d) of consecutive positions, (B, 1, T, d) where each row has its own."""
        cos, sin = self.cos[positions], self.sin[positions]
        return (cos, sin) if isinstance(positions, slice) else (cos[:, None], sin[:, None])


def _block(config: GPTConfig) -> Block:
    c = config
    qk_norm_eps = c.norm_eps if c.qk_norm else None
    attention = Attention(c.d_model, c.n_head, c.n_kv_head, c.d_head, qk_norm_eps, c.bias)
    feed_forward = (
        SwiGLU(c.d_model, c.d_ff, c.bias)
        if c.feed_forward == "swiglu"
        else MLP(c.d_model, c.d_ff, c.feed_forward, c.bias)
    )
    return Block(attention, feed_forward, _norm(c), c.norm_placement, c.dropout)


def _norm(config: GPTConfig) -> "partial[nn.Module]":
    return partial(nn.RMSNorm if config.norm == "rms" else nn.LayerNorm, config.d_model, eps=config.norm_eps)


def _ragged(attention_mask: Tensor, past: int, T: int) -> tuple[Tensor, Tensor]:
    """Positions (B, T) and mask (B, 1, T, S) of rows with padding: real tokens count, a pad looks at itself alone."""
    real_BS = attention_mask.bool()
    positions_BT = (real_BS.long().cumsum(1) - 1).clamp(min=0)[:, past : past + T]
    causal_TS = _causal(past, T, real_BS.device)
    itself_TS = torch.eye(past + T, dtype=torch.bool, device=real_BS.device)[past:]
    return positions_BT, (causal_TS & real_BS[:, None, None, :]) | itself_TS


def _packed(documents_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Positions (B, T) and mask (B, 1, T, T) of windows that hold several documents: each as if it stood alone."""
    T = documents_BT.shape[1]
    at_T = torch.arange(T, device=documents_BT.device)
    first_BT = F.pad(documents_BT[:, 1:] != documents_BT[:, :-1], (1, 0), value=True)
    start_BT = torch.where(first_BT, at_T, 0).cummax(1).values
    same_BTT = documents_BT[:, :, None] == documents_BT[:, None, :]
    return at_T - start_BT, (same_BTT & _causal(0, T, documents_BT.device))[:, None]


class GPT(nn.Module):
    """Token ids (B, T) → logits (B, T, V) of the next token."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def forward(self, ids_BT: Tensor, attention_mask: Tensor | None = None, cache: KVCache | None = None) -> Tensor:
        """Logits (B, T, V).

        `attention_mask` (B, S) is 1 for real tokens and 0 for padding, S counting the cached tokens too; padding may
        stand on either side. With a `cache`, `ids_BT` are the tokens after those it holds, and it takes them in.
        """
        return self.lm_head(self.model(ids_BT, attention_mask, cache))

    def hidden(
        self, ids_BT: Tensor, attention_mask: Tensor | None = None, documents_BT: Tensor | None = None
    ) -> Tensor:
        """Hidden states (B, T, D) after the last norm.

        `documents_BT` numbers the documents of windows that hold several, one after the other: no token sees another
        document, and each document's positions begin at 0. Raises ValueError where there is an `attention_mask` too.
        """
        return self.model(ids_BT, attention_mask, documents_BT=documents_BT)

    def loss(self, hidden_ND: Tensor, targets_N: Tensor, weights_N: Tensor | None = None) -> Tensor:
        """Mean cross-entropy, in nats, of the tokens `targets_N` (N,) after the hidden states (N, D).

        With `weights_N` it is the mean that counts each token with its weight.
        """
        logits_NV = self.lm_head(hidden_ND)
        logits_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
        if weights_N is None:
            return F.cross_entropy(logits_NV, targets_N)
        return (F.cross_entropy(logits_NV, targets_N, reduction="none") * weights_N).sum() / weights_N.sum()

    def new_cache(self, batch: int, capacity: int) -> KVCache:
        """An empty cache for `batch` rows of at most `capacity` tokens."""
        weight = self.model.embed_tokens.weight
        shape = (batch, self.config.n_kv_head, capacity, self.config.d_head)
        return KVCache(self.config.n_layer, shape, weight.dtype, weight.device)

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator) -> None:
        """Embeddings N(0, 0.02²), matrices uniform with variance 1 / fan-in, and zero for the two that write to the
        residual stream, so that every block starts as the identity (Zhang et al. 2019, 1901.09321)."""
        for name, parameter in self.named_parameters():
            if name.endswith(("embed_tokens.weight", "embed_positions.weight", "lm_head.weight")):
                parameter.normal_(0, 0.02, generator=generator)
            elif parameter.ndim == 1:
                parameter.fill_(0.0 if name.endswith("bias") else 1.0)
            elif name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.zero_()
            else:
                bound = math.sqrt(3 / parameter.shape[1])
                parameter.uniform_(-bound, bound, generator=generator)


def _causal(past: int, T: int, device: torch.device) -> Tensor:
    """(T, past + T), True where query t may look at key s: s <= past + t."""
    return torch.ones(T, past + T, dtype=torch.bool, device=device).tril(past)
