"""M5: every derived formula against an independent source, hand-written backwards, caches, masks, and how they fail."""

import math
from pathlib import Path

import pytest
import torch
from derivations import assert_derivations_are_tested
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from llmm.transformers.attention import checks
from llmm.transformers.attention.attention_only import AttentionOnly
from llmm.transformers.attention.cache_bytes import heads_worth, kv_bytes, latent_bytes, window_bytes
from llmm.transformers.attention.entropy import entropy, expected_entropy, slope
from llmm.transformers.attention.formula import attention, attention_backward, attention_by_hand, softmax
from llmm.transformers.attention.heads import gather_heads, share_heads, split_heads
from llmm.transformers.attention.induction import repeated_sequences, repetition_loss, train
from llmm.transformers.attention.kv_cache import KVCache
from llmm.transformers.attention.latent import LatentAttention
from llmm.transformers.attention.multi_head import MultiHeadAttention
from llmm.transformers.attention.online_softmax import Running, online_log_sum_exp
from llmm.transformers.attention.patterns import CAUSAL, Pattern, alibi_slopes
from llmm.transformers.attention.positions import shift_matrix, sinusoidal
from llmm.transformers.attention.rope import rotate
from llmm.transformers.attention.rope_relative import decay_bound, kernel, rope_at, score_from_distance, shift_errors
from llmm.transformers.attention.tiled import tiled_attention
from llmm.transformers.attention.window_cache import WindowCache

README = Path("llmm/transformers/attention/README.md")
SEEDS = st.integers(0, 10_000)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def inputs(seed=0, B=2, H=4, K=2, T=5, S=7, d=4, dtype=torch.float64):
    shapes = ((B, H, T, d), (B, K, S, d), (B, K, S, d))
    return [normal(*shape, seed=seed + i, dtype=dtype).requires_grad_() for i, shape in enumerate(shapes)]


def ended(pattern, T, S, dtype=torch.float64):
    """The bias of T queries that are the last of S positions."""
    return pattern.bias(torch.arange(S - T, S), torch.arange(S), dtype)


patterns = st.builds(
    Pattern,
    causal=st.booleans(),
    window=st.none() | st.integers(1, 12),
    slopes=st.none() | st.just((0.5, 0.25, 0.1, 0.0)),
)


# --- 1: the size of a score -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 7, 64])
def test_variance_of_a_dot_product_is_its_width(d):
    products = (normal(40_000, d, seed=1) * normal(40_000, d, seed=2)).sum(-1)
    assert float(products.var()) == pytest.approx(d, rel=0.05)
    assert float((products / math.sqrt(d)).var()) == pytest.approx(1, rel=0.05)
    # by exact moments: E[q²] E[k²] for each channel and no covariance between channels
    assert float((normal(40_000, seed=3).square() * normal(40_000, seed=4).square()).mean()) == pytest.approx(
        1, rel=0.05
    )


@pytest.mark.parametrize("deviation", [0.0, 0.5, 1.0, 1.5])
def test_entropy_of_random_scores_falls_by_half_the_variance(deviation):
    weights = softmax(deviation * normal(200, 4000, seed=5))
    assert float(entropy(weights).mean()) == pytest.approx(expected_entropy(deviation, 4000), abs=0.05)


def test_beyond_the_freezing_point_a_few_keys_have_all():
    S = 4000
    frozen = softmax(4 * math.sqrt(2 * math.log(S)) * normal(200, S, seed=6))
    assert expected_entropy(4 * math.sqrt(2 * math.log(S)), S) == 0.0
    assert float(entropy(frozen).mean()) < 1.0
    assert float(frozen.amax(-1).mean()) > 0.7


# --- 2: softmax -------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(SEEDS, st.floats(-1e4, 1e4), st.floats(0.01, 100))
def test_adding_a_number_to_all_scores_changes_nothing(seed, shift, size):
    scores = size * normal(3, 9, seed=seed)
    assert softmax(scores + shift).sum(-1) == pytest.approx(1)
    torch.testing.assert_close(softmax(scores + shift), scores.softmax(-1), atol=1e-9, rtol=0)


