"""Splitting a model's width into heads, and letting several query heads read one key head. README, section 6.

A head is a slice of the D channels. Grouped-query attention has H query heads and K key heads, K dividing H: query head
h reads key head h // (H / K). K = H is multi-head attention, K = 1 multi-query attention, and nothing else changes.
"""

from torch import Tensor


def split_heads(x_BTD: Tensor, n_head: int) -> Tensor:
    """(B, T, H·d) -> (B, H, T, d): head h gets channels h·d to (h + 1)·d. Raises ValueError for a remainder."""
    B, T, D = x_BTD.shape
    if D % n_head:
        raise ValueError(f"{D} channels do not divide into {n_head} heads")
    return x_BTD.view(B, T, n_head, D // n_head).transpose(1, 2)


def join_heads(x_BHTd: Tensor) -> Tensor:
    """(B, H, T, d) -> (B, T, H·d), the inverse of `split_heads`."""
    B, H, T, d = x_BHTd.shape
    return x_BHTd.transpose(1, 2).reshape(B, T, H * d)


def share_heads(x_BKSd: Tensor, n_head: int) -> Tensor:
    """(B, K, S, d) -> (B, H, S, d): each key head repeated for the H / K query heads in a row that read it.

    Raises ValueError if K does not divide H.
    """
    K = x_BKSd.shape[1]
    if n_head % K:
        raise ValueError(f"{n_head} query heads cannot share {K} key heads evenly")
    return x_BKSd.repeat_interleave(n_head // K, dim=1)


def gather_heads(grad_BHSd: Tensor, n_kv_head: int) -> Tensor:
    """(B, H, S, d) -> (B, K, S, d): the transpose of `share_heads`, and its backward: readers' gradients add up."""
    B, H, S, d = grad_BHSd.shape
    return grad_BHSd.view(B, n_kv_head, H // n_kv_head, S, d).sum(2)
