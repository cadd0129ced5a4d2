"""The exit criteria of M7 that a machine measures: one function each, no arguments, one number or truth value out.

The thresholds stand in milestone.yaml. Logits are compared under scaled weights (matrices N(0, 0.2²), gains and biases
random), where a wrong variant shows; at the usual 0.02 a GPT-2 with the wrong GELU is off by 6e-5 and passes for right.
"""

import itertools
import math
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from scipy.stats import chisquare
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from llmm.errors import UserError
from llmm.foundations.optimizers import AdamW
from llmm.ladder.expect import expect_number, expect_shape, expect_type
from llmm.transformers.gpt.checkpoint import load_gpt, save_gpt
from llmm.transformers.gpt.config import GPTConfig
from llmm.transformers.gpt.decode import LeanStep
from llmm.transformers.gpt.decode_cost import cache_bytes, cached_flops, uncached_flops
from llmm.transformers.gpt.families import from_config_json, to_config_json
from llmm.transformers.gpt.generate import generate
from llmm.transformers.gpt.ladder_closed import pair, train_both
from llmm.transformers.gpt.lens import attention_patterns, logit_lens, residual_stream
from llmm.transformers.gpt.likelihood import bits_per_byte, perplexity, sequence_nats
from llmm.transformers.gpt.model import GPT
from llmm.transformers.gpt.own_engine import OwnGPT
from llmm.transformers.gpt.regular_language import automaton
from llmm.transformers.gpt.sampling import (
    Sampler,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    penalise_repetition,
)
from llmm.transformers.gpt.speculative import acceptance, expected_speedup, expected_tokens, residual, speculate
from llmm.transformers.gpt.token_mask import TokenAutomaton, TokenMask

QWEN3 = GPTConfig(vocab_size=61, n_layer=2, n_head=4, n_kv_head=2, d_model=32, d_ff=48, context_len=64)
LLAMA = replace(QWEN3, qk_norm=False, tie_embeddings=False, n_kv_head=4)
GPT2 = GPTConfig(
    vocab_size=61, n_layer=2, n_head=4, n_kv_head=4, d_model=32, d_ff=128, context_len=64, norm_eps=1e-5,
    positions="learned", norm="layer", feed_forward="gelu_tanh", bias=True, qk_norm=False,
)  # fmt: skip
FAMILIES = {"gpt2": GPT2, "llama": LLAMA, "qwen3": QWEN3}


# --- the model --------------------------------------------------------------------------------------------------------