def test_softmax_backward_is_the_jacobian():
    assert checks.softmax_jacobian_error() <= 1e-13
    scores = normal(6, seed=1)
    jacobian = torch.autograd.functional.jacobian(lambda s: s.softmax(-1), scores)
    weights = softmax(scores)
    assert (jacobian - (weights.diag() - weights.outer(weights))).abs().max() <= 1e-15
    assert jacobian.sum(0).abs().max() <= 1e-15  # weights sum to 1 however the scores move
    assert float(jacobian.trace()) == pytest.approx(float(slope(weights)))


def test_the_slope_is_gone_where_one_weight_is_one():
    assert slope(softmax(torch.tensor([0.0, 1000.0, 3.0]))) == 0
    assert float(slope(softmax(torch.zeros(10)))) == pytest.approx(0.9)


# --- 3: the backward --------------------------------------------------------------------------------------------------


def test_backward_passes_equal_central_differences():
    assert checks.gradcheck_error() <= 1e-7


def test_backward_passes_torchs_own_gradcheck():
    query, key, value = inputs(B=1, H=2, K=1, T=3, S=4, d=2)
    bias = normal(3, 4, seed=9).requires_grad_()
    assert torch.autograd.gradcheck(attention_by_hand, (query, key, value, bias), atol=1e-7)
    assert torch.autograd.gradcheck(lambda *x: tiled_attention(*x, CAUSAL, 2), (query, key, value), atol=1e-7)


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.sampled_from([(1, 1), (4, 1), (4, 2), (6, 3)]), st.integers(1, 6), st.integers(1, 9), patterns)
def test_backward_by_hand_is_that_of_autograd(seed, heads, T, more, pattern):
    H, K = heads
    query, key, value = inputs(seed, H=H, K=K, T=T, S=T + more - 1)
    bias = ended(Pattern(pattern.causal, pattern.window), T, T + more - 1)
    output, weights = attention(query, key, value, bias)
    grad = normal(*output.shape, seed=seed + 7)
    wanted = torch.autograd.grad(output, (query, key, value), grad)
    with torch.no_grad():
        *found, grad_scores = attention_backward(grad, query, key, value, weights)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)
    assert grad_scores.sum(-1).abs().max() <= 1e-12  # a row's scores moved together change nothing


def test_a_second_derivative_is_refused_and_not_wrong():
    query, key, value = inputs()
    for run in (attention_by_hand, tiled_attention):
        first = torch.autograd.grad(run(query, key, value).square().sum(), query, create_graph=True)[0]
        with pytest.raises(RuntimeError, match="once_differentiable"):
            first.sum().backward()


# --- 4: one pass, in tiles --------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.floats(-800, 800) | st.just(-math.inf), min_size=1, max_size=30))
def test_one_pass_gives_the_log_sum_exp(scores):
    row = torch.tensor(scores, dtype=torch.float64)
    torch.testing.assert_close(online_log_sum_exp(row), row.logsumexp(-1), atol=1e-12, rtol=1e-13)


@settings(deadline=None, max_examples=60)
@given(SEEDS, st.lists(st.integers(1, 5), min_size=1, max_size=6), st.randoms(use_true_random=False), st.floats(0, 50))
def test_pieces_merge_in_any_order_and_any_grouping(seed, sizes, random, scale):
    scores, values = scale * normal(2, 3, sum(sizes), seed=seed), normal(2, sum(sizes), 4, seed=seed + 1)
    pieces = [Running.over(s, v) for s, v in zip(scores.split(sizes, -1), values.split(sizes, -2), strict=True)] + [
        Running.nothing((2, 3, 4), scores)
    ]
    while len(pieces) > 1:  # any tree of merges
        first, second = (pieces.pop(random.randrange(len(pieces))) for _ in range(2))
        pieces.append(first.merge(second))
    torch.testing.assert_close(pieces[0].output(), scores.softmax(-1) @ values, atol=1e-12, rtol=0)
    torch.testing.assert_close(pieces[0].log_sum_exp(), scores.logsumexp(-1), atol=1e-12, rtol=1e-13)


