"""M6: every derived formula against an independent source, the block against its peers, and how parts of it fail."""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from llmm.transformers.attention.attention import Attention
from llmm.transformers.block import checks
from llmm.transformers.block.block import Block
from llmm.transformers.block.depth import Stack, last_layer_gradient, variances
from llmm.transformers.block.ensemble import Ensemble
from llmm.transformers.block.experiments import GELU_SECOND_MOMENT
from llmm.transformers.block.feed_forward import MLP, SwiGLU
from llmm.transformers.block.flop_count import Work, backward_flops, forward_flops
from llmm.transformers.block.gated import GatedFeedForward
from llmm.transformers.block.layer_norm import LayerNorm, layer_norm
from llmm.transformers.block.mixture import MixtureOfExperts, router_losses
from llmm.transformers.block.parameter_count import (
    attention_parameters,
    block_parameters,
    equal_width,
    feed_forward_parameters,
    gpt_parameters,
)
from llmm.transformers.block.peers import from_encoder_layer
from llmm.transformers.block.propagation import predicted_gradient_ratio, predicted_variance
from llmm.transformers.block.rms_norm import RMSNorm, rms_norm
from llmm.transformers.block.routing import balance_loss, expert_capacity, route, z_loss
from llmm.transformers.block.tiny_language import Recipe, held_out_loss, text, tiny, train, windows, without_norms
from llmm.transformers.gpt.config import GPTConfig

MODEST = settings(deadline=None, max_examples=30)


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# --- 2: norms and their backward --------------------------------------------------------------------------------------


def test_layer_norm_backward_is_the_derivative():
    assert checks.layer_norm_gradcheck()
    assert checks.layer_norm_error() <= 1e-12


def test_rms_norm_backward_is_the_derivative():
    assert checks.rms_norm_gradcheck()
    assert checks.rms_norm_error() <= 1e-12


@MODEST
@given(st.integers(0, 10_000), st.integers(2, 9), st.integers(1, 4))
def test_jacobian_of_layer_norm_is_a_projection_over_the_deviation(seed, D, rows):
    x = normal(rows, D, seed=seed)
    one, zero = torch.ones(D).double(), torch.zeros(D).double()
    for row in x:
        J = torch.autograd.functional.jacobian(lambda v: layer_norm(v, one, zero, 1e-3), row)
        r = (row.var(correction=0) + 1e-3).rsqrt()
        n = (row - row.mean()) * r
        assert (J - r * (torch.eye(D).double() - 1 / D - torch.outer(n, n) / D)).abs().max() <= 1e-12


@MODEST
@given(st.integers(0, 10_000), st.floats(0.1, 100))
def test_gradients_are_blind_to_what_the_norm_forgets(seed, scale):
    one, zero = torch.ones(8).double(), torch.zeros(8).double()
    for norm, forgotten in (
        (lambda x: layer_norm(x, one, zero, 0.0), ("length", "mean")),
        (lambda x: rms_norm(x, one, 0.0), ("length",)),
    ):
        x = (scale * normal(3, 8, seed=seed)).requires_grad_()
        (gradient,) = torch.autograd.grad((norm(x) * normal(3, 8, seed=seed + 1)).sum(), x)
        size = gradient.norm() * x.norm()
        if "mean" in forgotten:
            assert gradient.sum(-1).abs().max() * x.norm() <= 1e-12 * size
            centred = (x - x.mean(-1, keepdim=True)).detach()
            assert (gradient * centred).sum(-1).abs().max() <= 1e-12 * size
        else:
            assert (gradient * x).sum(-1).abs().max() <= 1e-12 * size


@MODEST
@given(st.integers(0, 10_000), st.floats(0.01, 1000), st.floats(-100, 100))
def test_norms_do_not_see_scale_and_layer_norm_no_shift(seed, scale, shift):
    x = normal(2, 6, seed=seed)
    one, zero = torch.ones(6).double(), torch.zeros(6).double()
    assert (layer_norm(scale * x + shift, one, zero, 0.0) - layer_norm(x, one, zero, 0.0)).abs().max() <= 1e-7
    assert (rms_norm(scale * x, one, 0.0) - rms_norm(x, one, 0.0)).abs().max() <= 1e-12
    # and a gradient through them falls as the input grows
    x.requires_grad_()
    (small,) = torch.autograd.grad(rms_norm(x, one, 0.0)[0, 0], x)
    (large,) = torch.autograd.grad(rms_norm(scale * x, one, 0.0)[0, 0], x)
    assert (large - small).abs().max() <= 1e-9  # d/dx of scale * x brings back the factor that the norm took


