"""What a training run costs: floating point operations, how well a machine is used, how long it will take.

A matrix product multiplies and adds once for each of its weights and tokens, forward, and twice that backward, once
for the gradient of its input and once for that of its weights: 6 N a token (README 1.2). Attention has products
without weights, and they grow with the window (README 1.3).
"""

from math import log

from llmm.transformers.gpt.config import GPTConfig


def training_flops(config: GPTConfig, tokens: float, seq_len: int) -> float:
    """FLOPs of training on `tokens` tokens in causal windows of `seq_len`: D (6 N + 6 L d T), README (1.4).

    N are the parameters in matrix products, the LM head included and look-ups, gains and biases left out; a causal
    token sees half of the window, so the attention term is half of the 12 L d T that is often counted. Source: Kaplan
    et al. 2020 (2001.08361), section 2.1.
    """
    return config.flops_per_token(seq_len) * tokens


def attention_share(config: GPTConfig, seq_len: int) -> float:
    """Share of the FLOPs that "6 N D" leaves out, in [0, 1): README (1.5)."""
    return 1 - 6 * config.n_matmul_params / config.flops_per_token(seq_len)


def model_flops_utilisation(flops_per_token: float, tokens_per_second: float, peak_flops_per_second: float) -> float:
    """MFU: useful FLOP/s over what the machine can do at most, README (1.6).

    Recomputed activations do not count as useful. Source: Chowdhery et al. 2022 (2204.02311), appendix B.
    """
    return flops_per_token * tokens_per_second / peak_flops_per_second


def bits_per_byte(nats_per_token: float, bytes_per_token: float) -> float:
    """Bits that a model needs for a byte of text, whatever its tokens are: README (1.7)."""
    return nats_per_token / (log(2) * bytes_per_token)