@settings(deadline=None, max_examples=60)
@given(SEEDS, st.integers(1, 12), st.integers(0, 9), st.integers(1, 14), st.sampled_from([1, 2, 4]), patterns)
def test_tiled_equals_the_formula_forward_and_backward(seed, T, more, tile, K, pattern):
    query, key, value = inputs(seed, K=K, T=T, S=T + more)
    outputs = (
        tiled_attention(query, key, value, pattern, tile),
        attention(query, key, value, ended(pattern, T, T + more))[0],
    )
    grad = normal(*outputs[0].shape, seed=seed + 5)
    grads = [torch.autograd.grad(output, (query, key, value), grad) for output in outputs]
    for a, b in zip((outputs[0], *grads[0]), (outputs[1], *grads[1]), strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)


def test_delta_is_the_output_times_its_gradient():
    query, key, value = inputs()
    output, weights = attention(query, key, value)
    grad = normal(*output.shape, seed=3)
    by_weights = (weights * (grad @ share_heads(value, 4).mT)).sum(-1)
    torch.testing.assert_close((grad * output).sum(-1), by_weights)


def test_tiled_memory_grows_with_the_length_and_saves_no_matrix():
    assert checks.memory_slope() <= 1.1
    query, key, value = inputs(T=300, S=300)
    saved = tiled_attention(query, key, value, CAUSAL, 32).grad_fn.saved_tensors
    assert max(x.numel() for x in saved) == query.numel()


def test_more_queries_than_keys_are_refused():
    query, key, value = inputs(T=8, S=7)
    with pytest.raises(ValueError, match="8 queries are more than the 7 positions"):
        tiled_attention(query, key, value)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_tiled_keeps_the_dtype_and_is_as_close_as_torchs_kernel(dtype):
    query, key, value = (x.detach() for x in inputs(K=4, T=64, S=64, dtype=dtype))
    ours = tiled_attention(query, key, value, CAUSAL, 16)
    exact = attention(query.double(), key.double(), value.double(), ended(CAUSAL, 64, 64))[0]
    theirs = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    assert ours.dtype == dtype
    assert (ours.double() - exact).abs().max() <= 1.1 * (theirs.double() - exact).abs().max()


# --- 5: who sees whom -------------------------------------------------------------------------------------------------


def test_patterns_pair_by_pair():
    assert checks.wrong_patterns() == 0


@settings(deadline=None)
@given(patterns, st.integers(0, 20), st.integers(1, 5), st.integers(0, 20), st.integers(1, 5))
def test_a_tile_is_hidden_exactly_if_all_of_its_pairs_are(pattern, i, rows, j, columns):
    bias = pattern.bias(torch.arange(i, i + rows), torch.arange(j, j + columns), torch.float64)
    assert pattern.hides(range(i, i + rows), range(j, j + columns)) == bool((bias == -math.inf).all())


def test_a_window_that_sees_nothing_is_refused():
    with pytest.raises(ValueError, match="not even itself"):
        ended(Pattern(window=0), 2, 2)


def test_alibi_without_content_is_a_geometric_mean_distance():
    m, T = 0.25, 400
    weights = softmax(ended(Pattern(slopes=(m,)), 1, T)[0, 0])
    distances = torch.arange(T - 1, -1, -1).double()
    assert float(weights[-1]) == pytest.approx(1 - math.exp(-m))
    assert float(weights @ distances) == pytest.approx(1 / (math.exp(m) - 1))


def test_slopes_of_eight_heads_are_halves():
    assert alibi_slopes(8) == tuple(2.0**-h for h in range(1, 9))
    assert alibi_slopes(12)[8:] == tuple(2.0 ** (-(h + 0.5)) for h in range(4))


