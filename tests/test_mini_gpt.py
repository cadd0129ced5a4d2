"""M7: what the derivations of the mini GPT's README promise, each formula by a test of its own."""

import math
from dataclasses import replace

import pytest
import torch
from scipy.stats import chisquare

from llmm.errors import UserError
from llmm.transformers.gpt import GPT, GPTConfig
from llmm.transformers.gpt.decode import LeanStep, decode_step, lean
from llmm.transformers.gpt.generate import generate
from llmm.transformers.gpt.sampling import Sampler, keep_min_p, keep_top_k, keep_top_p, penalise_repetition

CONFIG = GPTConfig(vocab_size=61, n_layer=2, n_head=4, n_kv_head=2, d_model=32, d_ff=48, context_len=48)
GPT2 = GPTConfig(
    vocab_size=61, n_layer=2, n_head=4, n_kv_head=4, d_model=32, d_ff=48, context_len=48,
    positions="learned", norm="layer", feed_forward="gelu_tanh", bias=True, qk_norm=False,
)  # fmt: skip


def scaled(config: GPTConfig = CONFIG, seed: int = 0) -> GPT:
    """Weights so large that a small mistake shows."""
    model = GPT(config)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, 0, 0.2, generator=generator)
        else:
            torch.nn.init.uniform_(parameter, 0.5, 1.5, generator=generator)
    return model.eval()


def random_ids(*shape: int, seed: int = 0, vocab_size: int = CONFIG.vocab_size) -> torch.Tensor:
    return torch.randint(vocab_size, shape, generator=torch.Generator().manual_seed(seed))


# --- one step of generation -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{}, {"qk_norm": False}, {"n_kv_head": 4}, {"n_kv_head": 1}, {"head_dim": 6}])
@pytest.mark.parametrize("ragged", [False, True])
@torch.inference_mode()
def test_the_lean_step_computes_what_the_model_does(change, ragged):
    model = scaled(replace(CONFIG, **change)).double()
    ids, mask = random_ids(3, 20), torch.ones(3, 20, dtype=torch.long)
    if ragged:
        mask[0, :4], mask[2, :1] = 0, 0
    whole = model(ids, mask if ragged else None)
    cache = model.new_cache(3, 20)
    model(ids[:, :9], mask[:, :9] if ragged else None, cache)
    step = decode_step(model, cache, mask if ragged else None)
    assert isinstance(step, LeanStep)
    for t in range(9, 20):
        assert (step(ids[:, t]) - whole[:, t]).abs().max() <= 1e-12 * whole.abs().max()
    assert cache.length == 20


@torch.inference_mode()
def test_other_models_take_their_steps_by_the_model_itself():
    for model in (scaled(GPT2), scaled(replace(CONFIG, norm_placement="sandwich"))):
        ids = random_ids(2, 12)
        cache = model.new_cache(2, 12)
        model(ids[:, :6], cache=cache)
        step = decode_step(model, cache)
        assert not isinstance(step, LeanStep)
        for t in range(6, 12):
            expected = model(ids[:, : t + 1])[:, -1]
            assert (step(ids[:, t]) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_an_adapter_or_a_hook_on_a_layer_is_never_passed_by():
    adapted, hooked = scaled(), scaled()

    class Adapted(torch.nn.Linear):
        pass

    adapted.model.layers[1].self_attn.v_proj.__class__ = Adapted
    hooked.model.layers[0].mlp.register_forward_hook(lambda *_: None)
    assert lean(scaled()) and not lean(adapted) and not lean(hooked)
    assert not lean(scaled(replace(CONFIG, dropout=0.1)).train())


# --- sampling ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.7},
        {"temperature": 1.3, "top_k": 7},
        {"temperature": 1.0, "top_p": 0.8},
        {"temperature": 1.2, "min_p": 0.08},
        {"temperature": 0.9, "top_k": 12, "top_p": 0.9, "min_p": 0.02, "repetition_penalty": 1.3},
    ],
)
def test_draws_follow_the_distribution_and_the_distribution_is_that_of_transformers(settings):
    import transformers

    logits = 2 * torch.randn(1, 30, generator=torch.Generator().manual_seed(5))
    history = [3, 3, 8, 29]
    sampler = Sampler(**settings)
    rules = {
        "repetition_penalty": transformers.RepetitionPenaltyLogitsProcessor,
        "temperature": transformers.TemperatureLogitsWarper,
        "top_k": transformers.TopKLogitsWarper,
        "top_p": transformers.TopPLogitsWarper,
        "min_p": transformers.MinPLogitsWarper,
    }
    theirs = logits.double()
    for name, rule in rules.items():
        if name in settings:
            theirs = rule(settings[name])(torch.tensor([history]), theirs)
    expected = theirs.softmax(-1)[0]
    ours = sampler.distribution(logits.double(), [history])[0]
    assert (ours - expected).abs().max() <= 1e-12

    drawn = sampler(logits.expand(20_000, -1), torch.Generator().manual_seed(1), [history] * 20_000)
    counts = torch.bincount(drawn, minlength=30)
    possible = expected > 0
    assert counts[~possible].sum() == 0
    assert chisquare(counts[possible].numpy(), (expected[possible] * 20_000).numpy()).pvalue > 0.01


def test_the_nucleus_is_the_smallest_set_that_reaches_p():
    p = torch.tensor([[0.1, 0.4, 0.2, 0.3]])
    kept = {cut: (keep_top_p(p.log(), cut) > -torch.inf)[0].tolist() for cut in (0.39, 0.41, 0.69, 0.71, 0.91, 1.0)}
    assert kept[0.39] == [False, True, False, False]
    assert kept[0.41] == kept[0.69] == [False, True, False, True]
    assert kept[0.71] == [False, True, True, True]
    assert kept[0.91] == kept[1.0] == [True] * 4


def test_min_p_and_top_k_keep_what_they_say_whatever_came_before():
    p = torch.tensor([[0.1, 0.4, 0.2, 0.3]])
    assert (keep_min_p(p.log(), 0.6) > -torch.inf)[0].tolist() == [False, True, False, True]
    assert (keep_min_p(keep_top_k(p.log(), 1), 0.6) > -torch.inf)[0].tolist() == [False, True, False, False]
    assert torch.equal(keep_top_k(p.log(), 0), p.log()) and torch.equal(keep_top_k(p.log(), 9), p.log())


def test_a_repetition_penalty_never_makes_a_seen_token_likelier():
    logits = torch.tensor([[2.0, -2.0, 0.0, 1.0]])
    assert penalise_repetition(logits, [[0, 1, 1, 2]], 2.0).tolist() == [[1.0, -4.0, 0.0, 1.0]]
    assert logits.tolist() == [[2.0, -2.0, 0.0, 1.0]]
    penalised = generate(scaled(), [[5, 6]], 30, sampler=Sampler(repetition_penalty=1e6))[0]
    assert len(set(penalised)) == 30 and not {5, 6} & set(penalised)


@pytest.mark.parametrize(
    "settings",
    [{"min_p": -0.1}, {"min_p": 1.5}, {"repetition_penalty": 0}, {"temperature": math.inf}, {"top_p": math.nan}],
)
def test_impossible_settings_are_refused_in_one_line(settings):
    name = next(iter(settings))
    with pytest.raises(UserError, match=f"^{name} = [^\n]*$"):
        Sampler(**settings)
