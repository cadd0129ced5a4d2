"""Scaled dot-product attention: softmax(q kᵀ / √d) v, with each query looking at no key after its own.

Source: Vaswani et al. 2017 (1706.03762), equation 1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_SHORT = 512  # tokens; up to here the T × T scores of a compiled training step stay in a CPU's cache


def attend(query_BHTd: Tensor, key_BHTd: Tensor, value_BHTd: Tensor, mask: Tensor | None = None) -> Tensor:
    """The values (B, H, T, d) mixed by attention; keys and values may have fewer heads, H_kv dividing H.

    `mask` is True where a query may look at a key, (B, 1, T, S); None is causal attention over T = S tokens. Short
    windows in bfloat16 that are being compiled for a CPU take the formula as it stands, whose products are then twice
    as fast, forward and backward; everything else takes torch's tiled kernel.
    """
    T = query_BHTd.shape[2]
    on_cpu_in_bfloat16 = query_BHTd.device.type == "cpu" and value_BHTd.dtype == torch.bfloat16
    if torch.compiler.is_compiling() and on_cpu_in_bfloat16 and mask is None and 1 < T <= _SHORT:
        return _by_the_formula(query_BHTd, key_BHTd, value_BHTd)
    causal = False
    if mask is None and T > 1:  # a branch: where torch.compile keeps T symbolic, `T > 1` is no bool
        causal = True
    return F.scaled_dot_product_attention(
        query_BHTd,
        key_BHTd,
        value_BHTd,
        attn_mask=mask,
        is_causal=causal,
        enable_gqa=query_BHTd.shape[1] != key_BHTd.shape[1],
    )


def _by_the_formula(query_BHTd: Tensor, key_BHTd: Tensor, value_BHTd: Tensor) -> Tensor:
    """Causal attention with its scores written out; sums and softmax in float32 at least."""
    T, d = query_BHTd.shape[2:]
    shared = query_BHTd.shape[1] // key_BHTd.shape[1]
    if shared > 1:
        key_BHTd, value_BHTd = (x.repeat_interleave(shared, dim=1) for x in (key_BHTd, value_BHTd))
    scores_BHTS = (query_BHTd * d**-0.5) @ key_BHTd.mT
    later_TS = torch.ones(T, T, dtype=torch.bool, device=query_BHTd.device).triu(1)
    scores_BHTS = scores_BHTS.to(torch.promote_types(scores_BHTS.dtype, torch.float32))
    weights_BHTS = scores_BHTS.masked_fill(later_TS, float("-inf")).softmax(-1)
    return weights_BHTS.to(value_BHTd.dtype) @ value_BHTd
