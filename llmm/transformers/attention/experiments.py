"""What the derivations say, measured: sharpness, positions, memory, caches, and heads that learn to work together."""

import math
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from llmm.foundations.torch_internals.meters import StorageLedger, median_seconds
from llmm.ladder.records import Record, round_metrics, spread
from llmm.transformers.attention import plots
from llmm.transformers.attention.attention_only import AttentionOnly
from llmm.transformers.attention.cache_bytes import heads_worth, kv_bytes, latent_bytes, window_bytes
from llmm.transformers.attention.entropy import entropy, expected_entropy, slope
from llmm.transformers.attention.formula import attention, softmax
from llmm.transformers.attention.induction import accuracy, head_scores, repeated_sequences, train
from llmm.transformers.attention.kv_cache import KVCache
from llmm.transformers.attention.latent import LatentCache
from llmm.transformers.attention.patterns import Pattern
from llmm.transformers.attention.rope import rotate
from llmm.transformers.attention.rope_relative import decay_bound, kernel, rope_at, shift_errors
from llmm.transformers.attention.tiled import tiled_attention
from llmm.transformers.attention.window_cache import WindowCache

SEEDS = [0, 1, 2]


# --- sharpness --------------------------------------------------------------------------------------------------------

KEYS, QUERIES = 128, 256
WIDTHS = [4, 8, 16, 32, 64, 128, 256, 512, 1024]
SCALES: dict[str, Callable[[int], float]] = {
    "1/√d": lambda d: d**-0.5, "no scale": lambda d: 1.0, "1/d": lambda d: 1 / d,
}  # fmt: skip


def softmax_entropy(figures: Path) -> Record:
    """How sharp is attention at the start of training, with and without the root?"""
    rows: dict[str, dict[int, list[tuple[float, float]]]] = {name: {d: [] for d in WIDTHS} for name in SCALES}
    variance: dict[int, list[float]] = {d: [] for d in WIDTHS}
    for d in WIDTHS:
        for seed in SEEDS:
            generator = torch.Generator().manual_seed(seed)
            query, key = (torch.randn(n, d, generator=generator, dtype=torch.float64) for n in (QUERIES, KEYS))
            scores = query @ key.T
            variance[d].append(float(scores.var()) / d)
            for name, scale in SCALES.items():
                weights = softmax(scores * scale(d))
                rows[name][d].append((float(entropy(weights).mean()), float(slope(weights).mean())))

    entropies = {name: {d: [e for e, _ in found] for d, found in by_d.items()} for name, by_d in rows.items()}
    slopes = {name: {d: [s for _, s in found] for d, found in by_d.items()} for name, by_d in rows.items()}
    narrow, wide = WIDTHS[2], WIDTHS[-1]
    metrics = {
        "log_keys": math.log(KEYS),
        "freezing_width": 2 * math.log(KEYS),
        "variance_over_width": spread([statistics.fmean(variance[d][s] for d in WIDTHS) for s in range(len(SEEDS))]),
        "scaled_narrow": spread(entropies["1/√d"][narrow]),
        "scaled_wide": spread(entropies["1/√d"][wide]),
        "unscaled_narrow": spread(entropies["no scale"][narrow]),
        "unscaled_wide": spread(entropies["no scale"][wide]),
        "scaled_predicted": expected_entropy(1.0, KEYS),
        "scaled_slope_wide": spread(slopes["1/√d"][wide]),
        "unscaled_slope_wide": spread(slopes["no scale"][wide]),
        "one_over_d_wide": spread(entropies["1/d"][wide]),
        "predicted_at_8": expected_entropy(8**0.5, KEYS),
        "unscaled_at_8": spread(entropies["no scale"][8]),
    }
    figure = plots.softmax_entropy(entropies, metrics, figures / "softmax_entropy.svg")
    return Record(
        objective="How sharp is a softmax over the scores of random queries and keys, with and without 1/√d?",
        setup=f"{QUERIES} queries and {KEYS} keys with independent N(0, 1) channels, width d from {WIDTHS[0]} to "
        f"{WIDTHS[-1]}, float64; mean entropy of a query's weights in nats and 1 - Σp², the trace of the softmax's "
        f"Jacobian. sd over {len(SEEDS)} seeds.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {"changed": name}
                | {f"entropy at d = {d}": statistics.fmean(entropies[name][d]) for d in (narrow, wide)}
                | {f"slope at d = {d}": statistics.fmean(slopes[name][d]) for d in (narrow, wide)}
                for name in SCALES
            ]
        ),
        figure=figure,
        found="The variance of q·k is {variance_over_width[mean]:.3f} d. With the root the entropy is "
        "{scaled_wide[mean]:.2f} nats at any width, {scaled_predicted:.2f} predicted and {log_keys:.2f} the most there "
        "can be; without it {unscaled_narrow[mean]:.2f} at d = 16 and {unscaled_wide[mean]:.3f} at d = 1024, where "
        "{unscaled_slope_wide[mean]:.3f} of the slope is left.",
        negative="The formula for many keys falls too fast for 128 of them: at d = 8 it says {predicted_at_8:.2f} and "
        "{unscaled_at_8[mean]:.2f} is measured. 1/d is no cure: the weights become uniform, with "
        "{one_over_d_wide[mean]:.3f} nats.",
    )


