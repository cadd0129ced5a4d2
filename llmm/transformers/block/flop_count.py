"""How many floating-point operations a GPT takes, forward and backward, from its sizes alone (README, section 7).

Counted are matrix products, 2·m·k·n for (m, k) @ (k, n), as `torch.utils.flop_counter` does; all else is small.
Attention counts the whole square of scores, masked or not: that is what a kernel without a causal shortcut computes.
"""

from dataclasses import dataclass

from llmm.transformers.gpt.config import GPTConfig


@dataclass(frozen=True)
class Work:
    """What passes through the model: `batch` rows of `tokens` new tokens each, after `past` tokens in the cache."""

    batch: int
    tokens: int
    past: int = 0


def attention_forward(config: GPTConfig, work: Work) -> int:
    """Scores q kᵀ and mixture of values: two products for each query head, however few heads the keys have."""
    scores = work.batch * config.n_head * work.tokens * (work.past + work.tokens)
    return 2 * 2 * scores * config.d_head


def attention_backward(config: GPTConfig, work: Work, recompute: bool) -> int:
    """Four products: gradients of values, weights, queries and keys; a fifth where scores are made again (tiled)."""
    return attention_forward(config, work) // 2 * (5 if recompute else 4)


def linear_forward(config: GPTConfig, work: Work, n_expert: int | None = None, top_k: int = 1) -> int:
    """Every product with a weight matrix; with `n_expert` each token passes a router and `top_k` experts."""
    c, rows = config, work.batch * work.tokens
    attention = 2 * c.d_model * c.d_head * (c.n_head + c.n_kv_head)  # queries and output; keys and values
    feed_forward = (3 if c.feed_forward == "swiglu" else 2) * c.d_model * c.d_ff
    if n_expert is not None:
        feed_forward = top_k * feed_forward + c.d_model * n_expert
    return 2 * rows * (c.n_layer * (attention + feed_forward) + c.d_model * c.vocab_size)


def forward_flops(config: GPTConfig, work: Work, n_expert: int | None = None, top_k: int = 1) -> int:
    """Of one forward pass, the LM head of every token included."""
    return linear_forward(config, work, n_expert, top_k) + config.n_layer * attention_forward(config, work)


def backward_flops(
    config: GPTConfig, work: Work, n_expert: int | None = None, top_k: int = 1, recompute: bool = False
) -> int:
    """Of one backward pass: each matrix product has a gradient for either factor, so twice its forward.

    `recompute` is for tiled attention, which keeps no scores and makes them a second time.
    """
    linear = 2 * linear_forward(config, work, n_expert, top_k)
    return linear + config.n_layer * attention_backward(config, work, recompute)
