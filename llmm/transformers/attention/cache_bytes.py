"""What a cache weighs, by formula: the number that decides how many users fit on a machine. README, section 10.

Every token leaves two vectors a key head in every layer. Nothing else about a model's size matters here.
"""

import torch


def kv_bytes(n_layer: int, batch: int, n_kv_head: int, d_head: int, tokens: int, dtype: torch.dtype) -> int:
    """Keys and values of all tokens, equation (10.1): multi-head with K = H, grouped below, multi-query with K = 1."""
    return 2 * n_layer * batch * n_kv_head * tokens * d_head * dtype.itemsize


def window_bytes(
    n_layer: int, batch: int, n_kv_head: int, d_head: int, tokens: int, window: int, dtype: torch.dtype
) -> int:
    """The same of at most the last `window` tokens, equation (10.2): it stops growing."""
    return kv_bytes(n_layer, batch, n_kv_head, d_head, min(tokens, window), dtype)


def latent_bytes(n_layer: int, batch: int, d_latent: int, d_rope: int, tokens: int, dtype: torch.dtype) -> int:
    """One latent and one rotated key a token, however many heads read them, equation (10.3); no factor 2."""
    return n_layer * batch * tokens * (d_latent + d_rope) * dtype.itemsize


def heads_worth(d_latent: int, d_rope: int, d_head: int) -> float:
    """How many key heads of grouped attention cost as much as a latent cache, equation (10.4)."""
    return (d_latent + d_rope) / (2 * d_head)