# --- positions --------------------------------------------------------------------------------------------------------

REACH = 2048
WAYS: dict[str, tuple[torch.dtype, torch.dtype]] = {  # of the products, and of positions and angles
    "float64": (torch.float64, torch.float64),
    "float32": (torch.float32, torch.float32),
    "bfloat16, tables in float32": (torch.bfloat16, torch.float32),
    "bfloat16": (torch.bfloat16, torch.bfloat16),
}


def rope_shift(figures: Path) -> Record:
    """By how much does a score change when query and key move together, which should change nothing?"""
    d, theta, distance, pairs = 64, 10_000.0, 16, 64
    shifts = torch.arange(REACH)
    errors: dict[str, list[Tensor]] = {name: [] for name in WAYS}
    for seed in SEEDS:
        generator = torch.Generator().manual_seed(seed)
        query, key = (torch.randn(pairs, d, generator=generator, dtype=torch.float64) for _ in range(2))
        for name, (dtype, tables) in WAYS.items():
            error_NP = shift_errors(query, key, shifts, distance, theta, dtype, tables) / math.sqrt(d)
            errors[name].append(error_NP.amax(0))
    worst = {name: [float(error.max()) for error in found] for name, found in errors.items()}
    metrics = {
        "deviation_of_a_score": 1.0,
        "float64": spread(worst["float64"]),
        "float32": spread(worst["float32"]),
        "bfloat16": spread(worst["bfloat16"]),
        "bfloat16_tables_in_float32": spread(worst["bfloat16, tables in float32"]),
        "gain_of_tables_in_float32": statistics.fmean(worst["bfloat16"])
        / statistics.fmean(worst["bfloat16, tables in float32"]),
        "bfloat16_within_128": spread([float(error[:112].max()) for error in errors["bfloat16"]]),
    }
    figure = plots.rope_shift(errors, metrics, figures / "rope_shift.svg")
    return Record(
        objective="RoPE promises that a score depends on the distance alone. How much of that is left in each number "
        "format over two thousand positions?",
        setup=f"{pairs} pairs of queries and keys, d = {d}, N(0, 1) channels, {distance} tokens apart, moved together "
        f"by 0 to {REACH - 1} positions, theta 10,000; largest change of any score q·k / √d "
        f"against its value at shift 0. sd over {len(SEEDS)} seeds.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [{"changed": name, "largest change of a score": statistics.fmean(found)} for name, found in worst.items()]
        ),
        figure=figure,
        found="Moving a pair by up to 2,047 positions changes its score by {float64[mean]:.0e} in float64, "
        "{float32[mean]:.0e} in float32 and {bfloat16[mean]:.1f} in bfloat16, where a score's deviation is "
        "{deviation_of_a_score:.0f}: positions above 256 are no longer whole numbers there.",
        negative="Angles in float32 and products in bfloat16, {gain_of_tables_in_float32:.0f} times better, still "
        "leave {bfloat16_tables_in_float32[mean]:.3f}: queries, keys and products are rounded too. And short "
        "texts are no refuge: all in bfloat16, the first 128 positions are off by {bfloat16_within_128[mean]:.2f}.",
    )


