"""InfoNCE: tell the right document of a query from the others of the batch, by softmax over similarities.

    loss_i = - ln( exp(s_ii / τ) / Σ_j exp(s_ij / τ) )    and the same with queries and documents exchanged

Sources: van den Oord et al. 2018 (1807.03748), equation 4; both directions: Radford et al. 2021 (2103.00020), figure 3.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(similarity: Tensor, temperature: float, same: Tensor) -> Tensor:
    """The symmetric loss (scalar), (3.1), of cosines (B, B); `same` (B, B) marks pairs that are no negatives."""
    logits = (similarity / temperature).masked_fill(same, -torch.inf)
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def info_nce_gradient(similarity_BB: Tensor, temperature: float, same_BB: Tensor) -> Tensor:
    """d loss / d similarity (B, B) by hand, (3.3): how sure the model is of each pair, less one for the right one.

    A negative is pushed away in proportion to its own probability, so the temperature says how far down the list of
    negatives the push reaches.
    """
    logits_BB = (similarity_BB / temperature).masked_fill(same_BB, -torch.inf)
    right_BB = torch.eye(len(logits_BB), dtype=logits_BB.dtype, device=logits_BB.device)
    by_query_BB, by_document_BB = logits_BB.softmax(1), logits_BB.softmax(0)
    return (by_query_BB + by_document_BB - 2 * right_BB) / (2 * len(logits_BB) * temperature)


def mutual_information_bound(loss: float, batch: int) -> float:
    """What a loss of one direction shows at least of I(query; document), in nats: ln B - loss, (3.6).

    It never shows more than ln B, however good the encoder. For batches of independent pairs of which none is masked.
    Sources: 1807.03748, section 2.3; Poole et al. 2019 (1905.06922), section 2.3.
    """
    return math.log(batch) - loss
