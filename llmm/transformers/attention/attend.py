"""Scaled dot-product attention: softmax(q kᵀ / √d) v, with each query looking at no key after its own.

Source: Vaswani et al. 2017 (1706.03762), equation 1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_SHORT = 512  # tokens; up to here the T × T scores of a compiled training step stay in a CPU's cache


def attend(query_BHTd: Tensor, key_BHTd: Tensor, value_BHTd: Tensor, mask: Tensor | None = None) -> Tensor:
    """The values (B, H, T, d) mixed by attention; keys and values may have fewer heads, H_kv dividing H.

    `mask` is True where a query may look at a key, (B, 1, T, S), never at a later one; None is causal attention over
    T = S tokens. Short windows in bfloat16 that are being compiled for a CPU take the formula in two halves, which is
    then faster than torch's tiled kernel, forward and backward, more than twice without a mask. All else takes the
    kernel.
    """
    T = query_BHTd.shape[2]
    on_cpu_in_bfloat16 = query_BHTd.device.type == "cpu" and value_BHTd.dtype == torch.bfloat16
    if torch.compiler.is_compiling() and on_cpu_in_bfloat16 and key_BHTd.shape[2] == T and 1 < T <= _SHORT:
        return _in_two_halves(query_BHTd, key_BHTd, value_BHTd, mask)
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


def _in_two_halves(query_BHTd: Tensor, key_BHTd: Tensor, value_BHTd: Tensor, mask: Tensor | None = None) -> Tensor:
    """Causal attention by the formula, sums and softmax in float32 at least.

    The first half of the queries looks at the first half of the keys alone, which spares a quarter of the scores.
    """
    T, d = query_BHTd.shape[2:]
    shared = query_BHTd.shape[1] // key_BHTd.shape[1]
    if shared > 1:
        key_BHTd, value_BHTd = (x.repeat_interleave(shared, dim=1) for x in (key_BHTd, value_BHTd))
    query_BHTd = query_BHTd * d**-0.5
    positions = torch.arange(T, device=query_BHTd.device)  # the compiler makes masks of positions inside its loops
    mixed = []
    for start, end in ((0, T // 2), (T // 2, T)):
        scores_BHtS = query_BHTd[:, :, start:end] @ key_BHTd[:, :, :end].mT
        scores_BHtS = scores_BHtS.to(torch.promote_types(scores_BHtS.dtype, torch.float32))
        hidden = positions[:end] > positions[start:end, None] if mask is None else ~mask[..., start:end, :end]
        weights_BHtS = scores_BHtS.masked_fill(hidden, float("-inf")).softmax(-1)
        mixed.append(weights_BHtS.to(value_BHTd.dtype) @ value_BHTd[:, :, :end])
    return torch.cat(mixed, dim=2)