def rope_decay(figures: Path) -> Record:
    """Does rotation make tokens that are far away count less?"""
    d, pairs = 64, 4000
    thetas = {"theta 100": 100.0, "theta 10,000": 10_000.0, "theta 1,000,000": 1_000_000.0}
    distances = torch.cat([torch.arange(64), torch.arange(64, REACH + 1, 8)])
    kernels = {name: kernel(distances, d, theta) for name, theta in thetas.items()}
    bound = decay_bound(distances, d, 10_000.0) / decay_bound(torch.zeros(1), d, 10_000.0)
    deviations = []
    for seed in SEEDS:
        generator = torch.Generator().manual_seed(seed)
        query, key = (torch.randn(pairs, d, generator=generator, dtype=torch.float64) for _ in range(2))
        deviations.append(_turned_scores(query, key, distances).std(0) / math.sqrt(d))
    near, far = 0, distances.tolist().index(REACH)
    at = {n: distances.tolist().index(n) for n in (1, 16, 256, REACH)}
    metrics = {
        "kernel": {f"at_{n}": float(kernels["theta 10,000"][i]) for n, i in at.items()},
        "kernel_theta_100": {f"at_{n}": float(kernels["theta 100"][i]) for n, i in at.items()},
        "kernel_theta_1000000": {f"at_{n}": float(kernels["theta 1,000,000"][i]) for n, i in at.items()},
        "bound_far": float(bound[far]),
        "random_far_over_near": spread([float(found[far] / found[near]) for found in deviations]),
        "rises_again": int((kernels["theta 10,000"].diff() > 0).sum()),
        "distances": len(distances),
    }
    figure = plots.rope_decay(distances, kernels, bound, deviations[0], metrics, figures / "rope_decay.svg")
    return Record(
        objective="How does a score fall with distance under RoPE, for a key like the query and for any key?",
        setup=f"d = {d}; distances 0 to {REACH}. Equal query and key of white noise: mean cosine over the frequencies. "
        f"Independent ones: deviation of q·k / √d over {pairs} pairs, {len(SEEDS)} seeds, theta 10,000. Bound: "
        "the paper's section 3.4.3, as a share of its value at 0.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {"changed": name} | {f"share left at {n}": float(found[i]) for n, i in at.items()}
                for name, found in kernels.items()
            ]
        ),
        figure=figure,
        found="A key equal to its query keeps {kernel[at_16]:.2f} of its score 16 tokens away, {kernel[at_256]:.2f} at "
        "256 and {kernel[at_2048]:.2f} at 2,048 with base 10,000; with base 1,000,000 "
        "{kernel_theta_1000000[at_2048]:.2f} are left.",
        negative="Nothing decays for a key that has nothing to do with the query: its score's deviation far away is "
        "{random_far_over_near[mean]:.3f} of that at distance 0. And the fall is not steady: the kernel rises at "
        "{rises_again} of {distances} steps.",
    )


def _turned_scores(query_Nd: Tensor, key_Nd: Tensor, distances_P: Tensor) -> Tensor:
    """(N, P): q · k with the query turned by each distance, theta 10,000."""
    scores = [
        (rotate(query_Nd, *rope_at(distance[None], query_Nd.shape[-1], 10_000.0)) * key_Nd).sum(-1)
        for distance in distances_P
    ]
    return torch.stack(scores, dim=1)