def test_layer_norm_keeps_its_digits_far_from_zero():
    assert checks.layer_norm_far_from_zero() <= 1e-2


def test_second_derivatives_are_refused():
    assert checks.refuses_second_derivatives()


def test_norms_take_a_vector_and_a_batch_of_nothing():
    for norm in (LayerNorm(4), RMSNorm(4)):
        x = torch.randn(4, requires_grad=True)
        norm(x).sum().backward()
        assert norm.weight.grad.shape == (4,)
        assert norm(torch.zeros(0, 4)).shape == (0, 4)
        assert norm(torch.zeros(2, 4)).isfinite().all()


# --- 1: the block and its peers ---------------------------------------------------------------------------------------


def test_torch_encoder_layer_in_both_modes():
    assert checks.encoder_layer_error() <= 1e-12


def test_an_encoder_layer_looks_both_ways_only_under_a_mask_of_true():
    layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, activation="gelu", batch_first=True).double()
    block, x = from_encoder_layer(layer), normal(1, 5, 8)
    assert (block(x) - layer(x)).abs().max() > 1e-3
    causal = nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.float64)
    assert (block(x) - layer(x, src_mask=causal, is_causal=True)).abs().max() <= 1e-12


def test_layers_of_llama_qwen3_and_gpt2():
    assert checks.decoder_layer_error() <= 1e-6


def test_sandwich_is_its_formula_and_the_cache_changes_nothing():
    assert checks.sandwich_error() <= 1e-12
    assert checks.cache_error() <= 1e-12


@pytest.mark.parametrize("placement", ["pre", "post", "sandwich"])
def test_a_block_trains_equally_with_our_norms(placement):
    found = []
    for norm in (partial(nn.LayerNorm, 8, eps=1e-5), partial(LayerNorm, 8)):
        torch.manual_seed(0)
        block = Block(Attention(8, 2, 1, 4), MLP(8, 12, "relu2"), norm, placement).double()
        loss = (block(normal(2, 4, 8)) ** 3).sum()
        found.append(torch.autograd.grad(loss, list(block.parameters())))
    assert max((a - b).abs().max() for a, b in zip(*found, strict=True)) <= 1e-10


@pytest.mark.parametrize("placement", ["pre", "sandwich"])
def test_silent_branches_leave_the_stream_alone(placement):
    block = Block(Attention(8, 2, 2, 4), SwiGLU(8, 12), partial(nn.RMSNorm, 8), placement)
    nn.init.zeros_(block.self_attn.o_proj.weight)
    nn.init.zeros_(block.mlp.down_proj.weight)
    x = torch.randn(2, 3, 8)
    assert torch.equal(block(x), x)


# --- 3 and 4: depth ---------------------------------------------------------------------------------------------------


def test_second_moment_of_gelu_by_integration():
    z = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    assert torch.trapezoid(F.gelu(z).square() * density, z) == pytest.approx(GELU_SECOND_MOMENT, rel=1e-9)
    assert pytest.approx(1 / 3 + 1 / (2 * math.pi * math.sqrt(3))) == GELU_SECOND_MOMENT


def test_a_gate_squares_what_it_gets():
    """Equation (3.9): silu(g) u has variance v² / 2 for g and u of a large variance v."""
    for v in (1e2, 1e4):
        gate, up = (v**0.5 * normal(400_000, seed=seed) for seed in (0, 1))
        assert float((F.silu(gate) * up).square().mean()) == pytest.approx(v**2 / 2, rel=0.02)


def test_streams_grow_as_predicted_when_branches_are_independent():
    assert checks.variance_law_error() <= 0.03


def test_variance_of_an_average_of_correlated_vectors():
    """Equation (3.4): t vectors of variance 1 and correlation ρ have a mean of variance ρ + (1 - ρ) / t."""
    for rho, t in ((0.0, 4), (0.3, 10), (1.0, 7)):
        common, own = normal(1, 200_000), normal(t, 200_000, seed=1)
        mean = (rho**0.5 * common + (1 - rho) ** 0.5 * own).mean(0)
        assert float(mean.square().mean()) == pytest.approx(rho + (1 - rho) / t, rel=0.03)


