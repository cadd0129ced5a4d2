"""How many parameters a GPT has, from its sizes alone: every matrix, bias and gain by formula (README, section 6).

Equal to the sum of `numel` over the model's parameters for every choice that a GPTConfig allows, and with a mixture of
experts in the place of each feed-forward.
"""

from llmm.transformers.gpt.config import GPTConfig


def linear_parameters(n_in: int, n_out: int, bias: bool) -> int:
    """A matrix, and a bias for each output."""
    return n_in * n_out + bias * n_out


def norm_parameters(config: GPTConfig) -> int:
    """A gain for each channel; layer normalisation has a bias too."""
    return config.d_model * (2 if config.norm == "layer" else 1)


def attention_parameters(config: GPTConfig) -> int:
    """Queries and output have n_head heads, keys and values n_kv_head; QK-norm has one gain of a head's width each."""
    c = config
    queries, keys = c.n_head * c.d_head, c.n_kv_head * c.d_head
    projections = linear_parameters(c.d_model, queries, c.bias) + 2 * linear_parameters(c.d_model, keys, c.bias)
    return projections + linear_parameters(queries, c.d_model, c.bias) + c.qk_norm * 2 * c.d_head


def feed_forward_parameters(d_model: int, d_ff: int, gated: bool, bias: bool) -> int:
    """Up and down, and a third matrix as large as up where there are gates."""
    into = linear_parameters(d_model, d_ff, bias)
    return into * (2 if gated else 1) + linear_parameters(d_ff, d_model, bias)


def equal_width(d_model: int, d_ff: int, bias: bool = False) -> int:
    """The hidden width at which a gated feed-forward has the parameters of one without gates and of width `d_ff`.

    Two thirds of `d_ff`, rounded to the nearest: exact without biases where 3 divides `d_ff`.
    """
    target = feed_forward_parameters(d_model, d_ff, gated=False, bias=bias)
    unit = 3 * d_model + 2 * bias  # what one hidden unit costs
    return round((target - bias * d_model) / unit)


def block_parameters(config: GPTConfig, n_expert: int | None = None) -> int:
    """Attention, feed-forward and two norms, four for sandwich; `n_expert` replaces the feed-forward by a mixture."""
    c = config
    fed = feed_forward_parameters(c.d_model, c.d_ff, c.feed_forward == "swiglu", c.bias)
    if n_expert is not None:
        fed = n_expert * fed + linear_parameters(c.d_model, n_expert, bias=False)
    norms = 4 if c.norm_placement == "sandwich" else 2
    return attention_parameters(c) + fed + norms * norm_parameters(c)


def gpt_parameters(config: GPTConfig, n_expert: int | None = None) -> int:
    """All of the model: tied embeddings count once, RoPE has none, and after post-norm blocks comes no last norm."""
    c = config
    embeddings = c.vocab_size * c.d_model * (1 if c.tie_embeddings else 2)
    positions = c.context_len * c.d_model if c.positions == "learned" else 0
    last_norm = norm_parameters(c) if c.norm_placement != "post" else 0
    return embeddings + positions + c.n_layer * block_parameters(c, n_expert) + last_norm