# --- memory -----------------------------------------------------------------------------------------------------------

LENGTHS = [256, 512, 1024, 2048, 4096]
HEAD = 64


def memory(figures: Path) -> Record:
    """How much memory does attention take, forward and backward, as the text gets longer?"""

    def by_formula(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        positions = torch.arange(query.shape[2])
        return attention(query, key, value, Pattern().bias(positions, positions, query.dtype))[0]

    def of_torch(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True)

    ways: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
        "by the formula": by_formula,
        "tiled": lambda q, k, v: tiled_attention(q, k, v, tile=64),
        "tiled, 256 a side": lambda q, k, v: tiled_attention(q, k, v, tile=256),
        "torch's kernel": of_torch,
    }
    peaks = {name: [_peak(run, T) for T in LENGTHS] for name, run in ways.items()}
    slopes = {name: float(np.polyfit(np.log(LENGTHS[-3:]), np.log(found[-3:]), 1)[0]) for name, found in peaks.items()}
    inputs = [3 * T * HEAD * 4 for T in LENGTHS]
    metrics = {
        "slope_formula": slopes["by the formula"],
        "slope_tiled": slopes["tiled"],
        "slope_tiled_256": slopes["tiled, 256 a side"],
        "slope_torch": slopes["torch's kernel"],
        "peak_formula": peaks["by the formula"],
        "peak_tiled": peaks["tiled"],
        "ratio_at_4096": peaks["by the formula"][-1] / peaks["tiled"][-1],
        "megabytes_formula": peaks["by the formula"][-1] / 1e6,
        "megabytes_tiled": peaks["tiled"][-1] / 1e6,
        "tiled_over_inputs": peaks["tiled"][-1] / inputs[-1],
    }
    seconds = {name: median_seconds(partial(_both_ways, run, 1024), repeats=5) for name, run in ways.items()}
    figure = plots.memory(LENGTHS, peaks, metrics, figures / "memory.svg")
    return Record(
        objective="How does the memory of attention, forward and backward, grow with the length of the text?",
        setup=f"One causal head, d = {HEAD}, float32, tiles of 64, T from {LENGTHS[0]} to {LENGTHS[-1]}; largest sum "
        "of bytes alive at once that forward and backward allocate (storages counted as operators make them), inputs "
        "not counted. Slopes in a log-log plot over the last three lengths. Nothing random but the inputs, which do "
        "not matter.",
        metrics=round_metrics(metrics),
        seeds=[],
        ablation=round_metrics(
            [
                {"changed": name, "slope": slopes[name], "peak MB at 4096": found[-1] / 1e6}
                for name, found in peaks.items()
            ]
        ),
        figure=figure,
        found="By the formula the peak grows with the power {slope_formula:.2f} of the length, tiled with "
        "{slope_tiled:.2f}; at 4,096 tokens it is {megabytes_formula:.0f} MB against {megabytes_tiled:.1f} MB, "
        "{ratio_at_4096:.0f} times less for the same numbers.",
        negative="Tiled is not free of memory either: it takes {tiled_over_inputs:.1f} times its three inputs, most of "
        "it gradients.",
        timings={f"{name}, 1024 tokens": value for name, value in seconds.items()},
    )


def _both_ways(run: Callable[[Tensor, Tensor, Tensor], Tensor], T: int) -> None:
    inputs = [torch.randn(1, 1, T, HEAD, requires_grad=True) for _ in range(3)]
    run(*inputs).sum().backward()


def _peak(run: Callable[[Tensor, Tensor, Tensor], Tensor], T: int) -> int:
    inputs = [torch.randn(1, 1, T, HEAD, requires_grad=True) for _ in range(3)]
    with StorageLedger() as ledger:
        output = run(*inputs)
        torch.autograd.grad(output, inputs, torch.ones_like(output))
    return ledger.peak


# --- caches -----------------------------------------------------------------------------------------------------------