@pytest.mark.parametrize("norms", ["pre", "post", "sandwich", "none"])
def test_a_stack_starts_as_its_placement_promises(norms):
    generator = torch.Generator().manual_seed(0)
    stack = Stack(norms, 4, 32, 4, generator).double()
    found = variances(stack, torch.randn(4, 16, 32, generator=generator).double())
    assert len(found) == 5
    if norms == "post":
        assert found[1:] == pytest.approx([1.0] * 4, abs=1e-4)
    elif norms == "sandwich":
        assert found[4] == pytest.approx(predicted_variance("sandwich", 4, found[0], 0.0), rel=0.15)
    else:
        assert all(later > earlier for earlier, later in pairwise(found))


def test_last_layer_gradient_falls_as_the_stream_grows():
    """Equation (4.1): with the stream scaled up by a large embedding, the gradient falls by the same factor."""
    generator = torch.Generator().manual_seed(0)
    stack = Stack("pre", 2, 32, 4, generator).double()
    x, readout = 100 * normal(2, 8, 32), normal(16, 32, seed=1)
    target = torch.zeros(2, 8, dtype=torch.long)
    near, far = (last_layer_gradient(stack, scale * x, readout, target) for scale in (1, 10))
    assert near / far == pytest.approx(10, rel=0.05)


def test_gradient_ratio_has_its_limits():
    assert checks.gradient_ratio_error() <= 1e-12
    assert predicted_gradient_ratio("pre", 6, 24, 1.0, 1e9) == pytest.approx(2.0)
    assert predicted_gradient_ratio("post", 6, 24, 1.0, 5.0) == 1.0


# --- 5: feed-forward layers -------------------------------------------------------------------------------------------


def test_feed_forwards_and_gates_are_their_formulas():
    assert checks.feed_forward_error() <= 1e-12
    assert checks.gate_error() <= 1e-12


@MODEST
@given(st.integers(1, 64), st.integers(1, 400), st.booleans())
def test_equal_width_is_the_nearest(D, d_ff, bias):
    plain = feed_forward_parameters(D, d_ff, gated=False, bias=bias)
    width = equal_width(D, d_ff, bias)
    off = {w: abs(feed_forward_parameters(D, w, gated=True, bias=bias) - plain) for w in (width - 1, width, width + 1)}
    assert off[width] == min(off.values())
    if not bias and d_ff % 3 == 0:
        assert width == 2 * d_ff // 3
        assert off[width] == 0


def test_every_gate_lets_a_gradient_through_to_all_three_matrices():
    for gate in ("bilinear", "glu", "reglu", "geglu", "swiglu"):
        layer = GatedFeedForward(4, 6, gate)
        layer(torch.randn(5, 4, generator=torch.Generator().manual_seed(0))).square().sum().backward()
        assert all(p.grad.abs().sum() > 0 for p in layer.parameters())


# --- 6: parameters ----------------------------------------------------------------------------------------------------


def test_parameters_of_random_models():
    assert checks.parameter_mismatches() == 0


@pytest.mark.parametrize(("published", "config", "n_expert"), [
    (124_439_808, GPTConfig(vocab_size=50257, n_layer=12, n_head=12, n_kv_head=12, d_model=768, d_ff=3072,
        context_len=1024, positions="learned", norm="layer", qk_norm=False, feed_forward="gelu_tanh", bias=True), None),
    (6_738_415_616, GPTConfig(vocab_size=32000, n_layer=32, n_head=32, n_kv_head=32, d_model=4096, d_ff=11008,
        context_len=4096, tie_embeddings=False, qk_norm=False), None),
    (596_049_920, GPTConfig(vocab_size=151936, n_layer=28, n_head=16, n_kv_head=8, d_model=1024, d_ff=3072,
        context_len=40960, head_dim=128), None),
    (46_702_792_704, GPTConfig(vocab_size=32000, n_layer=32, n_head=32, n_kv_head=8, d_model=4096, d_ff=14336,
        context_len=32768, tie_embeddings=False, qk_norm=False), 8),
], ids=["GPT-2", "Llama 2 7B", "Qwen3 0.6B", "Mixtral 8x7B"])  # fmt: skip
def test_parameters_of_published_models(published, config, n_expert):
    assert gpt_parameters(config, n_expert) == published