@settings(deadline=None, max_examples=25)
@given(SEEDS, st.integers(0, 9), st.sampled_from(["formula", "tiled", "module", "latent", "absorbed"]))
def test_what_comes_later_changes_no_bit_of_what_came_before(seed, t, kind):
    torch.manual_seed(seed)
    x = normal(1, 10, 16, seed=seed)
    other = x.clone()
    other[:, t:] = 1e3 * normal(1, 10 - t, 16, seed=seed + 1)
    module, latent = MultiHeadAttention(16, 4, 2, rope_theta=50.0).double(), LatentAttention(16, 2, 4, 6, 2).double()

    def run(x):
        heads = split_heads(x, 4)
        return {
            "formula": lambda: attention(heads, heads, heads, ended(CAUSAL, 10, 10))[0].transpose(1, 2),
            "tiled": lambda: tiled_attention(heads, heads, heads, CAUSAL, 3).transpose(1, 2),
            "module": lambda: module(x),
            "latent": lambda: latent(x),
            "absorbed": lambda: latent(x, absorbed=True),
        }[kind]()

    with torch.no_grad():
        assert torch.equal(run(x)[:, :t], run(other)[:, :t])


def test_rows_that_see_nothing_are_zero_and_pass_no_gradient():
    assert checks.unseen_faults() == 0


# --- 6: heads ---------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(SEEDS, st.integers(1, 3), st.integers(1, 4))
def test_gathering_is_the_transpose_of_sharing(seed, K, shared):
    key, grad = normal(2, K, 3, 4, seed=seed), normal(2, K * shared, 3, 4, seed=seed + 1)
    assert float((share_heads(key, K * shared) * grad).sum()) == pytest.approx(
        float((key * gather_heads(grad, K)).sum()), abs=1e-12
    )


def test_impossible_heads_are_refused():
    with pytest.raises(ValueError, match="do not divide into 5 heads"):
        split_heads(normal(1, 2, 12), 5)
    with pytest.raises(ValueError, match="cannot share 3 key heads"):
        share_heads(normal(1, 3, 2, 4), 4)
    with pytest.raises(ValueError, match="must divide"):
        MultiHeadAttention(12, 4, 3)


def test_multi_head_attention_is_torchs():
    assert checks.multi_head_against_torch() <= 1e-12


def test_one_module_is_multi_head_grouped_and_multi_query():
    assert checks.grouped_error() <= 1e-12
    sizes = {K: sum(p.numel() for p in MultiHeadAttention(64, 8, K).parameters()) for K in (8, 2, 1)}
    assert sizes == {K: 2 * 64 * 64 + 2 * 64 * 8 * K for K in (8, 2, 1)}


def test_the_pipelines_attention_is_the_same():
    assert checks.core_attend_error() <= 1e-12
    assert checks.core_module_error() <= 1e-12


# --- 7: absolute positions --------------------------------------------------------------------------------------------


def test_without_positions_and_mask_order_does_not_matter():
    assert checks.order_blindness() <= 1e-13


@settings(deadline=None)
@given(st.integers(0, 2000), st.integers(-500, 500), st.sampled_from([2, 8, 32]))
def test_one_rotation_shifts_all_sinusoids(position, shift, d_model):
    at = torch.tensor([position, position + shift])
    here, there = sinusoidal(at, d_model)
    rotation = shift_matrix(shift, d_model)
    torch.testing.assert_close(rotation @ here, there, atol=1e-11, rtol=0)
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(d_model, dtype=torch.float64), atol=1e-12, rtol=0)
    # so their product knows the distance alone
    assert float(here @ there) == pytest.approx(
        float(kernel(torch.tensor([shift]), d_model, 1e4)) * d_model / 2, abs=1e-9
    )


def test_an_odd_width_has_no_pairs():
    with pytest.raises(ValueError, match="come in pairs"):
        sinusoidal(torch.arange(3), 5)


def test_a_learned_table_ends():
    assert checks.learned_positions_faults() == 0


# --- 8: rotary positions ----------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(SEEDS, st.integers(0, 3000), st.integers(0, 3000), st.integers(0, 3000))
def test_a_rotated_score_knows_the_distance_alone(seed, m, n, shift):
    query, key = normal(8, seed=seed), normal(8, seed=seed + 1)

    def score(m, n):
        at_m, at_n = (rope_at(torch.tensor([p]), 8, 1e4) for p in (m, n))
        return float((rotate(query[None], *at_m) * rotate(key[None], *at_n)).sum())

    assert score(m, n) == pytest.approx(score_from_distance(query, key, m - n, 1e4), abs=1e-10)
    assert score(m, n) == pytest.approx(score(m + shift, n + shift), abs=1e-10)