def cache_sizes(figures: Path) -> Record:
    """What does the context of one user weigh, by the kind of attention?"""
    n_layer, n_head, d_head, tokens, window, latent, rope = 32, 32, 128, 32_768, 4096, 512, 64
    dtype = torch.bfloat16
    kinds = {
        "multi-head": (n_head, None),
        "grouped, 8 key heads": (8, None),
        "multi-query": (1, None),
        f"multi-head, window {window}": (n_head, window),
        f"grouped, window {window}": (8, window),
    }
    formula, allocated = {}, {}
    for name, (heads, seen) in kinds.items():
        if seen is None:
            formula[name] = kv_bytes(n_layer, 1, heads, d_head, tokens, dtype)
            cache = KVCache(n_layer, (1, heads, tokens, d_head), dtype, torch.device("meta"))
            allocated[name] = sum(_bytes(layer.keys, layer.values) for layer in cache.layers)
        else:
            formula[name] = window_bytes(n_layer, 1, heads, d_head, tokens, seen, dtype)
            rings = [WindowCache(*(_meta(1, heads, seen, d_head) for _ in "kv")) for _ in range(n_layer)]
            allocated[name] = sum(_bytes(ring.keys, ring.values) for ring in rings)
    formula["latent, 512 + 64"] = latent_bytes(n_layer, 1, latent, rope, tokens, dtype)
    latents = [LatentCache(_meta(1, tokens, latent), _meta(1, tokens, rope)) for _ in range(n_layer)]
    allocated["latent, 512 + 64"] = sum(_bytes(cache.latents, cache.rope_keys) for cache in latents)

    gib = {name: size / 2**30 for name, size in formula.items()}
    metrics = {
        "gib": {name.replace(", ", "_").replace(" ", "_"): size for name, size in gib.items()},
        "formula_minus_allocated": max(abs(formula[name] - allocated[name]) for name in formula),
        "latent_in_key_heads": heads_worth(latent, rope, d_head),
        "multi_head_gib": gib["multi-head"],
        "latent_gib": gib["latent, 512 + 64"],
        "latent_saves": formula["multi-head"] / formula["latent, 512 + 64"],
        "bytes_a_token_multi_head": formula["multi-head"] // tokens,
        "users_in_80_gib_multi_head": int(80 // gib["multi-head"]),
        "users_in_80_gib_latent": int(80 // gib["latent, 512 + 64"]),
    }
    figure = plots.cache_sizes(gib, metrics, figures / "cache_sizes.svg")
    return Record(
        objective="How many bytes does the cache of one conversation take, by formula and as allocated?",
        setup=f"{n_layer} layers, {n_head} heads of {d_head} channels, {tokens} tokens, batch 1, bfloat16; 8 key heads "
        f"when grouped, a latent of {latent} numbers with {rope} rotated channels, a window of {window} tokens. The "
        "project's cache classes allocated at full size on torch's meta device, which counts and takes no memory.",
        metrics=round_metrics(metrics),
        seeds=[],
        ablation=round_metrics(
            [
                {"changed": name, "GiB": gib[name], "bytes a token and layer": formula[name] / n_layer / tokens}
                for name in formula
            ]
        ),
        figure=figure,
        found="Multi-head attention keeps {multi_head_gib:.0f} GiB for 32,768 tokens, a latent cache "
        "{latent_gib:.2f} GiB: {latent_saves:.1f} times less, as much as {latent_in_key_heads:.2f} key heads. What the "
        "classes allocate differs from the formulas by {formula_minus_allocated} bytes.",
        negative="A window saves nothing before it is full, and multi-query attention is still smaller than the latent "
        "cache: what the latent buys is quality at that size, which no byte count shows.",
    )


def _meta(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.bfloat16, device="meta")


def _bytes(*tensors: Tensor) -> int:
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors)


# --- heads that work together -----------------------------------------------------------------------------------------

VOCABULARY, TEXT, PERIODS = 32, 48, range(8, 17)
STEPS, BATCH, RATE = 240, 16, 1.2e-2


def induction_heads(figures: Path) -> Record:
    """Can one layer of attention continue a repeated random sequence, or does it take two?"""
    cases = {
        "two layers": (2, PERIODS),
        "one layer": (1, PERIODS),
        "one layer, period always 12": (1, range(12, 13)),
    }
    curves: dict[str, list[list[tuple[int, float]]]] = {name: [] for name in cases}
    for seed in SEEDS:
        for name, (n_layer, periods) in cases.items():
            curves[name].append(_trained(n_layer, periods, seed)[1])
    final = {name: [curve[-1][1] for curve in found] for name, found in curves.items()}
    chance = statistics.fmean(1 / p for p in PERIODS)
    metrics = {
        "two_layers": spread(final["two layers"]),
        "one_layer": spread(final["one layer"]),
        "one_layer_fixed_period": spread(final["one layer, period always 12"]),
        "two_layers_worst_seed": min(final["two layers"]),
        "one_layer_best_seed": max(final["one layer"]),
        "guessing_in_the_period": chance,
        "steps_to_half": spread([float(_first_above(curve, 0.5)) for curve in curves["two layers"]]),
        "steps_to_0_95": spread([float(_first_above(curve, 0.95)) for curve in curves["two layers"]]),
    }
    figure = plots.induction_heads(curves, metrics, figures / "induction_heads.svg")
    return Record(
        objective="Does it take two layers of attention to continue a repeated random sequence?",
        setup=f"Attention-only models, D = 64, 4 heads, RoPE; {VOCABULARY} tokens, texts of {TEXT}, a random "
        f"permutation repeated with a period of {PERIODS[0]} to {PERIODS[-1]}, one for each text; loss on the tokens "
        f"that can be known; AdamW, rate {RATE}, {STEPS} steps of {BATCH} texts. Share of such tokens guessed right "
        f"in 200 fresh texts; sd over {len(SEEDS)} seeds.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {"changed": name, "accuracy": statistics.fmean(found), "worst": min(found), "best": max(found)}
                for name, found in final.items()
            ]
        ),
        figure=figure,
        found="Two layers continue {two_layers[mean]:.3f} of the tokens, one layer {one_layer[mean]:.3f}, where "
        "guessing among the tokens of the period gives {guessing_in_the_period:.3f}. Two layers learn it all of a "
        "sudden: from half to nearly all between steps {steps_to_half[mean]:.0f} and {steps_to_0_95[mean]:.0f}.",
        negative="With one period for all texts a single layer reaches {one_layer_fixed_period[mean]:.3f} by looking a "
        "fixed number of tokens back: the task without random periods would have shown nothing.",
    )