def test_grouped_heads_save_what_they_share():
    sizes = {"vocab_size": 9, "n_layer": 1, "n_head": 8, "d_model": 32, "d_ff": 16, "context_len": 4, "qk_norm": False}
    full, single = (attention_parameters(GPTConfig(n_kv_head=n, **sizes)) for n in (8, 1))
    assert full == 4 * 32**2
    assert full - single == 2 * 32 * (32 - 4)


def test_experts_multiply_parameters_and_not_work():
    config = GPTConfig(vocab_size=9, n_layer=1, n_head=2, n_kv_head=2, d_model=8, d_ff=12, context_len=4)
    fed = feed_forward_parameters(8, 12, gated=True, bias=False)
    assert block_parameters(config, 6) - block_parameters(config) == 5 * fed + 6 * 8
    router = 2 * 8 * 6 * 4  # one row of logits for each of four tokens
    assert forward_flops(config, Work(1, 4), 6, 1) == forward_flops(config, Work(1, 4)) + router


# --- 7: FLOPs ---------------------------------------------------------------------------------------------------------


def test_flops_of_random_models():
    assert checks.flop_mismatches() == 0
    assert checks.tiled_flop_mismatches() == 0
    assert checks.cached_flop_mismatches() == 0


@MODEST
@given(st.integers(1, 64), st.integers(1, 4), st.sampled_from([1, 2, 4]))
def test_six_n_and_the_share_of_attention(tokens, n_layer, n_kv_head):
    """Equation (7.5): 6 N a token and, for the whole square of scores, 12 L H d T."""
    c = GPTConfig(vocab_size=50, n_layer=n_layer, n_head=4, n_kv_head=n_kv_head, d_model=16, d_ff=24, context_len=64)
    total = forward_flops(c, Work(3, tokens)) + backward_flops(c, Work(3, tokens))
    assert total == 3 * tokens * (6 * c.n_matmul_params + 12 * n_layer * 16 * tokens)
    causal_half = 6 * n_layer * 16 * tokens
    assert total / (3 * tokens) - causal_half == c.flops_per_token(tokens)


def test_reading_with_a_cache_costs_what_reading_at_once_costs_without_the_square():
    c = GPTConfig(vocab_size=50, n_layer=2, n_head=2, n_kv_head=1, d_model=8, d_ff=12, context_len=64)
    one_by_one = sum(forward_flops(c, Work(1, 1, past=t)) for t in range(10))
    at_once = forward_flops(c, Work(1, 10))
    assert at_once - one_by_one == 2 * 4 * 8 * (100 - 55)


def test_the_processors_tiled_kernel_is_invisible_to_the_counter():
    from torch.utils.flop_counter import FlopCounterMode

    x = torch.randn(1, 2, 16, 8)
    with FlopCounterMode(display=False) as counter:
        F.scaled_dot_product_attention(x, x, x, is_causal=True)
    assert counter.get_total_flops() == 0


# --- 8: mixture of experts --------------------------------------------------------------------------------------------


def test_mixture_is_the_loop_over_tokens():
    assert checks.mixture_error() <= 1e-12
    assert checks.one_expert_error() <= 1e-12
    assert checks.mixtral_error() <= 1e-6


def test_capacity_turns_away_the_last():
    assert checks.capacity_violations() == 0
    logits = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert route(logits, 1, capacity=2).kept_NK[:, 0].tolist() == [True, True, True, False]
    # the first choice of a late token comes before the second choice of an early one
    assert route(logits, 2, capacity=3).kept_NK.tolist() == [[True, True], [True, True], [True, False], [True, False]]


@MODEST
@given(st.integers(0, 10_000), st.integers(1, 20), st.integers(1, 6), st.data())
def test_a_routing_is_what_it_says(seed, N, E, data):
    K = data.draw(st.integers(1, E))
    routing = route(normal(N, E, seed=seed), K, renormalise=True)
    assert (routing.weight_NK.sum(-1) - 1).abs().max() <= 1e-12
    assert (routing.weight_NK.diff(dim=-1) <= 0).all()
    assert float(routing.load_E.sum()) == pytest.approx(1)
    assert 0 < float(balance_loss(routing)) <= E + 1e-9
    assert all(len(set(row)) == K for row in routing.expert_NK.tolist())


