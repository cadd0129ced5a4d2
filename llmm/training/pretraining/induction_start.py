"""Initial weights that hold an induction circuit: what training finds late is there from the first step.

Text repeats itself, and who has seen "… A B …" may guess B at the next A. The circuit for it, a previous-token head
below an induction head, is set by hand in M5 (11.1, 11.2) with one-hot contents and sinusoidal places. Here it is set
in the weights of the model that is to be trained: contents are projections of random embeddings, places the rotations
of RoPE. Nothing is held fast: training may turn all of it into something else. README, section 7.
Source of the circuit: Olsson et al. 2022 (2209.11895).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from llmm.transformers.attention.attention import Attention
from llmm.transformers.gpt import GPT
from llmm.transformers.gpt.config import GPTConfig

CONSTANT = 4.0  # length of what all embeddings share, to that of what they do not: training must not drown it at once
GAIN_OF_PLACE, GAIN_OF_CONTENT = 3.0, 2.0  # of the queries in the two layers: scores reach gain · √d
FIRM = 16.0  # Frobenius norm of a head's rows for places: Muon's steps, all of one length, soon turn shorter ones away
SLOW = 1 / 16  # radians a token: what turns slower still knows a token a dozen places further on (cos 0.75 is 0.73)
WRITTEN, COPIED = 0.4, 0.5  # scales of what the two layers write
REST = 0.1  # scale of the random rows that the circuit does not use: queries and keys of zeros would stay zero


class Directions(NamedTuple):
    """Orthonormal directions of the residual stream: one that all embeddings share, and rows (k, D) for the rest."""

    constant_D: Tensor
    token_kD: Tensor  # the token at this place, as its embedding has it
    previous_kD: Tensor  # the one before it
    earlier_kD: Tensor  # the one before that


@torch.no_grad()
def begin_with_induction(model: GPT, generator: torch.Generator) -> None:
    """Write the circuit into the fresh weights of `model`, in place: in its first layer and the one at half its depth.

    Needs RoPE, QK-norm, a tied LM head and two layers, and raises ValueError where one is missing.
    """
    config = model.config
    if not (config.positions == "rope" and config.qk_norm and config.tie_embeddings and config.n_layer > 1):
        raise ValueError("the induction circuit needs RoPE, QK-norm, a tied LM head and two layers")
    directions = _directions(config, generator)
    embeddings = model.model.embed_tokens.weight
    embeddings += CONSTANT * embeddings.std() * math.sqrt(config.d_model) * directions.constant_D
    frequency = config.rope_theta ** (-2 * torch.arange(config.d_head // 2) / config.d_head)
    _write_earlier_tokens(model.model.layers[0].self_attn, directions, frequency)
    _continue_what_was_seen(model.model.layers[config.n_layer // 2].self_attn, directions, frequency)


def _directions(config: GPTConfig, generator: torch.Generator) -> Directions:
    D = config.d_model
    k = min(config.d_head, (D - 1) // 3)
    basis_DD, _ = torch.linalg.qr(torch.randn(D, D, generator=generator))
    return Directions(basis_DD[:, 0], *basis_DD.T[1 : 1 + 3 * k].split(k))


def _write_earlier_tokens(attention: Attention, directions: Directions, frequency: Tensor) -> None:
    """Head 0 looks one place back and head 1 two, and both write down which token is there: (7.1), (7.2)."""
    constant_D = directions.constant_D
    place = FIRM * frequency / frequency.norm()
    answer_dD = torch.outer(torch.cat([place, torch.zeros_like(place)]), constant_D)
    written = (directions.previous_kD, directions.earlier_kD)[: attention.n_head]
    for head, written_kD in enumerate(written):
        angle = -(head + 1) * frequency
        ask_dD = torch.outer(torch.cat([place * angle.cos(), place * angle.sin()]), constant_D)
        _set(attention.q_proj.weight, head, ask_dD)
        _copy(attention, head, directions.token_kD, WRITTEN * written_kD)
    for key_head in {_key_head(attention, head) for head in range(len(written))}:
        _set(attention.k_proj.weight, key_head, answer_dD)
    attention.q_norm.weight.fill_(GAIN_OF_PLACE)


def _continue_what_was_seen(attention: Attention, directions: Directions, frequency: Tensor) -> None:
    """Every head looks for places behind a token like this one, and votes for the token there: (7.3), (7.4).

    Those of the last key head, where there are two or more, compare two tokens: the one before should be alike as well.
    """
    slow = torch.nonzero((frequency < SLOW).repeat(2)).squeeze(-1)[: len(directions.token_kD)]
    pair = slow % len(frequency)  # the two channels of a pair turn together
    single = [(slow, directions.token_kD, directions.previous_kD)]
    double = [
        (slow[pair % 2 == 0], directions.token_kD, directions.previous_kD),
        (slow[pair % 2 == 1], directions.previous_kD, directions.earlier_kD),
    ]
    shape = attention.d_head, len(directions.constant_D)
    for key_head in range(attention.n_kv_head):
        query_dD, key_dD = torch.zeros(shape), torch.zeros(shape)
        for channels, asked_kD, known_kD in double if 0 < key_head == attention.n_kv_head - 1 else single:
            query_dD[channels], key_dD[channels] = asked_kD[: len(channels)], known_kD[: len(channels)]
        _set(attention.k_proj.weight, key_head, key_dD)
        for head in range(attention.n_head):
            if _key_head(attention, head) == key_head:
                _set(attention.q_proj.weight, head, query_dD)
                _copy(attention, head, directions.token_kD, COPIED * directions.token_kD)
    attention.q_norm.weight.fill_(GAIN_OF_CONTENT)


def _set(weight: Tensor, head: int, wanted_dD: Tensor) -> None:
    """Give a head the rows of `wanted_dD` that are not zero; its other rows stay random, and are made small."""
    rows_dD = weight[head * len(wanted_dD) :][: len(wanted_dD)]
    rows_dD.copy_(torch.where(wanted_dD.any(1, keepdim=True), wanted_dD, REST * rows_dD))


def _copy(attention: Attention, head: int, read_kD: Tensor, written_kD: Tensor) -> None:
    """A head reads the projection of a token on `read_kD` and writes it along `written_kD`."""
    row, column = _key_head(attention, head) * attention.d_head, head * attention.d_head
    attention.v_proj.weight[row : row + len(read_kD)] = read_kD
    attention.o_proj.weight[:, column : column + len(read_kD)] = written_kD.T


def _key_head(attention: Attention, head: int) -> int:
    """The head whose keys and values a query head uses."""
    return head * attention.n_kv_head // attention.n_head