def head_patterns(figures: Path) -> Record:
    """Which heads carry it, and what is left when they are silenced?"""
    models = [_trained(2, PERIODS, seed)[0] for seed in SEEDS]
    rows = [_broken(model, seed) for seed, model in zip(SEEDS, models, strict=True)]
    found = {name: [row[name] for row in rows] for name in rows[0]}
    broken = [name for name in found if name.startswith(("intact", "without", "layer", "texts"))]
    metrics = {name.replace(",", "").replace("-", "_").replace(" ", "_"): spread(found[name]) for name in found} | {
        "carries": CARRIES,
        "ablated_best_seed": max(found["without previous-token heads"]),
        "hidden_1_best_seed": max(found["layer 1 may not look 1 back"]),
        "hidden_2_worst_seed": min(found["layer 1 may not look 2 back"]),
    }
    tokens, period = _fresh(range(12, 13), SEEDS[0], rows=1)
    with torch.no_grad():
        seen = models[0].look(tokens)[1]
    scores = [head_scores(weights, period)[layer] for layer, weights in enumerate(seen)]
    figure = plots.head_patterns(seen, scores, metrics, figures / "head_patterns.png")
    return Record(
        objective="Which heads of the two-layer model do what, and which of them does the continuation hang on?",
        setup="The two-layer models of `induction_heads`, trained again. Heads of layer 1 that pay at least "
        f"{CARRIES:.0%} of their attention to the previous token, heads of layer 2 that pay as much to the token after "
        "the last one like the present. Silenced: output set to 0. Hidden: attention so many tokens back forbidden in "
        f"all heads of layer 1. sd over {len(SEEDS)} seeds.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {"changed": name, "accuracy": statistics.fmean(found[name]), "sd": statistics.stdev(found[name])}
                for name in broken
            ]
        ),
        figure=figure,
        found="Without its {previous_token_heads[mean]:.0f} previous-token heads the model falls from "
        "{intact[mean]:.3f} to {without_previous_token_heads[mean]:.3f}. Forbidding layer 1 to look one token back is "
        "enough: {layer_1_may_not_look_1_back[mean]:.3f}, while two tokens back may be forbidden at no cost "
        "({layer_1_may_not_look_2_back[mean]:.3f}).",
        negative="No single head does it: without the strongest previous-token head, which pays "
        "{strongest_previous_token_head[mean]:.2f} of its attention there, {without_the_strongest_alone[mean]:.3f} are "
        "left.",
    )