def test_rope_is_complex_multiplication_and_keeps_lengths():
    assert checks.rope_error() <= 1e-11


def test_the_kernel_is_the_mean_score_of_equal_vectors():
    x = normal(20_000, 16, seed=1)
    for distance in (1, 5, 60):
        cos, sin = rope_at(torch.tensor([distance]), 16, 100.0)
        mean = float((rotate(x, cos, sin) * x).sum(-1).mean()) / 16
        assert mean == pytest.approx(float(kernel(torch.tensor([distance]), 16, 100.0)), abs=0.01)


def test_unrelated_vectors_do_not_decay():
    query, key = normal(20_000, 16, seed=1), normal(20_000, 16, seed=2)
    for distance in (0, 5, 2000):
        turned = rotate(query, *rope_at(torch.tensor([distance]), 16, 100.0))
        assert float((turned * key).sum(-1).var()) == pytest.approx(16, rel=0.05)


def test_the_bound_bounds_by_summation_by_parts():
    """|Σ h_i e_i| ≤ max|h_(i+1) - h_i| Σ|S_i|, Abel's summation with h beyond the last pair 0."""
    d, theta = 16, 100.0
    for seed in range(20):
        query, key = normal(d, seed=seed), normal(d, seed=seed + 50)
        pairs = [torch.complex(*x.chunk(2)) for x in (query, key)]
        h = torch.cat([pairs[0] * pairs[1].conj(), torch.zeros(1)])
        for distance in (0, 3, 40):
            bound = float(decay_bound(torch.tensor([distance]), d, theta)) * d / 2 * float(h.diff().abs().max())
            assert abs(score_from_distance(query, key, distance, theta)) <= bound + 1e-12


def test_the_pipelines_tables_are_llamas():
    assert checks.rope_tables_against_llama() == 0


def test_precision_of_a_shift():
    query, key = normal(8, 64, seed=1), normal(8, 64, seed=2)
    shifts = torch.arange(0, 2048, 31)
    worst = {
        dtype: float(shift_errors(query, key, shifts, 16, 1e4, dtype).max())
        for dtype in (torch.float64, torch.float32, torch.bfloat16)
    }
    assert worst[torch.float64] < 1e-12 < 1e-6 < worst[torch.float32] < 1e-3
    assert worst[torch.bfloat16] > 1
    assert float(shift_errors(query, key, shifts, 16, 1e4, torch.bfloat16, torch.float32).max()) < 1


# --- 9: latent attention ----------------------------------------------------------------------------------------------


def test_absorbed_latent_attention_is_the_expanded_one():
    assert checks.absorbed_error() <= 1e-10


def test_absorbed_latent_attention_has_the_same_gradients():
    torch.manual_seed(0)
    layer, x = LatentAttention(12, 2, 4, 6, 2).double(), normal(2, 5, 12)
    grads = [torch.autograd.grad(layer(x, absorbed=way).square().sum(), list(layer.parameters())) for way in (0, 1)]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, atol=1e-11, rtol=1e-11)


def test_latent_attention_is_deepseeks():
    assert checks.latent_against_deepseek() <= 1e-6


def test_rotation_does_not_commute_with_the_expansion():
    """Why the rotated channels are apart: rotating what was expanded is not expanding what was rotated."""
    expand, latent = normal(8, 8, seed=1), normal(8, seed=2)
    cos, sin = rope_at(torch.tensor([5]), 8, 100.0)
    assert (rotate((expand @ latent)[None], cos, sin)[0] - expand @ rotate(latent[None], cos, sin)[0]).abs().max() > 0.1


# --- 10: caches -------------------------------------------------------------------------------------------------------


