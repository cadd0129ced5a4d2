"""What a token costs with the KV cache and without: multiplications and additions, and bytes. README, section 6."""

from llmm.transformers.gpt.config import GPTConfig


def read_flops(c: GPTConfig, past: int, T: int, read_outs: int = 1) -> int:
    """FLOPs of reading `T` tokens after `past` cached ones, with `read_outs` of them turned into logits.

    A multiplication and an addition for each weight and token, and 4 H d for each pair of a query and a key; masked
    pairs are counted, as they are computed. Norms, angles and softmax are left out.
    """
    head = c.vocab_size * c.d_model
    matrices = 2 * (T * (c.n_matmul_params - head) + read_outs * head)
    return matrices + 4 * c.n_layer * c.n_head * c.d_head * T * (past + T)


def cached_flops(c: GPTConfig, prompt: int, new: int) -> int:
    """FLOPs of writing `new` tokens after `prompt`: the prompt is read once, then each token but the last."""
    return read_flops(c, 0, prompt) + sum(read_flops(c, prompt + i, 1) for i in range(new - 1))


def uncached_flops(c: GPTConfig, prompt: int, new: int) -> int:
    """The same without a cache: all of the text is read again for every token."""
    return sum(read_flops(c, 0, prompt + i) for i in range(new))


def cache_bytes(c: GPTConfig, batch: int, tokens: int, bytes_per_number: int = 4) -> int:
    """Size of the keys and values of `tokens` tokens in each of `batch` rows."""
    return 2 * c.n_layer * batch * c.n_kv_head * tokens * c.d_head * bytes_per_number