CARRIES = 0.05  # twice an even share: from here on a head counts as a previous-token or an induction head


def _broken(model: AttentionOnly, seed: int) -> dict[str, float]:
    """Accuracy of a two-layer model, whole and broken in one place each, and how strong its heads are."""
    tokens, period = _fresh(PERIODS, seed)
    with torch.no_grad():
        seen = model.look(tokens)[1]
    previous, after_last = head_scores(seen[0], period)[0], head_scores(seen[1], period)[1]
    carriers, inductors = ((scores >= CARRIES).nonzero().flatten().tolist() for scores in (previous, after_last))

    def left(**broken: Any) -> float:
        return accuracy(model, tokens, period, **broken)

    return {
        "intact": left(),
        "without previous-token heads": left(without={(0, head) for head in carriers}),
        "without the strongest alone": left(without={(0, int(previous.argmax()))}),
        "without induction heads": left(without={(1, head) for head in inductors}),
        **{f"layer 1 may not look {n} back": left(hidden={0: n}) for n in (1, 2, 3)},
        **{
            f"texts of {2 * TEXT}, periods {periods[0]} to {periods[-1]}": accuracy(
                model, *_fresh(periods, seed, 2 * TEXT)
            )
            for periods in (PERIODS, range(17, 33))
        },
        "previous-token heads": float(len(carriers)),
        "induction heads": float(len(inductors)),
        "strongest previous-token head": float(previous.max()),
        "strongest induction head": float(after_last.max()),
    }


def _trained(n_layer: int, periods: range, seed: int) -> tuple[AttentionOnly, list[tuple[int, float]]]:
    """A trained model and its accuracy on fresh texts along the way: (step, accuracy)."""
    torch.manual_seed(seed)
    model = AttentionOnly(VOCABULARY, 64, n_layer, 4, rope_theta=10_000.0)
    tokens, period = _fresh(periods, seed)
    curve = [(0, accuracy(model, tokens, period))]
    for step, _ in train(model, STEPS, BATCH, TEXT, periods, RATE, seed):
        if step % 20 == 0:
            curve.append((step, accuracy(model, tokens, period)))
    return model, curve


def _fresh(periods: range, seed: int, T: int = TEXT, rows: int = 200) -> tuple[Tensor, Tensor]:
    """Texts that no training sees: tokens (rows, T) and their periods (rows,)."""
    return repeated_sequences(rows, T, VOCABULARY, periods, torch.Generator().manual_seed(10_000 + seed))


def _first_above(curve: list[tuple[int, float]], level: float) -> int:
    return next((step for step, reached in curve if reached >= level), STEPS)
