"""The exit criteria of M5 that a machine measures: one function each, no arguments, one number or truth value out.

The thresholds stand in milestone.yaml.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmm.foundations.torch_internals.meters import StorageLedger
from llmm.ladder.expect import expect_number, expect_shape
from llmm.transformers.attention.attend import _in_two_halves, attend
from llmm.transformers.attention.attention import Attention
from llmm.transformers.attention.attention_only import AttentionOnly
from llmm.transformers.attention.cache_bytes import heads_worth, kv_bytes, latent_bytes, window_bytes
from llmm.transformers.attention.entropy import entropy, expected_entropy, slope
from llmm.transformers.attention.formula import (
    attention,
    attention_backward,
    attention_by_hand,
    softmax,
    softmax_backward,
)
from llmm.transformers.attention.heads import gather_heads, join_heads, share_heads, split_heads
from llmm.transformers.attention.induction import accuracy, head_scores, predictable, repeated_sequences
from llmm.transformers.attention.kv_cache import KVCache
from llmm.transformers.attention.latent import LatentAttention, LatentCache
from llmm.transformers.attention.multi_head import MultiHeadAttention, pooled_heads
from llmm.transformers.attention.online_softmax import Running, online_log_sum_exp
from llmm.transformers.attention.patterns import CAUSAL, Pattern, alibi_slopes
from llmm.transformers.attention.positions import LearnedPositions, shift_matrix, sinusoidal
from llmm.transformers.attention.rope import rope_tables, rotate
from llmm.transformers.attention.rope_relative import (
    decay_bound,
    frequencies,
    kernel,
    rope_at,
    rotate_complex,
    score_from_distance,
    shift_errors,
)
from llmm.transformers.attention.tiled import tiled_attention, tiled_backward, tiled_forward
from llmm.transformers.attention.window_cache import WindowCache

Way = Callable[[Tensor, Tensor, Tensor, Pattern], Tensor]
CPU = torch.device("cpu")


# --- against torch's kernel -------------------------------------------------------------------------------------------


def formula_against_torch() -> float:
    """Formula, float64: largest difference of outputs and gradients from torch's scaled_dot_product_attention."""
    return _against_torch(_by_formula, torch.float64)


def by_hand_against_torch() -> float:
    """The hand-written backward, float64: the same."""
    return _against_torch(_by_hand, torch.float64)


def tiled_against_torch() -> float:
    """Tiled, float64, tiles that do not divide the lengths: the same."""
    return _against_torch(_tiled, torch.float64)


def single_precision_against_torch() -> float:
    """All three in float32: largest difference of outputs from torch's."""
    worst = 0.0
    for way in (_by_formula, _by_hand, _tiled):
        for query, key, value, pattern in _cases(torch.float32):
            worst = max(worst, _largest(way(query, key, value, pattern), _torch(query, key, value, pattern)))
    return worst


def gradcheck_error() -> float:
    """Both hand-written backwards against central differences: largest difference of a gradient's entry."""
    worst = 0.0
    for way in (_by_hand, _tiled):
        for pattern in (Pattern(), Pattern(causal=False), Pattern(window=2, slopes=(0.5, 0.25))):
            inputs = list(_inputs(1, 2, 1, 3, 4, 2, torch.float64))
            loss = partial(_read_out, way, pattern)
            exact = torch.autograd.grad(loss(inputs), inputs)
            for i, tensor in enumerate(inputs):
                others = partial(_with_entry, loss, inputs, i)
                worst = max(worst, _largest(exact[i], _central_difference(others, tensor)))
    return worst


def softmax_jacobian_error() -> float:
    """`softmax_backward` against the matrix diag(p) - p pᵀ, and softmax against torch's: largest difference."""
    scores, grad = _normal(5, 7, seed=0) * 4, _normal(5, 7, seed=1)
    weights = expect_shape("softmax", softmax(scores), (5, 7))
    jacobians = torch.diag_embed(weights) - weights[:, :, None] * weights[:, None, :]
    by_matrix = (jacobians @ grad[:, :, None]).squeeze(-1)
    backward = expect_shape("softmax_backward", softmax_backward(grad, weights), (5, 7))
    return max(_largest(backward, by_matrix), _largest(weights, scores.softmax(-1)))


