"""M7: what the derivations of the mini GPT's README promise, each formula by a test of its own."""

import itertools
import math
import re
from dataclasses import replace

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import chisquare

from llmm.errors import UserError
from llmm.foundations.neural_network.tensor import Tensor
from llmm.training.pretraining.folder import PretrainedModel
from llmm.transformers.gpt import GPT, GPTConfig, lens_view, load_gpt, save_gpt
from llmm.transformers.gpt.bench_generate import bench_generate
from llmm.transformers.gpt.decode import LeanStep, decode_step, lean
from llmm.transformers.gpt.decode_cost import cache_bytes, cached_flops, uncached_flops
from llmm.transformers.gpt.generate import generate
from llmm.transformers.gpt.ladder_closed import pair, train_both
from llmm.transformers.gpt.lens import Lens, attention_patterns, logit_lens
from llmm.transformers.gpt.likelihood import bits_per_byte, perplexity, sequence_nats, token_nats
from llmm.transformers.gpt.own_engine import OwnGPT
from llmm.transformers.gpt.own_engine import RMSNorm as OwnNorm
from llmm.transformers.gpt.regular_language import automaton
from llmm.transformers.gpt.sampling import Sampler, keep_min_p, keep_top_k, keep_top_p, penalise_repetition
from llmm.transformers.gpt.speculative import acceptance, expected_speedup, expected_tokens, residual, speculate
from llmm.transformers.gpt.token_mask import TokenAutomaton
from tests.tiny_agent import codec, gpt

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


# --- what a text costs (section 1) ------------------------------------------------------------------------------------


def test_conditionals_make_a_distribution_over_texts():
    model = scaled(replace(CONFIG, vocab_size=3)).double()
    texts = torch.tensor([[1, *text] for text in itertools.product(range(3), repeat=4)])
    nats = sequence_nats(model, texts)
    assert torch.allclose(nats, token_nats(model, texts).sum(1)) and nats.shape == (81,)
    assert float((-nats).exp().sum()) == pytest.approx(1, abs=1e-12)


def test_a_uniform_model_has_perplexity_v():
    assert perplexity(50 * math.log(97), 50) == pytest.approx(97)
    assert bits_per_byte(8 * math.log(256), 8) == pytest.approx(8)


def test_merging_tokens_changes_perplexity_and_not_bits_per_byte():
    a, b = 0.4, 0.25  # of the two tokens; of the merged one their product
    apart, merged = -math.log(a) - math.log(b), -math.log(a * b)
    assert bits_per_byte(apart, 7) == pytest.approx(bits_per_byte(merged, 7))
    assert perplexity(merged, 1) == pytest.approx(perplexity(apart, 2) ** 2)


@pytest.mark.parametrize("d_model", [32, 256])
def test_fresh_weights_cost_ln_v_and_a_little_that_grows_with_the_width(d_model):
    c = replace(CONFIG, vocab_size=2000, d_model=d_model, tie_embeddings=False)
    model = GPT(c)
    model.init_weights(torch.Generator().manual_seed(0))
    nats = float(token_nats(model, random_ids(64, 48, vocab_size=2000)).mean())
    assert nats == pytest.approx(math.log(2000) + 0.02**2 * d_model / 2, abs=0.02)


# --- weight tying (section 2) -----------------------------------------------------------------------------------------