def initial_loss_error() -> float:
    """Largest |loss - ln V| of fresh weights, over the three families."""
    errors = []
    for config in FAMILIES.values():
        model = GPT(config)
        model.init_weights(torch.Generator().manual_seed(0))
        ids = _ids(8, 33)
        loss = F.cross_entropy(_logits(model, ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        errors.append(abs(loss.item() - math.log(config.vocab_size)))
    return max(errors)


def overfit_loss() -> float:
    """The largest loss, over the three families, after 150 steps of AdamW on one batch of random tokens."""
    ids = _ids(4, 17)
    losses = []
    for config in FAMILIES.values():
        model = GPT(config)
        model.init_weights(torch.Generator().manual_seed(0))
        optimizer = AdamW(model.parameters(), lr=1e-2)
        for _ in range(150):
            loss = model.loss(model.hidden(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    return max(losses)


def leaks_from_the_future() -> int:
    """Logits before a changed token that are not the same to the last bit, plus models that did not see the change."""
    faults = 0
    ids = _ids(2, 24)
    changed = ids.clone()
    changed[:, 15] = (changed[:, 15] + 1) % QWEN3.vocab_size
    for config in FAMILIES.values():
        model = scaled(config)
        with torch.inference_mode():
            before, after = _logits(model, ids), _logits(model, changed)
        faults += int((before[:, :15] != after[:, :15]).sum())
        faults += int(torch.equal(before[:, 15:], after[:, 15:]))
    return faults


def packed_error() -> float:
    """Hidden states of two windows that hold several texts against each text alone, relative, float64; two families.

    Infinite where a window with an attention mask as well is not refused.
    """
    largest = 0.0
    lengths = ((9, 1, 14), (24,), (5, 7, 3, 9))
    ids = _ids(len(lengths), 24)
    documents = torch.stack([torch.arange(len(row)).repeat_interleave(torch.tensor(row)) for row in lengths])
    for config in (GPT2, QWEN3):
        model = scaled(config).double()
        with torch.inference_mode():
            together = model.hidden(ids, documents_BT=documents)
            alone = [torch.cat([model.hidden(text[None]) for text in row.split(list(sizes))], dim=1)
                     for row, sizes in zip(ids, lengths, strict=True)]  # fmt: skip
            largest = max(largest, _relative(together, torch.cat(alone)))
            try:
                model.hidden(ids, torch.ones_like(ids), documents)
            except ValueError:
                continue
        return math.inf
    return largest


def tied_gradient_error() -> float:
    """The gradient of a tied matrix against the sum of the two that it has when untied: largest difference."""
    ids = _ids(2, 20)
    tied, untied = scaled(QWEN3).double(), scaled(replace(QWEN3, tie_embeddings=False)).double()
    state = dict(tied.state_dict())
    untied.load_state_dict(state)
    grads = []
    for model in (tied, untied):
        F.cross_entropy(_logits(model, ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()).backward()
        grads.append({name: p.grad for name, p in model.named_parameters()})
    embedding, read_out = "model.embed_tokens.weight", "lm_head.weight"
    if read_out in grads[0]:
        return math.inf  # two matrices that only began equal
    return float((grads[0][embedding] - grads[1][embedding] - grads[1][read_out]).abs().max())


def matmul_parameters_error() -> int:
    """`n_matmul_params` and `flops_per_token` against matrices counted in the models, over the three families."""
    wrong = 0
    for c in FAMILIES.values():
        model = GPT(c)
        matrices = sum(p.numel() for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name)
        matrices += c.vocab_size * c.d_model * c.tie_embeddings  # then the embedding's matrix is the LM head's too
        wrong += matrices != c.n_matmul_params
        wrong += c.flops_per_token(10) != 6 * matrices + 6 * c.n_layer * c.n_head * c.d_head * 10
    return wrong


# --- against transformers ---------------------------------------------------------------------------------------------


def gpt2_error_float64() -> float:
    """Logits of a GPT-2 made by `transformers` and loaded here, in float64, over their root mean square."""
    return _load_error("gpt2", torch.float64)


def gpt2_error_float32() -> float:
    """The same in float32."""
    return _load_error("gpt2", torch.float32)


def llama_error() -> float:
    """Logits of a Llama made by `transformers` and loaded here, in float32, over their root mean square."""
    return _load_error("llama", torch.float32)


def qwen3_error() -> float:
    """Logits of a Qwen3 made by `transformers` and loaded here, in float32, over their root mean square."""
    return _load_error("qwen3", torch.float32)


def export_error() -> float:
    """Logits of our models opened by `transformers`; infinite where a tensor was missing, left over or changed."""
    import transformers

    errors = []
    for config in FAMILIES.values():
        ours = scaled(config)
        with tempfile.TemporaryDirectory() as folder:
            save_gpt(ours, Path(folder))
            theirs, report = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
            again = load_gpt(Path(folder))
        if any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")):
            return math.inf
        if any(not torch.equal(a, b) for a, b in zip(ours.parameters(), again.parameters(), strict=True)):
            return math.inf
        ids = _ids(2, 30)
        with torch.inference_mode():
            errors.append(_relative(theirs.eval()(ids).logits, _logits(ours, ids)))
    return max(errors)


def config_json_faults() -> int:
    """Sizes that do not survive config.json, and switches that change the computation and are let through."""
    faults = sum(_without_width(from_config_json(to_config_json(c))) != _without_width(c) for c in FAMILIES.values())
    spoilt: list[tuple[str, dict[str, Any]]] = [
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}), ("gpt2", {"activation_function": "relu"}),
        ("llama", {"attention_bias": True}), ("llama", {"hidden_act": "gelu"}),
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}),
        ("qwen3", {"use_sliding_window": True}), ("qwen3", {"model_type": "mamba"}),
    ]  # fmt: skip
    for name, change in spoilt:
        spoilt_json = to_config_json(FAMILIES[name]) | change
        faults += not _refused(partial(from_config_json, spoilt_json))
    wider = replace(QWEN3, head_dim=10, rope_theta=5e5, norm_eps=1e-4, context_len=99)
    return faults + (from_config_json(to_config_json(wider)) != wider)


# --- bad input --------------------------------------------------------------------------------------------------------


def bad_inputs_let_through() -> int:
    """How many impossible requests are not refused by a UserError of one line."""
    model, V = scaled(QWEN3), QWEN3.vocab_size
    requests: list[Callable[[], Any]] = [
        lambda: generate(model, [[]], 5),
        lambda: generate(model, [[1], [V]], 5),
        lambda: generate(model, [[-1]], 5),
        lambda: generate(model, [[1] * QWEN3.context_len], 5),
        lambda: logit_lens(model, []),
        lambda: speculate(model, model, [], 5),
        lambda: speculate(model, scaled(replace(QWEN3, vocab_size=60)), [1], 5),
        lambda: speculate(model, model, [1], 5, guesses=0),
        lambda: Sampler(temperature=-0.1),
        lambda: Sampler(temperature=math.nan),
        lambda: Sampler(1.0, top_k=-1),
        lambda: Sampler(1.0, top_p=0.0),
        lambda: Sampler(1.0, top_p=1.1),
        lambda: Sampler(1.0, min_p=-0.1),
        lambda: Sampler(1.0, repetition_penalty=0.0),
        lambda: GPTConfig(61, 2, 4, 3, 32, 48, 64),
        lambda: automaton("(a"),
        lambda: automaton("*a"),
        lambda: TokenAutomaton(automaton("b"), [b"a", None], end=1),
    ]
    through = sum(not _refused(request) for request in requests)
    spoil: list[Callable[[dict[str, Tensor]], Any]] = [
        lambda state: state.pop("model.norm.weight"),
        lambda state: state.update(extra=torch.zeros(1)),
        lambda state: state.update({"model.norm.weight": torch.zeros(3)}),
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for change in spoil:
            save_gpt(model, folder)
            state = load_file(folder / "model.safetensors")
            change(state)
            save_file(state, folder / "model.safetensors", {"format": "pt"})
            through += not _refused(partial(load_gpt, folder))
    return through


# --- the cache --------------------------------------------------------------------------------------------------------


def tokens_unlike_uncached() -> int:
    """Greedy tokens of a ragged batch with the cache that differ from one row at a time without it, all families."""
    prompts = [[5, 6, 7], [9, 8, 7, 6, 5, 4, 3, 2], [10]]
    wrong = 0
    for config in FAMILIES.values():
        model = scaled(config)
        for prompt, written in zip(prompts, generate(model, prompts, 20), strict=True):
            expect_type("what generate returns", written, list)
            wrong += sum(a != b for a, b in itertools.zip_longest(written, _uncached(model, prompt, 20)))
    return wrong


def cached_logits_error() -> float:
    """Logits read token by token with the cache against those of one pass, over their root mean square."""
    errors = []
    for config in FAMILIES.values():
        model, ids = scaled(config), _ids(2, 30)
        with torch.inference_mode():
            whole, cache = _logits(model, ids), model.new_cache(2, 30)
            parts = [model(ids[:, :11], cache=cache), model(ids[:, 11:14], cache=cache)]
            parts += [model(ids[:, t : t + 1], cache=cache) for t in range(14, 30)]
        errors.append(_relative(torch.cat(parts, 1), whole))
    return max(errors)


def lean_step_error() -> float:
    """Logits of the lean step, after left padding too, against the model's: float64, over their root mean square."""
    errors = []
    for config in (QWEN3, replace(LLAMA, n_kv_head=1), replace(QWEN3, head_dim=6, n_kv_head=4)):
        model, ids = scaled(config).double(), _ids(3, 16)
        for pads in (None, (4, 0, 1)):
            mask = None
            if pads:
                mask = torch.ones(3, 16, dtype=torch.long)
                for row, pad in enumerate(pads):
                    mask[row, :pad] = 0
            with torch.inference_mode():
                whole, cache = model(ids, mask), model.new_cache(3, 16)
                model(ids[:, :8], None if mask is None else mask[:, :8], cache)
                step = LeanStep(model, cache, mask)
                errors += [_relative(step(ids[:, t]), whole[:, t]) for t in range(8, 16)]
    return max(errors)


def flops_unlike_formula() -> int:
    """FLOPs that a counter sees in generation with and without the cache, minus those of the formulas: worst case."""
    worst = 0
    for config in (QWEN3, GPT2):
        model = scaled(config)
        counted = [_flops(partial(generate, model, [[1] * 9], 12)), _flops(partial(_uncached, model, [1] * 9, 12))]
        formulas = [cached_flops(config, 9, 12), uncached_flops(config, 9, 12)]
        worst = max(worst, *(abs(a - b) for a, b in zip(counted, formulas, strict=True)))
    return int(worst)


def cache_size_error() -> int:
    """Bytes of a cache that was made minus those of the formula."""
    model = scaled(QWEN3)
    layers = model.new_cache(3, 20).layers
    return abs(sum(x.nbytes for layer in layers for x in (layer.keys, layer.values)) - cache_bytes(QWEN3, 3, 20))


def growth_with_cache() -> float:
    """FLOPs of writing 128 tokens over those of writing 64, counted, with the cache: 2 is linear, 4 quadratic."""
    model = scaled(replace(QWEN3, d_model=128, d_ff=384, context_len=256))
    more, less = (_flops(partial(generate, model, [[1]], n)) for n in (128, 64))
    return more / less


def speed_over_transformers() -> float:
    """Batch 1, the default model's sizes with random weights: tokens a second of ours over `transformers.generate`."""
    return _speed_ratio(batch=1)


def speed_over_transformers_at_eight() -> float:
    """The same with eight rows."""
    return _speed_ratio(batch=8)


# --- sampling ---------------------------------------------------------------------------------------------------------


def rules_error() -> float:
    """Largest difference of a sampler's distribution from one worked out token by token from the definitions."""
    worst = 0.0
    settings = itertools.product((0.5, 1.0, 1.7), (0, 1, 5), (0.3, 0.85, 1.0), (0.0, 0.2), (1.0, 1.4))
    for (T, k, p, m, r), seed in zip(settings, itertools.count()):
        logits = 2 * torch.randn(2, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        history = [[3, 3, 7], [11]]
        ours = expect_shape("the distribution", Sampler(T, k, p, m, r).distribution(logits, history), (2, 12))
        for row in range(2):
            expected = _by_definition(logits[row].tolist(), history[row], T, k, p, m, r)
            worst = max(worst, float((ours[row] - torch.tensor(expected, dtype=torch.float64)).abs().max()))
    return worst


def rules_one_by_one_error() -> int:
    """Tokens that a single rule keeps and should not, or drops and should not."""
    logits = torch.tensor([[0.1, 0.4, 0.2, 0.3]]).log()

    def kept(result: Tensor) -> list[int]:
        return torch.nonzero(result[0] > -torch.inf)[:, 0].tolist()

    cases = [
        (kept(keep_top_k(logits, 2)), [1, 3]), (kept(keep_top_k(logits, 0)), [0, 1, 2, 3]),
        (kept(keep_top_k(logits, 9)), [0, 1, 2, 3]), (kept(keep_top_p(logits, 0.39)), [1]),
        (kept(keep_top_p(logits, 0.41)), [1, 3]), (kept(keep_top_p(logits, 1e-9)), [1]),
        (kept(keep_top_p(logits, 0.95)), [0, 1, 2, 3]), (kept(keep_min_p(logits, 0.6)), [1, 3]),
        (kept(keep_min_p(logits, 1.0)), [1]), (kept(keep_min_p(logits, 0.0)), [0, 1, 2, 3]),
    ]  # fmt: skip
    wrong = sum(found != expected for found, expected in cases)
    scores = torch.tensor([[2.0, -2.0, 0.0, 1.0]])
    return wrong + (penalise_repetition(scores, [[0, 1, 1]], 2.0).tolist() != [[1.0, -4.0, 0.0, 1.0]])


def draws_p_value() -> float:
    """Smallest p of χ² tests of 20,000 draws each against the distribution by definition; 0 where one is impossible."""
    smallest = 1.0
    for T, k, p, m in ((0.7, 0, 1.0, 0.0), (1.3, 5, 1.0, 0.0), (1.0, 0, 0.8, 0.0), (1.0, 0, 1.0, 0.1)):
        logits = 1.5 * torch.randn(1, 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        drawn = Sampler(T, k, p, m)(logits.expand(20_000, -1), torch.Generator().manual_seed(4))
        expect_shape("the tokens drawn", drawn, (20_000,))
        smallest = min(smallest, _p_value(drawn, _by_definition(logits[0].tolist(), [], T, k, p, m, 1.0)))
    return smallest


def penalised_repeats() -> int:
    """Tokens of greedy generation under a huge penalty that were in the prompt or written before."""
    text = [5, 6, *generate(scaled(QWEN3), [[5, 6]], 30, sampler=Sampler(repetition_penalty=1e6))[0]]
    return len(text) - len(set(text))


# --- grammar masks ----------------------------------------------------------------------------------------------------

PATTERNS = ["a(b|ca)*", "(ab?c?)+", "[ab]{2,3}c|", "(a|b)*abb", "a.c|b+", "[^a]b*(ac|ca)?", r"\w(,\w)*"]


def strings_told_wrong() -> int:
    """Strings of up to six letters that the automaton takes and Python's `re` does not, or the reverse."""
    wrong = 0
    for pattern in PATTERNS:
        language, oracle = automaton(pattern), re.compile(pattern.encode())
        for length in range(7):
            for letters in (
                itertools.product(b"abc,", repeat=length) if length < 6 else itertools.product(b"abc", repeat=6)
            ):
                text = bytes(letters)
                wrong += language.matches(text) != (oracle.fullmatch(text) is not None)
    return wrong


def tokens_masked_wrong() -> int:
    """Tokens that the mask allows where no text of the language continues so, or the reverse; after any prefix.

    With the second vocabulary there are beginnings that the language could end but no tokens can.
    """
    vocabularies: list[list[bytes | None]] = [
        [b"a", b"b", b"ab", b"ba", b"bb", b"aba", b"", None],
        [b"ab", b"b", b"bab", None],
    ]
    patterns = ("(ab)*", "a(ba|b)b", "(aa|b){1,3}", "b*ab", "ab(a|ba)|b")
    return sum(_masked_wrong(tokens, pattern) for tokens, pattern in itertools.product(vocabularies, patterns))


def _masked_wrong(tokens: list[bytes | None], pattern: str) -> int:
    V, end = len(tokens), len(tokens) - 1
    spellings = [spelling or b"" for spelling in tokens]
    table, oracle = TokenAutomaton(automaton(pattern), tokens, end), re.compile(pattern.encode())
    strings = (bytes(letters) for n in range(13) for letters in itertools.product(b"ab", repeat=n))
    texts = [text for text in strings if oracle.fullmatch(text)]

    @cache
    def spelt(text: bytes) -> bool:
        """Whether tokens can spell `text`."""
        return not text or any(s and text.startswith(s) and spelt(text[len(s) :]) for s in spellings)

    wrong, spelling_tokens = 0, [token for token, spelling in enumerate(spellings) if spelling]
    for path in itertools.chain.from_iterable(itertools.product(spelling_tokens, repeat=n) for n in range(3)):
        prefix = b"".join(spellings[token] for token in path)
        if not any(text.startswith(prefix) for text in texts):
            continue
        allowed = expect_shape("a mask", table.mask(torch.zeros(V), table.state(path)), (V,)) == 0
        for token, spelling in enumerate(spellings):
            so_far = prefix + spelling
            goes_on = any(text.startswith(so_far) and spelt(text[len(so_far) :]) for text in texts)
            wrong += bool(allowed[token]) != (prefix in texts if token == end else bool(spelling) and goes_on)
    return wrong


def texts_outside_the_language() -> int:
    """Of 60 texts written by a random model under the mask: unfinished, or not in the language."""
    tokens: list[bytes | None] = [*(bytes([b]) for b in b"0123456789+-(). "), b"12", b"+1", b"(3", None]
    model = scaled(replace(QWEN3, vocab_size=len(tokens)))
    pattern = r"-?\d{1,3}(\.\d{1,2})?( [+-] \d{1,2}){0,2}"
    table = TokenAutomaton(automaton(pattern), tokens, end=len(tokens) - 1)
    written = generate(
        model,
        [[i % 10] for i in range(60)],
        40,
        [table.end],
        Sampler(1.0),
        torch.Generator().manual_seed(0),
        TokenMask(table),
    )
    texts = [b"".join(tokens[t] or b"" for t in row[:-1]) for row in written if row[-1] == table.end]
    return 60 - sum(re.fullmatch(pattern.encode(), text) is not None for text in texts)


# --- speculative decoding ---------------------------------------------------------------------------------------------


def speculative_exact_error() -> float:
    """Probabilities of every text of three tokens by speculation, summed over all that can happen, minus the target's.

    Target and draft are tables of random conditional distributions over three tokens; two guesses a pass.
    """
    target, draft = _tables(0), _tables(1)
    worst = 0.0
    for text in itertools.product(range(3), repeat=3):
        expected = math.prod(float(target[text[:i]][token]) for i, token in enumerate(text))
        worst = max(worst, abs(_probability_by_speculation(text, target, draft) - expected))
    return worst


def speculated_p_value() -> float:
    """p of a χ² test: 3,000 pairs of tokens by `speculate` against the target's exact distribution; tiny models."""
    config = GPTConfig(vocab_size=4, n_layer=1, n_head=1, n_kv_head=1, d_model=8, d_ff=8, context_len=8)
    target, draft = scaled(config, seed=1).double(), scaled(config, seed=2).double()
    sampler, generator = Sampler(1.0), torch.Generator().manual_seed(0)
    with torch.inference_mode():
        first = sampler.distribution(target(torch.tensor([[0]]))[:, -1])[0]
        second = sampler.distribution(target(torch.tensor([[0, t] for t in range(4)]))[:, -1])
    expected = (first[:, None] * second).flatten().tolist()
    drawn = [speculate(target, draft, [0], 2, 3, (), sampler, generator).tokens for _ in range(3000)]
    return _p_value(torch.tensor([4 * a + b for a, b in drawn]), expected)


def speculated_unlike_greedy() -> int:
    """Tokens of greedy speculation that are not those of greedy decoding, for several numbers of guesses."""
    target, draft = scaled(QWEN3), scaled(replace(QWEN3, n_layer=1), seed=0)
    wrong = 0
    for prompt in ([1, 2, 3], [7]):
        plain = generate(target, [prompt], 24)[0]
        for guesses in (1, 3, 6):
            for helper in (draft, target):
                found = speculate(target, helper, prompt, 24, guesses).tokens
                wrong += sum(a != b for a, b in itertools.zip_longest(found, plain))
    return wrong


def target_passes_saved() -> int:
    """Passes of the target for 24 greedy tokens where it drafts for itself, 5 guesses a pass: 4 if all are kept."""
    model = scaled(QWEN3)
    return speculate(model, model, [1, 2, 3], 24, guesses=5).target_passes


def speedup_formula_error() -> float:
    """Expected tokens a pass and speed-up against a sum over every outcome: largest difference."""
    worst = 0.0
    for alpha, guesses in itertools.product((0.0, 0.3, 0.8, 1.0), (1, 4, 7)):
        by_outcome = sum((n + 1) * alpha**n * (1 - alpha) for n in range(guesses)) + (guesses + 1) * alpha**guesses
        worst = max(worst, abs(expect_number("expected tokens", expected_tokens(alpha, guesses)) - by_outcome))
        worst = max(worst, abs(expected_speedup(alpha, guesses, 0.25) - by_outcome / (1 + guesses / 4)))
    return worst


# --- the ladder, closed -----------------------------------------------------------------------------------------------

LADDER = GPTConfig(vocab_size=67, n_layer=2, n_head=4, n_kv_head=2, d_model=32, d_ff=48, context_len=32)


def ladder_difference() -> float:
    """Loss curves of 20 steps on M2's engine with M3's plain rules, and in torch: largest distance; tied and untied."""
    batches = np.random.default_rng(0).integers(LADDER.vocab_size, size=(20, 4, 17))
    return max(
        train_both(*pair(config, seed=0), batches).difference
        for config in (LADDER, replace(LADDER, tie_embeddings=False, qk_norm=False))
    )


def own_engine_error() -> float:
    """Loss and every gradient of the model on M2's engine against torch's, in float64: largest difference."""
    worst = 0.0
    for config in (LADDER, replace(LADDER, tie_embeddings=False, n_kv_head=1)):
        above = scaled(config).double()
        below = OwnGPT(config)
        below.load({name: p.detach().numpy() for name, p in above.named_parameters()})
        ids = _ids(2, 20)
        loss = below.loss(ids.numpy())
        loss.backward()
        theirs = F.cross_entropy(above(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        theirs.backward()
        worst = max(worst, abs(loss.item() - theirs.item()))
        for name, p in above.named_parameters():
            ours = below.named_parameters()[name].grad
            if ours is None or p.grad is None:
                return math.inf
            worst = max(worst, float(np.abs(ours.data - p.grad.numpy()).max()))
    return worst


# --- likelihood and lens ----------------------------------------------------------------------------------------------


def chain_rule_error() -> float:
    """|Σ p(text) - 1| over all texts of three tokens from a vocabulary of four, by `sequence_nats`."""
    config = GPTConfig(vocab_size=4, n_layer=1, n_head=1, n_kv_head=1, d_model=8, d_ff=8, context_len=8)
    model = scaled(config).double()
    texts = torch.tensor([[2, *text] for text in itertools.product(range(4), repeat=3)])
    nats = expect_shape("sequence_nats", sequence_nats(model, texts), (64,))
    return abs(float((-nats).exp().sum()) - 1)


def perplexity_error() -> float:
    """Perplexity and bits per byte of a uniform model against V and log₂ V · tokens / bytes: largest relative error."""
    config = GPTConfig(vocab_size=16, n_layer=1, n_head=1, n_kv_head=1, d_model=8, d_ff=8, context_len=32)
    model = GPT(config).double()
    torch.nn.init.zeros_(model.lm_head.weight)
    nats = float(sequence_nats(model, _ids(1, 21) % 16).sum())
    return max(abs(perplexity(nats, 20) / 16 - 1), abs(bits_per_byte(nats, 50) / (4 * 20 / 50) - 1))


def lens_error() -> float:
    """The lens's last row against the model's own answer, and its first against the embedding read out: difference."""
    worst = 0.0
    for config in (QWEN3, GPT2):
        model, ids = scaled(config), _ids(1, 20)[0].tolist()
        lens, stream_LTD = logit_lens(model, ids), residual_stream(model, ids)
        with torch.inference_mode():
            expect_shape("the residual stream", stream_LTD, (config.n_layer + 1, 20, config.d_model))
            p = _logits(model, torch.tensor([ids]))[0].softmax(-1)
            first = model.lm_head(model.model.norm(stream_LTD[0])).log_softmax(-1)
            divergence = (p * (p.log() - first)).sum(-1)
        worst = max(worst, float((lens.probability[-1] - p.amax(-1)).abs().max()))
        worst = max(worst, float((lens.nats[0] - divergence).abs().max()), float(lens.nats[-1].abs().max()))
        worst = max(worst, float((lens.token[-1] != p.argmax(-1)).sum()))
    return worst


@torch.inference_mode()
def attention_view_error() -> float:
    """Patterns times values against what enters the output projection of every layer: largest difference."""
    worst = 0.0
    for config in (QWEN3, GPT2):
        model, ids = scaled(config), _ids(1, 20)[0].tolist()
        run = partial(_logits, model, torch.tensor([ids]))
        patterns = expect_shape("patterns", attention_patterns(model, ids), (2, 4, 20, 20))
        for layer, block in enumerate(model.model.layers):
            attention = block.self_attn
            x, *_ = _inputs(attention, run)
            (mixed,) = _inputs(attention.o_proj, run)
            value = attention.v_proj(x).view(20, config.n_kv_head, config.d_head).transpose(0, 1)
            value = value.repeat_interleave(config.n_head // config.n_kv_head, 0)
            worst = max(worst, _relative((patterns[layer] @ value).transpose(0, 1).flatten(1), mixed[0]))
    return worst


# --- what the checks are made of --------------------------------------------------------------------------------------


def scaled(config: GPTConfig, seed: int = 0) -> GPT:
    """Random weights so large that a small mistake shows."""
    model = GPT(config)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        _scale(parameter, generator)
    return model.eval()


@torch.no_grad()
def _scale(parameter: Tensor, generator: torch.Generator) -> None:
    if parameter.ndim > 1:
        parameter.normal_(0, 0.2, generator=generator)
    else:
        parameter.uniform_(0.5, 1.5, generator=generator)


def _ids(B: int, T: int) -> Tensor:
    return torch.randint(QWEN3.vocab_size, (B, T), generator=torch.Generator().manual_seed(1))


def _logits(model: GPT, ids: Tensor) -> Tensor:
    return expect_shape("the logits", model(ids), (*ids.shape, model.config.vocab_size), Tensor)


def _relative(found: Tensor, expected: Tensor) -> float:
    """Largest difference over the root mean square of what was expected: logits of order 1 by definition."""
    expect_shape("the result", found, expected.shape)
    return float((found - expected).abs().max() / expected.square().mean().sqrt())


def _load_error(name: str, dtype: torch.dtype) -> float:
    import transformers

    made_of = transformers.AutoConfig.for_model(**to_config_json(FAMILIES[name]))
    theirs = transformers.AutoModelForCausalLM.from_config(made_of).to(torch.float32)
    generator = torch.Generator().manual_seed(0)
    for parameter in theirs.parameters():
        _scale(parameter, generator)
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ours = load_gpt(Path(folder))
    ids = _ids(3, 40)
    with torch.inference_mode():
        return _relative(_logits(ours.to(dtype), ids), theirs.eval().to(dtype)(ids).logits)


def _without_width(c: GPTConfig) -> GPTConfig:
    return replace(c, head_dim=None) if c.head_dim == c.d_model // c.n_head else c


def _refused(request: Callable[[], Any]) -> bool:
    try:
        request()
    except UserError as error:
        return "\n" not in str(error)
    except Exception:
        return False
    return False


@torch.inference_mode()
def _inputs(module: torch.nn.Module, run: Callable[[], Any]) -> tuple[Any, ...]:
    """What `module` was called with in `run`."""
    seen: list[tuple[Any, ...]] = []
    handle = module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    run()
    handle.remove()
    return seen[0]


def _uncached(model: GPT, prompt: list[int], new: int) -> list[int]:
    """Greedy tokens by reading the whole text again for each of them."""
    text = list(prompt)
    with torch.inference_mode():
        for _ in range(new):
            hidden = model.hidden(torch.tensor([text]))
            text.append(int(model.lm_head(hidden[:, -1]).argmax()))
    return text[len(prompt) :]


def _flops(run: Callable[[], Any]) -> int:
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):
        run()
    return counter.get_total_flops()


def _speed_ratio(batch: int) -> float:
    import transformers

    from llmm.transformers.gpt.bench_generate import in_turn

    config = GPTConfig(vocab_size=2048, n_layer=4, n_head=3, n_kv_head=3, d_model=192, d_ff=512, context_len=256)
    ours = scaled(config)
    theirs = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(**to_config_json(config)))
    theirs.load_state_dict(ours.state_dict())
    ids = torch.randint(2048, (batch, 16), generator=torch.Generator().manual_seed(0))

    def with_theirs() -> list[list[int]]:
        with torch.inference_mode():
            whole = theirs.eval().generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=64, eos_token_id=-1
            )
        return whole[:, 16:].tolist()

    def with_ours() -> list[list[int]]:
        return generate(ours, ids.tolist(), 64)

    if with_ours() != with_theirs():
        return 0.0
    ours_seconds, their_seconds = in_turn([with_ours, with_theirs], 9)
    return their_seconds / ours_seconds


def _by_definition(
    logits: list[float], history: list[int], T: float, k: int, p: float, m: float, r: float
) -> list[float]:
    """The distribution, one token at a time, in Python's floats."""
    z = [(x / r if x > 0 else x * r) if i in history else x for i, x in enumerate(logits)]
    q = _normalised([math.exp(x / T) for x in z])
    order = sorted(range(len(q)), key=lambda i: -q[i])
    kept = order[:k] if k else order
    q = _normalised([x if i in kept else 0.0 for i, x in enumerate(q)])
    nucleus, mass = [], 0.0
    for i in kept:
        if mass >= p:
            break
        nucleus.append(i)
        mass += q[i]
    best = q[order[0]]
    return _normalised([x if i in nucleus and x >= m * best else 0.0 for i, x in enumerate(q)])


def _normalised(weights: list[float]) -> list[float]:
    return [w / sum(weights) for w in weights]


def _p_value(drawn: Tensor, expected: list[float]) -> float:
    counts = torch.bincount(drawn, minlength=len(expected)).double().numpy()
    p = np.array(expected)
    if counts[p == 0].sum():
        return 0.0
    return float(chisquare(counts[p > 0], p[p > 0] / p.sum() * counts.sum()).pvalue)


Table = dict[tuple[int, ...], Tensor]


def _tables(seed: int) -> Table:
    """Random conditional distributions over three tokens after every text of up to four."""
    generator = torch.Generator().manual_seed(seed)
    texts = itertools.chain.from_iterable(itertools.product(range(3), repeat=n) for n in range(5))
    return {text: torch.randn(3, generator=generator, dtype=torch.float64).softmax(-1) for text in texts}


def _probability_by_speculation(wanted: tuple[int, ...], target: Table, draft: Table) -> float:
    """The probability that the text begins with `wanted`, by passes of two guesses each, over every outcome."""

    def from_here(text: tuple[int, ...]) -> float:
        if len(text) >= len(wanted):
            return 1.0
        return sum(
            p * from_here(text + new)
            for new, p in _pass_outcomes(text, target, draft)
            if (text + new)[: len(wanted)] == wanted[: len(text + new)]
        )

    return from_here(())


def _pass_outcomes(text: tuple[int, ...], target: Table, draft: Table) -> Iterator[tuple[tuple[int, ...], float]]:
    """(new tokens, probability) of every way that one pass of two guesses can end."""
    for guesses in itertools.product(range(3), repeat=2):
        drawn, kept = 1.0, 1.0
        for i, token in enumerate(guesses):
            q, p = draft[text + guesses[:i]], target[text + guesses[:i]]
            drawn *= float(q[token])
            keep = float(expect_shape("acceptance", acceptance(p, q), (3,))[token])
            # the guesses after this one are thrown away: their probabilities sum to 1, so count the first way only
            rest = math.prod(float(draft[text + guesses[:j]][guesses[j]]) for j in range(i + 1, 2))
            for instead, share in enumerate(expect_shape("residual", residual(p, q), (3,)).tolist()):
                yield (*guesses[:i], instead), drawn * rest * kept * (1 - keep) * share
            kept *= keep
        for last, share in enumerate(target[text + guesses].tolist()):
            yield (*guesses, last), drawn * kept * share