def backward_error() -> float:
    """`attention_backward` against autograd: query, key, value, and the scores through a bias; a scale of one's own."""
    query, key, value = _inputs(2, 4, 2, 5, 6, 3, torch.float64)
    bias = _normal(2, 4, 5, 6, seed=4).requires_grad_()
    grad = _normal(2, 4, 5, 3, seed=5)
    output, weights = attention(query, key, value, bias, 0.3)
    wanted = torch.autograd.grad(output, (query, key, value, bias), grad)
    with torch.no_grad():
        found = attention_backward(grad, query, key, value, weights, 0.3)
    one = _normal(5, 6, seed=6).requires_grad_()  # a bias shared by batch and heads
    shared = torch.autograd.grad(attention_by_hand(query, key, value, one), one, grad)[0]
    plain = torch.autograd.grad(attention(query, key, value, one)[0], one, grad)[0]
    pairs = [*zip(found, wanted, strict=True), (shared, plain)]
    return max(_largest(expect_shape("a gradient", a, b.shape), b) for a, b in pairs)


def unseen_faults() -> int:
    """Of rows that may see no key: outputs or gradients that are not exactly 0, and other rows that change for it."""
    faults = 0
    for way in (_by_formula, _by_hand, _tiled_small):
        query, key, value = _inputs(1, 2, 2, 6, 6, 4, torch.float64)
        pattern = _Blind()
        output = way(query, key, value, pattern)
        grads = torch.autograd.grad(output.sum(), (query, key, value))
        faults += int((output[:, :, 2:4] != 0).sum()) + int((grads[0][:, :, 2:4] != 0).sum())
        faults += sum(int((~grad.isfinite()).sum()) for grad in grads)
        seeing = way(query, key, value, CAUSAL)
        faults += int((output[:, :, 4:] - seeing[:, :, 4:]).abs().max() > 1e-14)
    lse = tiled_forward(*_inputs(1, 2, 2, 6, 6, 4, torch.float64), _Blind(), 2)[1]
    return faults + int((lse[:, :, 2:4] != -math.inf).sum())


# --- causality --------------------------------------------------------------------------------------------------------


def leaks_from_the_future() -> int:
    """Outputs before token t whose bits change when token t is replaced by another one, in every kind of attention."""
    torch.manual_seed(0)
    latent = LatentAttention(16, 4, 4, 6, 2).double()
    layers: dict[str, Callable[[Tensor], Tensor]] = {
        "formula": lambda x: join_heads(_by_formula(*_as_heads(x), CAUSAL)),
        "by hand": lambda x: join_heads(_by_hand(*_as_heads(x), CAUSAL)),
        "tiled": lambda x: join_heads(_tiled_small(*_as_heads(x), CAUSAL)),
        "window": lambda x: join_heads(_tiled_small(*_as_heads(x), Pattern(window=3, slopes=(0.5, 0.5, 0.1, 0.1)))),
        "grouped": MultiHeadAttention(16, 4, 2, rope_theta=100.0).double(),
        "latent": latent,
        "absorbed": lambda x: latent(x, absorbed=True),
    }
    changed = 0
    with torch.no_grad():
        for layer in layers.values():
            x = _normal(2, 11, 16, seed=3)
            before = layer(x)
            for t in range(11):
                other = x.clone()
                other[:, t] = 100 * _normal(2, 16, seed=t)
                after = layer(other)
                changed += int((after[:, :t] != before[:, :t]).sum())
                changed += int((after[:, t:] == before[:, t:]).all())  # a layer that never looks is causal too
    return changed


def wrong_patterns() -> int:
    """Entries of biases that differ from ones written down pair by pair, and tiles that are hidden wrongly."""
    wrong = 0
    for causal, window, slopes in product((True, False), (None, 1, 3), (None, (0.5, 0.125))):
        pattern = Pattern(causal, window, slopes)
        queries, keys = torch.tensor([3, 4, 5, 9]), torch.tensor([0, 5, 4, 3, 7])  # keys of a ring come in any order
        bias = pattern.bias(queries, keys, torch.float64)
        heads = slopes or (0.0,)
        wanted = torch.tensor([
            [[-m * abs(i - j) if _sees(i, j, causal, window) else -math.inf for j in keys.tolist()]
             for i in queries.tolist()] for m in heads
        ], dtype=torch.float64)  # fmt: skip
        wrong += int((expect_shape("bias", bias, wanted.shape if slopes else wanted.shape[1:]) != wanted).sum())
        for i, j, rows, columns in product(range(7), range(7), (1, 3), (1, 4)):
            seen = any(_sees(a, b, causal, window) for a in range(i, i + rows) for b in range(j, j + columns))
            wrong += pattern.hides(range(i, i + rows), range(j, j + columns)) == seen
    return wrong


def slopes_against_bloom() -> float:
    """ALiBi's slopes for 1 to 40 heads against those of BLOOM in transformers: largest relative difference."""
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor

    worst = 0.0
    for heads in range(1, 41):
        theirs = build_alibi_tensor(torch.ones(1, 2), heads, torch.float64)[:, 0, 1]
        ours = torch.tensor(alibi_slopes(heads), dtype=torch.float64)
        worst = max(worst, _largest(expect_shape("slopes", ours, (heads,)) / theirs, torch.ones(heads)))
    return worst