def test_a_tied_matrix_receives_both_gradients():
    tied, untied = scaled().double(), scaled(replace(CONFIG, tie_embeddings=False)).double()
    untied.load_state_dict(tied.state_dict())
    ids = random_ids(2, 12) % 20
    for model in (tied, untied):
        model.loss(model.hidden(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()).backward()
    looked_up, read_out = untied.model.embed_tokens.weight.grad, untied.lm_head.weight.grad
    assert (tied.lm_head.weight.grad - looked_up - read_out).abs().max() <= 1e-14
    absent = sorted(set(range(CONFIG.vocab_size)) - set(ids[:, :-1].flatten().tolist()))
    assert looked_up[absent].abs().max() == 0 and (read_out[absent].abs().amax(1) > 0).all()


# --- the same model in two programs (section 3) -----------------------------------------------------------------------


@pytest.mark.parametrize("config", [CONFIG, GPT2, replace(CONFIG, qk_norm=False, tie_embeddings=False)])
def test_a_model_survives_the_way_there_and_back(config, tmp_path):
    ours = scaled(config)
    save_gpt(ours, tmp_path)
    again = load_gpt(tmp_path)
    assert replace(again.config, head_dim=None) == config
    for (name, a), (_, b) in zip(ours.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(a, b), name


def test_a_published_gpt2_without_prefix_and_with_its_masks_is_read(tmp_path):
    save_gpt(scaled(GPT2), tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    state = {name.removeprefix("transformer."): tensor for name, tensor in state.items()}
    state |= {f"h.{i}.attn.bias": torch.ones(1, 1, 48, 48) for i in range(2)}
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    ids = random_ids(1, 20)
    with torch.inference_mode():
        assert torch.equal(load_gpt(tmp_path)(ids), scaled(GPT2)(ids))


# --- what may be drawn (section 4) ------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{"top_p": 0.6}, {"top_k": 3}, {"min_p": 0.3}])
def test_cutting_costs_minus_log_of_the_mass_that_is_kept(settings):
    logits = torch.randn(1, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    q, cut = logits.softmax(-1)[0], Sampler(1.0, **settings).distribution(logits)[0]
    kept = cut > 0
    mass = q[kept].sum()
    assert float((cut[kept] * (cut[kept] / q[kept]).log()).sum()) == pytest.approx(-math.log(mass))
    assert float((cut - q).abs().sum() / 2) == pytest.approx(1 - float(mass))
    assert "top_p" not in settings or mass >= 0.6


# --- text in a grammar (section 5) ------------------------------------------------------------------------------------


@hypothesis.given(st.text("ab,c", max_size=9))
def test_the_automaton_is_that_of_re(text):
    for pattern in (r"(a|b)*,c?", r"(a,?){2,4}b*", r"[^a,]+(,[ab])*", r"a.*b|", r"((ab)*c)*"):
        assert automaton(pattern).matches(text.encode()) == bool(re.fullmatch(pattern, text)), pattern


def test_characters_of_several_bytes_are_spelt_out():
    language = automaton("(é|ü)+")
    assert language.matches("éüé".encode()) and not language.matches("é".encode()[:1])


def test_an_empty_language_starts_dead_and_can_be_spelt_by_no_vocabulary():
    nothing = automaton("a[]")
    assert nothing.start == 0 and not nothing.matches(b"")
    with pytest.raises(UserError, match="can be spelt"):
        TokenAutomaton(nothing, [b"a", None], 1)


@pytest.mark.parametrize(
    ("pattern", "message"), [("(a", "nothing closes"), ("a)", "too many"), ("+a", "nothing to repeat"),
                             ("a{2,1}", "expected {m}"), (r"\q", "means nothing"), ("[a", "ends too early")]
)  # fmt: skip
def test_patterns_that_cannot_be_read_are_refused_in_one_line(pattern, message):
    with pytest.raises(UserError, match=message):
        automaton(pattern)


def test_masked_draws_are_not_the_conditional_distribution_but_weigh_to_it():
    """Equation (5.2), by summing over every text of the language."""
    tokens = [b"a", b"b", b"ab", None]
    table = TokenAutomaton(automaton("(ab|b){1,2}"), tokens, end=3)
    model = scaled(replace(CONFIG, vocab_size=4)).double()
    drawn, model_p, weight = {}, {}, {}

    def follow(text: list[int], masked: float, p: float, Z: float) -> None:
        if text and text[-1] == 3:
            drawn[tuple(text)], model_p[tuple(text)], weight[tuple(text)] = masked, p, Z
            return
        with torch.inference_mode():
            logits = model(torch.tensor([[0, *text]]))[0, -1]
        q, restricted = logits.softmax(-1), table.mask(logits, table.state(text)).softmax(-1)
        mass = float(q[table.mask(logits, table.state(text)) > -torch.inf].sum())
        for token in torch.nonzero(restricted)[:, 0].tolist():
            follow([*text, token], masked * float(restricted[token]), p * float(q[token]), Z * mass)

    follow([], 1.0, 1.0, 1.0)
    assert len(drawn) == 12 and sum(drawn.values()) == pytest.approx(1)
    weighed = {text: drawn[text] * weight[text] for text in drawn}
    for text in drawn:
        assert weighed[text] == pytest.approx(model_p[text])
    conditional = {text: p / sum(model_p.values()) for text, p in model_p.items()}
    assert max(abs(conditional[text] - drawn[text]) for text in drawn) > 0.01


def test_masks_are_those_of_llguidance():
    import llguidance
    import llguidance.torch as theirs

    c = codec()
    spellings = spellings_of(c)
    pattern = r'\{"n":(-?[0-9]{1,3}|"[a-e ]*")\}'  # there \d is any digit of Unicode
    table = TokenAutomaton(automaton(pattern), spellings, c.end)
    grammar = llguidance.LLMatcher.grammar_from_regex(pattern)
    tokenizer = llguidance.LLTokenizer(c.tokenizer.to_str(), n_vocab=c.vocab_size, eos_token=c.end)
    bits, choices = theirs.allocate_token_bitmask(1, c.vocab_size), 0
    for seed in range(8):
        matcher, state, rng = llguidance.LLMatcher(tokenizer, grammar), table.start, np.random.default_rng(seed)
        for _ in range(25):
            theirs.fill_next_token_bitmask(matcher, bits, 0)
            expected = torch.zeros(1, c.vocab_size)
            theirs.apply_token_bitmask_inplace(expected, bits)
            allowed, theirs_allow = np.flatnonzero(table.allowed[state]), np.flatnonzero(expected[0] == 0)
            # where the grammar leaves one way to go on, llguidance also fixes how it is cut into tokens
            assert set(theirs_allow) == set(allowed) or (len(theirs_allow) == 1 and theirs_allow[0] in allowed)
            choices += len(theirs_allow) > 1
            token = int(rng.choice(allowed))
            if token == c.end:
                break
            matcher.consume_tokens([token])
            state = table.state([token], state)
    assert choices > 20


def spellings_of(c) -> list[bytes | None]:
    """The bytes of each token of a byte-level tokenizer, None for special ones."""
    shown = bytes_of_characters()
    vocabulary = {i: text for text, i in c.tokenizer.get_vocab().items()}
    return [
        None if i in c.special_ids else bytes(shown[character] for character in vocabulary[i])
        for i in range(c.vocab_size)
    ]


def bytes_of_characters() -> dict[str, int]:
    """GPT-2's printable character of every byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(others)}


# --- what a token costs (section 6) -----------------------------------------------------------------------------------


def test_costs_are_linear_with_the_cache_and_quadratic_without():
    wide = replace(CONFIG, d_model=512, d_ff=2048, context_len=2048)
    n = (100, 200)
    assert cached_flops(wide, 1, n[1]) / cached_flops(wide, 1, n[0]) == pytest.approx(2, abs=0.05)
    assert uncached_flops(wide, 1, n[1]) / uncached_flops(wide, 1, n[0]) == pytest.approx(4, abs=0.1)
    assert cache_bytes(wide, 1, 10) == 2 * 2 * 2 * 10 * 128 * 4


# --- guessing ahead (section 7) ---------------------------------------------------------------------------------------


def two_distributions(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple((3 * torch.randn(2, 9, generator=generator, dtype=torch.float64)).softmax(-1))


@pytest.mark.parametrize("seed", range(5))
def test_kept_and_redrawn_together_are_the_target(seed):
    p, q = two_distributions(seed)
    kept = q * acceptance(p, q)
    out = kept + (1 - kept.sum()) * residual(p, q)
    assert (out - p).abs().max() <= 1e-15
    assert (residual(p, p) - p).abs().max() == 0 and (acceptance(p, p) - 1).abs().max() == 0


@pytest.mark.parametrize("seed", range(5))
def test_acceptance_is_one_minus_total_variation(seed):
    p, q = two_distributions(seed)
    alpha = float((q * acceptance(p, q)).sum())
    assert alpha == pytest.approx(1 - float((p - q).abs().sum()) / 2, abs=1e-15)


def test_expected_tokens_are_a_geometric_series_cut_off():
    for alpha, K in ((0.0, 3), (0.5, 1), (0.9, 6)):
        assert expected_tokens(alpha, K) == pytest.approx((1 - alpha ** (K + 1)) / (1 - alpha))
    assert expected_tokens(1.0, 5) == 6 and expected_speedup(1.0, 5, 0.2) == pytest.approx(3)


def test_speculation_stops_at_a_stop_token_and_counts_what_it_did():
    model = scaled()
    free = generate(model, [[5, 6]], 20)[0]
    stop = free[7]
    found = speculate(model, scaled(seed=3), [5, 6], 20, 4, stop_ids=[stop])
    assert found.tokens == free[: free.index(stop) + 1]
    assert 0 <= found.kept <= found.tested and found.target_passes <= len(found.tokens)
    assert speculate(model, model, [1] * 47, 9).tokens == generate(model, [[1] * 47], 9)[0]


# --- the ladder, closed (section 8) -----------------------------------------------------------------------------------


def test_norm_gradient_is_that_of_the_formula():
    rng = np.random.default_rng(0)
    norm = OwnNorm(6, 1e-3)
    norm.weight.data = rng.uniform(0.5, 1.5, 6)
    x = Tensor(rng.standard_normal(6), requires_grad=True)
    seed = rng.standard_normal(6)
    norm(x).backward(seed)
    u = (np.mean(x.data**2) + 1e-3) ** -0.5
    gained = norm.weight.data * seed
    expected = u * gained - u**3 / 6 * x.data * (x.data @ gained)
    assert np.abs(x.grad.data - expected).max() <= 1e-15


@pytest.mark.parametrize("change", [{}, {"tie_embeddings": False, "n_kv_head": 1}])
def test_both_engines_walk_one_curve(change):
    config = replace(CONFIG, **change)
    batches = np.random.default_rng(0).integers(61, size=(1, 2, 13)).repeat(20, 0)
    curves = train_both(*pair(config, 0), batches)
    assert len(curves.own) == 20 and curves.difference <= 1e-10 and curves.weights <= 1e-9
    assert curves.own[0] - curves.own[-1] > 0.1


def test_weights_that_do_not_fit_the_own_engine_are_refused():
    below = OwnGPT(CONFIG)
    weights = {name: p.data for name, p in below.named_parameters().items()}
    with pytest.raises(UserError, match=r"model.norm.weight is in one of them only"):
        below.load({name: w for name, w in weights.items() if name != "model.norm.weight"})
    with pytest.raises(UserError, match=r"model.norm.weight is \(3,\), expected \(32,\)"):
        below.load(weights | {"model.norm.weight": np.ones(3)})
    with pytest.raises(UserError, match="Llama's and Qwen3's build"):
        OwnGPT(GPT2)


# --- looking inside (section 9) ---------------------------------------------------------------------------------------


def test_an_answer_is_settled_where_it_stops_changing():
    token = torch.tensor([[1, 2, 5], [3, 2, 4], [3, 2, 5], [3, 2, 4]])
    assert Lens(token, token, token).settled().tolist() == [1, 0, 3]


def test_patterns_are_causal_and_sum_to_one():
    patterns = attention_patterns(scaled(), random_ids(1, 10)[0].tolist())
    assert patterns.shape == (2, 4, 10, 10)
    assert patterns.triu(1).abs().max() == 0 and (patterns.sum(-1) - 1).abs().max() <= 1e-6


def test_looking_leaves_no_hook_behind():
    model = scaled()
    logit_lens(model, [1, 2]), attention_patterns(model, [1, 2])
    assert lean(model)


def test_a_view_of_a_text_shows_every_token_and_is_drawn(tmp_path, capsys):
    view = lens_view.look(PretrainedModel(gpt(0), codec().tokenizer, None), "the answer is 12")
    shown = view.as_json()
    assert len(shown["layers"]) == gpt(0).config.n_layer + 1
    assert "".join(shown["tokens"][1:]) == "the answer is 12"
    view.render()
    assert "embedding" in capsys.readouterr().out
    assert all(path.stat().st_size > 1000 for path in view.draw(tmp_path))
    with pytest.raises(UserError, match="at most 63 can be shown"):
        lens_view.look(PretrainedModel(gpt(0), codec().tokenizer, None), "the answer " * 60)


# --- the benchmark ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_benchmark_writes_the_same_tokens_with_both(tmp_path):
    save_gpt(scaled(), tmp_path)
    result = bench_generate(tmp_path, 8)
    assert result["same_tokens"] and set(result["batches"]) == {"batch 1", "batch 8"}
    with pytest.raises(UserError, match="do not fit"):
        bench_generate(tmp_path, 40)