def test_bytes_are_what_is_allocated():
    assert checks.cache_bytes_off() == 0
    assert kv_bytes(32, 1, 32, 128, 32_768, torch.bfloat16) == 16 * 2**30
    assert window_bytes(32, 1, 32, 128, 100, 4096, torch.bfloat16) == kv_bytes(32, 1, 32, 128, 100, torch.bfloat16)
    assert latent_bytes(1, 1, 512, 64, 1, torch.bfloat16) == heads_worth(512, 64, 128) * kv_bytes(
        1, 1, 1, 128, 1, torch.bfloat16
    )


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.integers(1, 6), st.lists(st.integers(1, 7), min_size=1, max_size=6))
def test_a_ring_is_a_cache_that_forgets(seed, window, pieces):
    torch.manual_seed(seed)
    layer = MultiHeadAttention(8, 2, 1, Pattern(window=window), rope_theta=30.0).double()
    x = normal(1, sum(pieces), 8, seed=seed)
    ring = WindowCache(*(torch.full((1, 1, window, 4), math.nan).double() for _ in "kv"))
    whole = KVCache(1, (1, 1, sum(pieces), 4), torch.float64, torch.device("cpu")).layers[0]
    with torch.no_grad():
        by_ring = torch.cat([layer(part, ring) for part in x.split(pieces, dim=1)], dim=1)
        by_cache = torch.cat([layer(part, whole) for part in x.split(pieces, dim=1)], dim=1)
        torch.testing.assert_close(by_ring, layer(x), atol=1e-12, rtol=0)
        torch.testing.assert_close(by_cache, layer(x), atol=1e-12, rtol=0)
    assert ring.length == whole.length == sum(pieces)


# --- 11: induction ----------------------------------------------------------------------------------------------------


def test_two_layers_set_by_hand_continue_a_repetition():
    """Equations (11.1), (11.2): the first layer looks one back by position, the second for the token found there."""
    tokens, period = repeated_sequences(20, 40, 24, range(5, 14), torch.Generator().manual_seed(0))
    content = F.one_hot(tokens, 24).double()[:, None]
    place = sinusoidal(torch.arange(40), 64)[None, None].expand(20, 1, 40, 64)
    earlier = ended(CAUSAL, 40, 40).masked_fill(torch.eye(40, dtype=torch.bool), -math.inf)
    before, weights = attention(place @ shift_matrix(-1, 64).T, place, content, earlier, scale=50.0)
    assert float(weights.diagonal(-1, 2, 3).min()) > 0.999
    assert (before[:, :, 0] == 0).all()  # the first token has none before it, and sees nothing
    guess, _ = attention(content, before, content, ended(CAUSAL, 40, 40), scale=50.0)
    known = checks.predictable(period, 40)
    assert (guess[:, 0, :-1].argmax(-1) == tokens[:, 1:])[known].all()


def test_the_task_and_its_scores():
    assert checks.induction_faults() == 0
    assert checks.silencing_faults() == 0


def test_loss_counts_what_can_be_known_only():
    tokens, period = repeated_sequences(4, 12, 9, range(3, 6), torch.Generator().manual_seed(1))
    logits = torch.full((4, 12, 9), -30.0)
    right = torch.zeros(4, 12, 9, dtype=torch.bool)
    right[:, :-1] = F.one_hot(tokens[:, 1:], 9).bool()
    for row, p in enumerate(period.tolist()):  # right from the period on, wrong before
        logits[row, p:][right[row, p:]] = 30.0
    assert float(repetition_loss(logits, tokens, period)) < 1e-6


def test_training_learns_and_repeats_itself_bit_by_bit():
    def losses():
        torch.manual_seed(0)
        model = AttentionOnly(12, 16, 1, 2, 100.0)
        return [loss for _, loss in train(model, 15, 8, 24, range(4, 8), 1e-2, seed=0)]

    first = losses()
    assert first == losses()
    assert first[-1] < first[0]


# --- the milestone ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("criterion", [
    "formula_against_torch", "by_hand_against_torch", "tiled_against_torch", "backward_error", "tiled_parts_error",
    "heads_error", "cached_error", "sharpness_error", "sinusoid_error", "online_softmax_error",
])  # fmt: skip
def test_checks_of_errors_are_tight(criterion):
    assert getattr(checks, criterion)() <= 1e-12


def test_single_precision_is_rounding_and_no_more():
    assert checks.single_precision_against_torch() <= 2e-6


def test_every_derivation_names_tests_that_exist():
    assert_derivations_are_tested(README, globals())