# --- one pass, in tiles -----------------------------------------------------------------------------------------------


def online_softmax_error() -> float:
    """One pass against torch's logsumexp and softmax, keys in pieces and in any order, scores up to ±10,000."""
    worst = 0.0
    for size in (1.0, 30.0, 10_000.0):
        scores, values = size * _normal(3, 4, 20, seed=1), _normal(3, 20, 5, seed=2)
        scores[0, 0, :8] = -math.inf  # a piece that hides all of its keys comes first
        lse, output = scores.logsumexp(-1), scores.softmax(-1) @ values
        worst = max(worst, _largest(expect_shape("lse", online_log_sum_exp(scores), (3, 4)), lse) / size)
        pieces = [Running.over(scores[..., i : i + 6], values[:, i : i + 6]) for i in range(0, 20, 6)]
        for order in ((0, 1, 2, 3), (3, 1, 0, 2)):
            running = Running.nothing((3, 4, 5), scores)
            for i in order:
                running = running.merge(pieces[i])
            worst = max(worst, _largest(running.output(), output), _largest(running.log_sum_exp(), lse) / size)
        halves = pieces[0].merge(pieces[1]).merge(pieces[2].merge(pieces[3]))
        worst = max(worst, _largest(halves.output(), output))
    return worst


def tiled_parts_error() -> float:
    """Forward's log-sum-exp, and backward from it, for tiles of 1 to 64: largest difference from the plain formula."""
    query, key, value = _inputs(2, 4, 2, 13, 17, 3, torch.float64)
    pattern = Pattern(window=9)
    bias = _bias(query, key, pattern)
    scores = (query @ share_heads(key, 4).mT) / math.sqrt(3) + bias
    output, grad = attention(query, key, value, bias)[0], _normal(2, 4, 13, 3, seed=8)
    wanted = torch.autograd.grad(output, (query, key, value), grad)
    worst = 0.0
    with torch.no_grad():
        for tile in (1, 4, 5, 64):
            found, lse = tiled_forward(query, key, value, pattern, tile)
            grads = tiled_backward(grad, query, key, value, found, lse, pattern, tile)
            worst = max(worst, _largest(found, output), _largest(lse, scores.logsumexp(-1)))
            worst = max([worst, *(_largest(a, b) for a, b in zip(grads, wanted, strict=True))])
    return worst


def memory_slope() -> float:
    """Power of the length with which tiled attention's peak memory grows, forward and backward, 1,024 to 4,096."""
    peaks = []
    for T in (1024, 4096):
        inputs = [torch.randn(1, 1, T, 16, requires_grad=True) for _ in range(3)]
        with StorageLedger() as ledger:
            query, key, value = inputs
            output = tiled_attention(query, key, value, Pattern(window=300))
            torch.autograd.grad(output, inputs, torch.ones_like(output))
        peaks.append(ledger.peak)
    return math.log(peaks[1] / peaks[0]) / math.log(4)


def skipped_tiles() -> float:
    """Bytes that tiled attention makes with a window of 64 over 2,048 tokens, as a share of those without a window."""
    made = []
    for pattern in (Pattern(window=64), Pattern(causal=False)):
        inputs = _inputs(1, 1, 1, 2048, 2048, 8, torch.float32)
        with _Made() as bytes_made:
            tiled_attention(*inputs, pattern, 64)
        made.append(bytes_made.total)
    return made[0] / made[1]


def half_precision_error() -> float:
    """Tiled attention in bfloat16 over 512 keys against float64: largest error in halves of an entry's last place.

    1 is what rounding the exact result leaves, and nothing else may be rounded.
    """
    query, key, value = (x.detach() for x in _inputs(1, 2, 2, 512, 512, 16, torch.bfloat16))
    exact = attention(query.double(), key.double(), value.double(), _bias(query.double(), key, CAUSAL))[0]
    # bfloat16 has eight significant bits; entries below 1/64 are measured as if they were that large
    half_of_last_place = torch.exp2(exact.abs().log2().floor().clamp(min=-6) - 8)
    return float(((tiled_attention(query, key, value, tile=32).double() - exact) / half_of_last_place).abs().max())


# --- heads ------------------------------------------------------------------------------------------------------------