def test_balance_loss_at_even_and_one_sided_routing_and_its_gradient():
    assert checks.balance_error() <= 1e-7


def test_balance_loss_can_be_below_one():
    """Two tokens barely prefer the first expert and one is sure of the second: most choices here, most weight there."""
    probability_NE = torch.tensor([[0.51, 0.49], [0.51, 0.49], [0.01, 0.99]])
    loss = float(balance_loss(route(probability_NE.log(), 1)))
    assert loss == pytest.approx(2 * (2 / 3 * 1.03 / 3 + 1 / 3 * 1.97 / 3), rel=1e-6)
    assert loss < 1


def test_router_learns_only_through_weights_that_can_change():
    """Equation (8.3): renormalised, a single choice has weight 1 whatever the logits are."""
    for renormalise, moves in ((False, True), (True, False)):
        mixture = MixtureOfExperts(4, 3, 1, partial(SwiGLU, 4, 5), renormalise=renormalise).double()
        mixture(normal(6, 4)).square().sum().backward()
        assert (mixture.gate.weight.grad.abs().max() > 1e-10) == moves


def test_z_loss_and_the_mean_over_layers():
    assert checks.z_loss_error() <= 1e-9
    logits = normal(5, 3).requires_grad_()
    (gradient,) = torch.autograd.grad(z_loss(route(logits, 1)), logits)
    expected = 2 / 5 * logits.logsumexp(-1, keepdim=True) * logits.softmax(-1)
    assert (gradient - expected).abs().max() <= 1e-12


def test_losses_of_a_model_without_experts_are_refused():
    with pytest.raises(ValueError, match="no mixture of experts"):
        router_losses(nn.Linear(2, 2))


def test_room_of_an_expert():
    assert expert_capacity(10, 4, 1, 1.0) == 3
    assert expert_capacity(16, 4, 2, 1.25) == 10


def test_a_full_expert_answers_zero():
    mixture = MixtureOfExperts(4, 2, 1, partial(SwiGLU, 4, 5), capacity_factor=0.5).double()
    nn.init.zeros_(mixture.gate.weight)  # every token prefers the first expert, which has room for two of eight
    out = mixture(normal(8, 4))
    assert out[:2].abs().min() > 0
    assert out[2:].abs().max() == 0


# --- the experiments' tools -------------------------------------------------------------------------------------------


def test_models_trained_together_learn_what_each_learns_alone():
    recipes = [Recipe(3e-3, 4, warmup=0, batch=2, seq_len=8), Recipe(1e-3, 4, warmup=2, batch=2, seq_len=8)]
    ensemble = Ensemble([tiny(2, 8, 8, n_head=2) for _ in recipes], seeds=[5, 6])
    together = ensemble.train(recipes)
    held_out = ensemble.held_out(8)
    for r, recipe in enumerate(recipes):
        alone = tiny(2, 8, 8, n_head=2)
        assert together[r].tolist() == pytest.approx(train(alone, recipe, seed=5 + r), rel=1e-5)
        assert float(held_out[r]) == pytest.approx(held_out_loss(alone, 8), rel=1e-4)


def test_a_model_that_diverges_leaves_its_neighbours_alone():
    recipes = [Recipe(lr, 6, batch=2, seq_len=8) for lr in (1e-3, 1e30)]
    losses = Ensemble([without_norms(tiny(2, 8, 8, n_head=2)) for _ in recipes], seeds=[0, 0]).train(recipes)
    assert losses[0].isfinite().all()
    assert not losses[1].isfinite().all()


def test_the_rate_warms_up_and_falls():
    recipe = Recipe(1.0, 10, warmup=4)
    assert [recipe.rate(step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert recipe.rate(4) == 1.0
    assert 0.1 < recipe.rate(9) < 0.2


def test_windows_are_pieces_of_the_text():
    ids = text(("heapq",))
    rows = windows(ids, 3, 16, torch.Generator().manual_seed(0))
    assert rows.shape == (3, 17)
    source = bytes(ids.tolist())
    assert all(bytes(row.tolist()) in source for row in rows)
    assert int(ids.max()) < 128