def heads_error() -> float:
    """Splitting, joining, sharing and gathering heads against loops; gathering is the transpose of sharing."""
    x = _normal(2, 5, 12, seed=0)
    split = expect_shape("split_heads", split_heads(x, 4), (2, 4, 5, 3))
    worst = max(_largest(split[:, h], x[:, :, 3 * h : 3 * h + 3]) for h in range(4))
    worst = max(worst, _largest(expect_shape("join_heads", join_heads(split), x.shape), x))
    key = _normal(2, 2, 5, 3, seed=1)
    shared = expect_shape("share_heads", share_heads(key, 6), (2, 6, 5, 3))
    worst = max([worst, *(_largest(shared[:, h], key[:, h // 3]) for h in range(6))])
    grad = _normal(2, 6, 5, 3, seed=2)
    return max(worst, abs(float((shared * grad).sum() - (key * gather_heads(grad, 2)).sum())))


def multi_head_against_torch() -> float:
    """MultiHeadAttention with a head of keys for each head against nn.MultiheadAttention: largest difference."""
    torch.manual_seed(0)
    ours, theirs = MultiHeadAttention(24, 4).double(), nn.MultiheadAttention(24, 4, bias=False, batch_first=True)
    theirs = theirs.double()
    with torch.no_grad():
        stacked = torch.cat([ours.q_proj.weight, ours.k_proj.weight, ours.v_proj.weight])
        theirs.in_proj_weight.copy_(stacked)
        theirs.out_proj.weight.copy_(ours.o_proj.weight)
        x = _normal(2, 9, 24, seed=1)
        later = torch.ones(9, 9, dtype=torch.bool).triu(1)
        wanted = theirs(x, x, x, attn_mask=later, need_weights=False)[0]
        return _largest(expect_shape("MultiHeadAttention", ours(x), x.shape), wanted)


def grouped_error() -> float:
    """Grouped and multi-query attention against multi-head attention whose key heads are copies; pooled heads too."""
    torch.manual_seed(0)
    worst = 0.0
    with torch.no_grad():
        for n_kv_head in (1, 2, 4):
            few = MultiHeadAttention(32, 8, n_kv_head, Pattern(window=5), rope_theta=100.0).double()
            many = MultiHeadAttention(32, 8, 8, Pattern(window=5), rope_theta=100.0).double()
            for name in ("q_proj", "o_proj"):
                getattr(many, name).weight.copy_(getattr(few, name).weight)
            for name in ("k_proj", "v_proj"):
                by_head = getattr(few, name).weight.view(n_kv_head, 4, 32)
                getattr(many, name).weight.copy_(by_head.repeat_interleave(8 // n_kv_head, 0).reshape(32, 32))
                pooled = pooled_heads(getattr(many, name).weight, 8, n_kv_head)
                worst = max(worst, _largest(pooled, getattr(few, name).weight))
            x = _normal(2, 9, 32, seed=n_kv_head)
            worst = max(worst, _largest(few(x), many(x)))
        pooled = pooled_heads(torch.arange(8.0)[:, None], 4, 2)  # heads (0 1) (2 3) (4 5) (6 7), pairs averaged
        return max(worst, _largest(pooled, torch.tensor([[1.0], [2.0], [5.0], [6.0]])))


def core_attend_error() -> float:
    """The pipeline's `attend`, as it runs and as it is compiled, against the formula in float64: largest difference."""
    query, key, value = (x.detach() for x in _inputs(2, 4, 2, 9, 9, 4, torch.float64))
    wanted = attention(query, key, value, _bias(query, key, CAUSAL))[0]
    mask = torch.rand(2, 1, 9, 9, generator=torch.Generator().manual_seed(0)) < 0.7
    mask |= torch.eye(9, dtype=torch.bool)
    hidden = torch.zeros(2, 1, 9, 9, dtype=torch.float64).masked_fill(~mask, -math.inf)
    masked = attention(query, key, value, hidden)[0]
    earlier = mask & torch.ones(9, 9, dtype=torch.bool).tril()
    hidden = torch.zeros(2, 1, 9, 9, dtype=torch.float64).masked_fill(~earlier, -math.inf)
    masked_earlier = attention(query, key, value, hidden)[0]
    return max(
        _largest(attend(query, key, value), wanted),
        _largest(_in_two_halves(query, key, value), wanted),
        _largest(attend(query, key, value, mask), masked),
        _largest(_in_two_halves(query, key, value, earlier), masked_earlier),
    )


def core_module_error() -> float:
    """The pipeline's `Attention`, whole and with a cache, against MultiHeadAttention with its weights, float64."""
    torch.manual_seed(0)
    fast, plain = Attention(24, 4, 2, 6).double(), MultiHeadAttention(24, 4, 2, rope_theta=100.0).double()
    plain.load_state_dict(fast.state_dict())
    x, cache = _normal(2, 9, 24, seed=1), KVCache(1, (2, 2, 9, 6), torch.float64, CPU).layers[0]
    with torch.no_grad():
        wanted = plain(x)
        steps = [fast(x[:, :6], rope_at(torch.arange(6), 6, 100.0), cache=cache)]
        steps += [fast(x[:, t : t + 1], rope_at(torch.tensor([t]), 6, 100.0), cache=cache) for t in range(6, 9)]
        return max(_largest(fast(x, rope_at(torch.arange(9), 6, 100.0)), wanted), _largest(torch.cat(steps, 1), wanted))


# --- positions --------------------------------------------------------------------------------------------------------


def sinusoid_error() -> float:
    """Sinusoids against the formula channel by channel, and the matrix that shifts them: largest difference."""
    positions = torch.tensor([0, 1, 7, 500])
    table = expect_shape("sinusoidal", sinusoidal(positions, 6), (4, 6))
    worst = 0.0
    for row, position in enumerate(positions.tolist()):
        for i in range(3):
            angle = position / 10_000 ** (2 * i / 6)
            worst = max(worst, abs(float(table[row, 2 * i]) - math.sin(angle)))
            worst = max(worst, abs(float(table[row, 2 * i + 1]) - math.cos(angle)))
    moved = table @ expect_shape("shift_matrix", shift_matrix(3, 6), (6, 6)).T
    return max(worst, _largest(moved, sinusoidal(positions + 3, 6)))


def learned_positions_faults() -> int:
    """Wrong answers of a learned table: sums, offsets, gradients, and the position after its last one."""
    torch.manual_seed(0)
    layer, x = LearnedPositions(6, 4), torch.zeros(2, 3, 4)
    faults = int(not torch.equal(layer(x)[0], layer.table.weight[:3]))
    faults += int(not torch.equal(layer(x, start=3)[1], layer.table.weight[3:]))
    layer(x, start=1).sum().backward()
    faults += int(layer.table.weight.grad is None or layer.table.weight.grad[1:4].sum() != 2 * 3 * 4)
    try:
        layer(x, start=4)
    except ValueError:
        return faults
    return faults + 1


def order_blindness() -> float:
    """Attention without positions or mask, keys and values shuffled: largest change; none is right."""
    query, key, value = _inputs(1, 2, 2, 5, 8, 4, torch.float64)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    worst = 0.0
    for way in (_by_formula, _tiled_small):
        plain = way(query, key, value, Pattern(causal=False))
        worst = max(worst, _largest(way(query, key[:, :, order], value[:, :, order], Pattern(causal=False)), plain))
    return worst


def rope_error() -> float:
    """Rotation against complex numbers, scores against the distance alone, lengths kept: largest difference."""
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(6, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    positions, theta = torch.tensor([0, 1, 2, 17, 300, 2047]), 500.0
    turned = rotate(query, *rope_at(positions, 8, theta))
    worst = _largest(expect_shape("rotate", turned, query.shape), rotate_complex(query, positions, theta))
    worst = max(worst, _largest(turned.norm(dim=-1), query.norm(dim=-1)))
    for m, n in ((0, 0), (5, 2), (40, 37), (3, 90)):
        at_m, at_n = (rope_at(torch.tensor([p]), 8, theta) for p in (m, n))
        score = float((rotate(query[:1], *at_m) * rotate(key[:1], *at_n)).sum())
        worst = max(worst, abs(score - score_from_distance(query[0], key[0], m - n, theta)))
    by_hand = torch.tensor([500.0 ** (-2 * i / 8) for i in range(4)], dtype=torch.float64)
    return max(worst, _largest(frequencies(8, theta), by_hand))


def rope_tables_against_llama() -> float:
    """Cosines and sines against those of transformers' Llama, float32: largest difference; none is right."""
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    config = LlamaConfig(
        hidden_size=64, num_attention_heads=2, rope_parameters={"rope_type": "default", "rope_theta": 5e4}
    )
    theirs = LlamaRotaryEmbedding(config)(torch.zeros(1), torch.arange(3000)[None])
    ours = rope_tables(32, 3000, 5e4)
    return max(_largest(a, b[0]) for a, b in zip(ours, theirs, strict=True))


def rope_kernel_error() -> float:
    """Kernel and bound against sums written out, and the shift of a score in float64: largest difference."""
    theta, d = 100.0, 6
    worst = 0.0
    for distance in (0, 1, 9):
        angles = [distance * theta ** (-2 * i / d) for i in range(3)]
        at = torch.tensor([distance])
        worst = max(worst, abs(float(kernel(at, d, theta)) - sum(map(math.cos, angles)) / 3))
        sums = [abs(sum(complex(math.cos(a), math.sin(a)) for a in angles[: j + 1])) for j in range(3)]
        worst = max(worst, abs(float(decay_bound(at, d, theta)) - sum(sums) / 3))
    pair = _normal(2, 1, d, seed=0)
    errors = shift_errors(pair[0], pair[1], torch.arange(50), 4, theta, torch.float64)
    return max(worst, float(expect_shape("shift_errors", errors, (1, 50)).max()))


# --- latent attention -------------------------------------------------------------------------------------------------


def absorbed_error() -> float:
    """Latent attention on latents against keys and values written out, whole and with a cache: largest difference."""
    torch.manual_seed(0)
    worst = 0.0
    with torch.no_grad():
        for n_head, d_head, d_latent, d_rope in ((4, 6, 10, 4), (2, 8, 3, 2), (1, 4, 16, 8)):
            layer = LatentAttention(24, n_head, d_head, d_latent, d_rope).double()
            layer.latent_norm.weight.copy_(1 + 0.3 * _normal(d_latent, seed=1))
            x = _normal(2, 11, 24, seed=2)
            expanded = expect_shape("LatentAttention", layer(x), x.shape)
            worst = max(worst, _largest(layer(x, absorbed=True), expanded))
            cache = LatentCache(*(torch.empty(2, 16, n).double() for n in (d_latent, d_rope)))
            steps = [layer(part, cache, absorbed=True) for part in x.split([4, 1, 1, 5], dim=1)]
            worst = max(worst, _largest(torch.cat(steps, dim=1), expanded))
    return worst


def latent_against_deepseek() -> float:
    """Latent attention against DeepSeek-V3's in transformers, whose angles are float32: largest difference."""
    from transformers import DeepseekV3Config
    from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3Attention, DeepseekV3RotaryEmbedding

    torch.manual_seed(0)
    H, d, C, R = 4, 6, 10, 4
    ours = LatentAttention(24, H, d, C, R).double()
    config = DeepseekV3Config(
        hidden_size=24, num_attention_heads=H, num_key_value_heads=H, q_lora_rank=None, kv_lora_rank=C,
        qk_rope_head_dim=R, qk_nope_head_dim=d, v_head_dim=d, rope_interleave=False, num_hidden_layers=1, vocab_size=8,
    )  # fmt: skip
    config._attn_implementation = "eager"
    theirs = DeepseekV3Attention(config, 0).double()
    with torch.no_grad():
        ours.latent_norm.weight.copy_(1 + 0.3 * _normal(C, seed=1))
        theirs.q_proj.weight.copy_(ours.q_proj.weight)
        theirs.kv_a_proj_with_mqa.weight.copy_(torch.cat([ours.latent_proj.weight, ours.rope_key_proj.weight]))
        theirs.kv_a_layernorm.weight.copy_(ours.latent_norm.weight)
        ups = [layer.weight.view(H, d, C) for layer in (ours.key_up, ours.value_up)]
        theirs.kv_b_proj.weight.copy_(torch.cat(ups, dim=1).reshape(2 * H * d, C))
        theirs.o_proj.weight.copy_(ours.o_proj.weight)
        x, positions = _normal(2, 11, 24, seed=2), torch.arange(11)
        angles = DeepseekV3RotaryEmbedding(config)(x, positions[None])
        bias = torch.zeros(11, 11).double().masked_fill(torch.ones(11, 11).triu(1).bool(), -math.inf)
        return _largest(ours(x), theirs(x, angles, bias[None, None])[0])


# --- caches -----------------------------------------------------------------------------------------------------------


def cached_error() -> float:
    """Token by token and in pieces with each cache, against all at once: largest difference."""
    torch.manual_seed(0)
    worst = 0.0
    with torch.no_grad():
        for window, pieces in product((None, 1, 4), ([1] * 11, [5, 3, 3], [11], [6, 1, 1, 1, 1, 1])):
            layer = MultiHeadAttention(24, 4, 2, Pattern(window=window), rope_theta=100.0).double()
            x = _normal(2, 11, 24, seed=1)
            caches: list[Any] = [KVCache(1, (2, 2, 16, 6), torch.float64, CPU).layers[0]]
            if window is not None:
                caches.append(WindowCache(*(torch.empty(2, 2, window, 6).double() for _ in "kv")))
            for cache in caches:
                steps = torch.cat([layer(part, cache) for part in x.split(pieces, dim=1)], dim=1)
                worst = max(worst, _largest(steps, layer(x)), abs(cache.length - 11))
    return worst


def cache_bytes_off() -> int:
    """Bytes by which the formulas differ from what caches allocate, over shapes and formats."""
    off = 0
    for layers, batch, heads, d, tokens, dtype in (
        (3, 2, 4, 8, 20, torch.float32), (2, 1, 1, 16, 33, torch.bfloat16), (1, 5, 2, 4, 7, torch.float64),
    ):  # fmt: skip
        cache = KVCache(layers, (batch, heads, tokens, d), dtype, CPU)
        allocated = sum(_storage(layer.keys, layer.values) for layer in cache.layers)
        off += abs(allocated - kv_bytes(layers, batch, heads, d, tokens, dtype))
        for window in (5, tokens):
            ring = WindowCache(*(torch.empty(batch, heads, window, d, dtype=dtype) for _ in "kv"))
            off += abs(layers * _storage(ring.keys, ring.values) - window_bytes(
                layers, batch, heads, d, tokens, window, dtype
            ))  # fmt: skip
            ring.append(*(torch.zeros(batch, heads, tokens, d, dtype=dtype) for _ in "kv"))
            off += abs(layers * _storage(ring.keys, ring.values) - window_bytes(
                layers, batch, heads, d, 10**6, window, dtype
            ))  # fmt: skip
        latent = LatentCache(*(torch.empty(batch, tokens, n, dtype=dtype) for n in (d, 2)))
        off += abs(layers * _storage(latent.latents, latent.rope_keys) - latent_bytes(
            layers, batch, d, 2, tokens, dtype
        ))  # fmt: skip
    return off + int(heads_worth(512, 64, 128) != 2.25)


# --- random scores, and heads that work together ----------------------------------------------------------------------


def sharpness_error() -> float:
    """Entropy, slope and expected entropy against numbers worked out by hand: largest difference."""
    weights = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.25] * 4, [0.5, 0.5, 0.0, 0.0]]).double()
    by_hand = torch.tensor([0.0, math.log(4), math.log(2)], dtype=torch.float64)
    worst = max(_largest(entropy(weights), by_hand), _largest(slope(weights), torch.tensor([0.0, 0.75, 0.5]).double()))
    worst = max(worst, abs(expect_number("expected_entropy", expected_entropy(1.0, 128)) - (math.log(128) - 0.5)))
    return max(worst, abs(expected_entropy(4.0, 128)))


def induction_faults() -> int:
    """Of the induction task and its scores: sequences, positions and shares that are not what they should be."""
    generator = torch.Generator().manual_seed(0)
    tokens, period = repeated_sequences(200, 40, 24, range(5, 14), generator)
    faults = int(set(period.tolist()) != set(range(5, 14)))
    for row, p in zip(tokens.tolist(), period.tolist(), strict=True):
        faults += len(set(row)) != p
        faults += any(row[t] != row[t - p] for t in range(p, 40))
    known = expect_shape("predictable", predictable(period, 40), (200, 39))
    faults += int((known.sum(1) != 39 - period).sum())
    weights = torch.zeros(200, 3, 40, 40)  # head 0 looks one back, head 1 after the last like it, head 2 at itself
    for t in range(1, 40):
        weights[:, 0, t, t - 1] = 1.0
        weights[torch.arange(200), 1, t, (t - period + 1).clamp(min=0)] = 1.0
        weights[:, 2, t, t] = 1.0
    previous, after_last = head_scores(weights, period)
    faults += int(not torch.equal(previous, torch.tensor([1.0, 0.0, 0.0])))
    return faults + int(not torch.equal(after_last, torch.tensor([0.0, 1.0, 0.0])))


def silencing_faults() -> int:
    """Of the means to break a model: heads silenced or distances hidden that are not, or that change something else."""
    torch.manual_seed(0)
    model = AttentionOnly(12, 16, 2, 4, 100.0).double()
    tokens, period = repeated_sequences(3, 20, 12, range(4, 8), torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits, seen = model.look(tokens)
        faults = int(not torch.equal(model(tokens), logits))
        hidden = model.look(tokens, hidden={1: 2})[1]
        faults += int(not torch.equal(hidden[0], seen[0]))
        off_diagonal = hidden[1].diagonal(-2, 2, 3)
        faults += int((off_diagonal != 0).sum()) + int((seen[1].diagonal(-2, 2, 3) == 0).sum())
        faults += int((hidden[1].sum(-1) - 1).abs().max() > 1e-12)
        silent = model(tokens, {(0, 1), (1, 3)})
        for layer, head in ((0, 1), (1, 3)):
            model.layers[layer].o_proj.weight[:, 4 * head : 4 * head + 4] = 0.0
        faults += int(_largest(model(tokens), silent) > 1e-12) + int(_largest(silent, logits) < 1e-3)
    right = model(tokens)[:, :-1].argmax(-1) == tokens[:, 1:]
    shares = [right[i, p:].double() for i, p in enumerate(period.tolist())]
    return faults + int(abs(accuracy(model, tokens, period) - float(torch.cat(shares).mean())) > 1e-12)


# --- what they share --------------------------------------------------------------------------------------------------


class _Blind(Pattern):
    """Causal, but the queries at positions 2 and 3 may see nothing."""

    def bias(self, query_positions_T: Tensor, key_positions_S: Tensor, dtype: torch.dtype) -> Tensor:
        blind_T1 = ((query_positions_T == 2) | (query_positions_T == 3))[:, None]
        return super().bias(query_positions_T, key_positions_S, dtype).masked_fill(blind_T1, -math.inf)


class _Made(torch.utils._python_dispatch.TorchDispatchMode):
    """Counts the bytes of everything that operators return."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.total += result.numel() * result.element_size()
        return result


def _sees(i: int, j: int, causal: bool, window: int | None) -> bool:
    return not (causal and j > i) and (window is None or abs(i - j) < window)


def _by_formula(query: Tensor, key: Tensor, value: Tensor, pattern: Pattern) -> Tensor:
    return attention(query, key, value, _bias(query, key, pattern))[0]


def _by_hand(query: Tensor, key: Tensor, value: Tensor, pattern: Pattern) -> Tensor:
    return attention_by_hand(query, key, value, _bias(query, key, pattern))


def _tiled(query: Tensor, key: Tensor, value: Tensor, pattern: Pattern) -> Tensor:
    return tiled_attention(query, key, value, pattern, 16)


def _tiled_small(query: Tensor, key: Tensor, value: Tensor, pattern: Pattern) -> Tensor:
    return tiled_attention(query, key, value, pattern, 2)


def _torch(query: Tensor, key: Tensor, value: Tensor, pattern: Pattern) -> Tensor:
    mask = _bias(query, key, pattern)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=True)


def _bias(query: Tensor, key: Tensor, pattern: Pattern) -> Tensor:
    """The pattern's bias for queries that are the last of the keys' positions."""
    T, S = query.shape[2], key.shape[2]
    return pattern.bias(torch.arange(S - T, S), torch.arange(S), query.dtype)


def _cases(dtype: torch.dtype) -> Iterator[tuple[Tensor, Tensor, Tensor, Pattern]]:
    """Causal, bidirectional, windowed and ALiBi, with 4, 2 and 1 key heads, as many keys as queries or more."""
    patterns = (
        Pattern(), Pattern(causal=False), Pattern(window=9), Pattern(causal=False, window=5),
        Pattern(slopes=alibi_slopes(4)), Pattern(window=20, slopes=alibi_slopes(4)),
    )  # fmt: skip
    for pattern, K, S in product(patterns, (4, 2, 1), (37, 50)):
        yield *_inputs(2, 4, K, 37, S, 8, dtype), pattern


def _against_torch(way: Way, dtype: torch.dtype) -> float:
    worst = 0.0
    for query, key, value, pattern in _cases(dtype):
        ours = expect_shape("output", way(query, key, value, pattern), query.shape)
        theirs = _torch(query, key, value, pattern)
        grad = _normal(*ours.shape, seed=7).to(dtype)
        pairs = zip(*(torch.autograd.grad(out, (query, key, value), grad) for out in (ours, theirs)), strict=True)
        worst = max([worst, _largest(ours, theirs), *(_largest(a, b) for a, b in pairs)])
    return worst


def _inputs(B: int, H: int, K: int, T: int, S: int, d: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Query (B, H, T, d), key and value (B, K, S, d), N(0, 1), asking for gradients."""
    shapes = ((B, H, T, d), (B, K, S, d), (B, K, S, d))
    query, key, value = (_normal(*shape, seed=seed).to(dtype).requires_grad_() for seed, shape in enumerate(shapes))
    return query, key, value


def _as_heads(x_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value (B, 4, T, 4) from one sequence, different for each."""
    x = split_heads(x_BTD, 4)
    return x, x.flip(-1), x.roll(1, -1)


def _normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _largest(a: Tensor, b: Tensor) -> float:
    """Largest absolute difference; infinite where one is NaN or only one is infinite."""
    difference = torch.where(a == b, torch.zeros_like(a), a - b).detach().abs().max()
    return math.inf if difference.isnan() else float(difference)


def _read_out(way: Way, pattern: Pattern, inputs: Sequence[Tensor]) -> Tensor:
    """A number that depends on every entry of the output in its own way."""
    query, key, value = inputs
    output = way(query, key, value, pattern)
    return (output * _normal(*output.shape, seed=9)).sum()


def _with_entry(loss: Callable[[Sequence[Tensor]], Tensor], inputs: Sequence[Tensor], i: int, x: Tensor) -> Tensor:
    return loss([*inputs[:i], x, *inputs[i + 1 :]])


def _central_difference(f: Callable[[Tensor], Tensor], x: Tensor, h: float = 1e-5) -> Tensor:
    result = torch.empty_like(x)
    with torch.no_grad():
        for i in range(x.numel()):
            step = torch.zeros_like(x)
            step.view(-1)[i] = h
            result.view(-1)[i] = (f(x + step) - f(x - step)) / (2 * h)
    return result


def _storage(*tensors: Tensor) -> int:
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors)
