"""What norms, gates and experts do to a network, measured. One function an experiment; plots.py draws the figures."""

import math
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmm.ladder.records import Record, round_metrics, spread
from llmm.transformers.block import plots
from llmm.transformers.block.depth import Stack, last_layer_gradient, variances
from llmm.transformers.block.ensemble import Ensemble
from llmm.transformers.block.feed_forward import MLP
from llmm.transformers.block.gated import GatedFeedForward
from llmm.transformers.block.mixture import MixtureOfExperts, router_losses
from llmm.transformers.block.parameter_count import equal_width, feed_forward_parameters
from llmm.transformers.block.propagation import Norms, predicted_variance
from llmm.transformers.block.tiny_language import (
    HELD_OUT,
    Recipe,
    held_out_loss,
    next_byte_loss,
    text,
    tiny,
    train,
    windows,
    with_feed_forward,
    without_norms,
)
from llmm.transformers.gpt.model import GPT

SEEDS = [0, 1, 2]
GELU_SECOND_MOMENT = 1 / 3 + 1 / (2 * math.pi * math.sqrt(3))  # of gelu(z) for z ~ N(0, 1): README, equation (3.3)


# --- at initialisation ------------------------------------------------------------------------------------------------


def residual_variance(figures: Path) -> Record:
    """How does the residual stream grow with depth, by where the norms stand?"""
    depth = 24
    kinds: tuple[Norms, ...] = ("pre", "post", "sandwich", "none")
    measured = {
        norms: np.array([variances(stack, x) for stack, x in (_stack_and_input(norms, depth, s)[:2] for s in SEEDS)])
        for norms in kinds
    }
    mean = {norms: rows.mean(axis=0) for norms, rows in measured.items()}
    slope = {norms: np.polyfit(range(6, depth + 1), mean[norms][6:], 1)[0] for norms in ("pre", "sandwich")}
    late_factor = (measured["none"][:, -1] / measured["none"][:, depth // 2]) ** (2 / depth)
    metrics = {
        "depth": depth,
        "gelu_second_moment": GELU_SECOND_MOMENT,
        **{f"{norms}_at_{layer}": spread(measured[norms][:, layer]) for norms in kinds for layer in (1, 6, depth)},
        "pre_slope": slope["pre"],
        "pre_slope_lowest": GELU_SECOND_MOMENT,
        "pre_slope_highest": 1 + GELU_SECOND_MOMENT,
        "pre_first_increment": mean["pre"][1] - mean["pre"][0],
        "pre_last_increment": mean["pre"][-1] - mean["pre"][-2],
        "sandwich_slope": slope["sandwich"],
        "post_farthest_from_one": np.abs(measured["post"][:, 1:] - 1).max(),
        "none_factor_a_block_late": spread(late_factor),
        "none_factor_first_block": mean["none"][1] / mean["none"][0],
        "similarity_first": spread([_similarity("pre", 1, seed) for seed in SEEDS]),
        "similarity_last": spread([_similarity("pre", depth, seed) for seed in SEEDS]),
    }
    figure = plots.residual_variance(measured, metrics, figures / "residual_variance.svg")
    return Record(
        objective="How large does the residual stream become over 24 blocks, by where the norms stand?",
        setup=f"Stacks of {depth} blocks, D = 64, 4 heads, GELU of 4 D, matrices N(0, 1/fan-in), LayerNorm; random "
        f"embeddings of variance 1 for 4 × 32 random tokens of 256, float64; {len(SEEDS)} seeds. Mean square of the "
        "stream after each block; similarity is the mean cosine of two tokens of a sequence.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {"changed": f"norms: {norms}", **{f"after {layer}": mean[norms][layer] for layer in (1, 6, 12, 24)}}
                for norms in kinds
            ]
        ),
        figure=figure,
        found="After {depth} blocks the stream has variance {pre_at_24[mean]:.1f} with norms before the branches, "
        "{sandwich_at_24[mean]:.1f} with norms on both sides, 1 with norms after the sums, and {none_at_24[mean]:.0e} "
        "without norms, where a block ends up multiplying it by {none_factor_a_block_late[mean]:.2f}.",
        negative="With norms before, the growth is not the straight line of independent branches: a block adds "
        "{pre_first_increment:.2f} at first and {pre_last_increment:.2f} at the end, within the bounds "
        "{pre_slope_lowest:.2f} and {pre_slope_highest:.2f}. Tokens become alike (cosine {similarity_first[mean]:.2f}, "
        "then {similarity_last[mean]:.2f}), and an average of equal vectors does not shrink.",
    )


def gradient_by_depth(figures: Path) -> Record:
    """How large is the last layer's gradient at initialisation, by depth?"""
    depths, seeds = (6, 8, 12, 16, 24), list(range(8))
    kinds: tuple[Norms, ...] = ("pre", "post", "sandwich")
    found = {
        norms: np.array([[last_layer_gradient(*_stack_and_input(norms, d, s)) for d in depths] for s in seeds])
        for norms in kinds
    }
    metrics: dict[str, Any] = {"shallow": depths[0], "deep": depths[-1]}
    for norms, rows in found.items():
        metrics[f"{norms}_ratio"] = rows[:, 0].mean() / rows[:, -1].mean()
        metrics[f"{norms}_ratio_by_seed"] = spread(rows[:, 0] / rows[:, -1])
        metrics[f"{norms}_slope"] = np.polyfit(np.log(depths), np.log(rows.mean(axis=0)), 1)[0]
        metrics[f"{norms}_at_6"], metrics[f"{norms}_at_24"] = (spread(rows[:, i]) for i in (0, -1))
    lengths = np.array(
        [[variances(*_stack_and_input("pre", d, s)[:2])[-1] ** 0.5 for d in (depths[0], depths[-1])] for s in SEEDS]
    )
    metrics["pre_ratio_of_lengths"] = (lengths[:, 1] / lengths[:, 0]).mean()
    low, high = (
        math.sqrt(predicted_variance("pre", 24, 1.0, b) / predicted_variance("pre", 6, 1.0, b))
        for b in (GELU_SECOND_MOMENT, 1 + GELU_SECOND_MOMENT)
    )
    metrics |= {"pre_predicted_lowest": low, "pre_predicted_highest": high}
    figure = plots.gradient_by_depth(depths, found, metrics, figures / "gradient_by_depth.svg")
    return Record(
        objective="Does the gradient of the last layer at initialisation shrink with depth, as the theorem on pre-norm "
        "says, and stay with post-norm?",
        setup="Stacks as in `residual_variance` with 6 to 24 blocks, cross-entropy over 256 classes by a classifier "
        f"N(0, 0.02²) and random targets, 4 × 32 tokens, float64; {len(seeds)} seeds; Frobenius norm of the gradient "
        "in the second matrix of the last feed-forward. Ratios are of means over the seeds.",
        metrics=round_metrics(metrics),
        seeds=seeds,
        ablation=round_metrics(
            [
                {"changed": f"norms: {norms}", **{f"L = {d}": found[norms][:, i].mean() for i, d in enumerate(depths)}}
                | {"ratio 6 to 24": metrics[f"{norms}_ratio"]}
                for norms in kinds
            ]
        ),
        figure=figure,
        found="From {shallow} to {deep} blocks the gradient falls by a factor of {pre_ratio:.2f} with norms before "
        "(slope {pre_slope:.2f} in log-log) and of {post_ratio:.2f} with norms after (slope {post_slope:.2f}); the "
        "length of the stream grows by {pre_ratio_of_lengths:.2f}. At 24 blocks post-norm's gradient is larger: "
        "{post_at_24[mean]:.3f} against {pre_at_24[mean]:.3f}.",
        negative="One seed says little: the ratio scatters by {post_ratio_by_seed[sd]:.2f} with norms after and by "
        "{pre_ratio_by_seed[sd]:.2f} with norms before.",
    )


def _stack_and_input(norms: Norms, depth: int, seed: int) -> tuple[Stack, Tensor, Tensor, Tensor]:
    """A stack, embedded random tokens (4, 32, 64), a classifier (256, 64) and targets (4, 32), drawn from `seed`."""
    generator = torch.Generator().manual_seed(seed)
    embedding_VD = torch.randn(256, 64, generator=generator).double()
    readout_VD = 0.02 * torch.randn(256, 64, generator=generator).double()
    ids_BT, target_BT = (torch.randint(256, (4, 32), generator=generator) for _ in range(2))
    stack = Stack(norms, depth, d_model=64, n_head=4, generator=generator).double()
    return stack, embedding_VD[ids_BT], readout_VD, target_BT


def _similarity(norms: Norms, depth: int, seed: int) -> float:
    """Mean cosine of two different tokens of a sequence after `depth` blocks."""
    stack, x_BTD, _, _ = _stack_and_input(norms, depth, seed)
    with torch.no_grad():
        *_, last = stack.stream(x_BTD)
    unit = last / last.norm(dim=-1, keepdim=True)
    T = unit.shape[1]
    return float(((unit @ unit.mT).sum((1, 2)) - T).mean() / (T * (T - 1)))


# --- in training ------------------------------------------------------------------------------------------------------


# norms, feed-forward, blocks; SwiGLU at two thirds of the width
DEEP = [
    ("none", "swiglu", 6),
    ("none", "swiglu", 12),
    ("none", "swiglu", 24),
    ("none", "gelu", 24),
    ("pre", "swiglu", 24),
]


def no_norm(figures: Path) -> Record:
    """What happens to a deep network without norms when it is trained at a usual rate?"""
    rates, steps = (1e-3, 3e-3), 20
    runs = list(product(rates, SEEDS))
    curves: dict[str, Any] = {}
    for norms, kind, depth in DEEP:
        width = equal_width(32, 128) if kind == "swiglu" else 128
        models = [tiny(depth, 32, 32, norm="layer", feed_forward=kind, d_ff=width) for _ in runs]
        ensemble = Ensemble([without_norms(m) if norms == "none" else m for m in models], [seed for _, seed in runs])
        curves[f"{norms}_{kind}_{depth}"] = ensemble.train([Recipe(rate, steps, batch=4) for rate, _ in runs]).numpy()
    metrics: dict[str, Any] = {"steps": steps, "runs": len(runs)}
    ablation = []
    for (norms, kind, depth), (name, losses) in zip(DEEP, curves.items(), strict=True):
        broken = ~np.isfinite(losses).all(axis=1)
        found: dict[str, Any] = {
            "not_finite": int(broken.sum()),
            "not_finite_at_step_1": int((~np.isfinite(losses[:, 0])).sum()),
        }
        if not broken.any():
            found |= {
                "first_loss": spread(losses[: len(SEEDS), 0]),  # the rate has not acted yet
                "last_loss": spread(losses[:, -1]),
                "largest_loss": float(losses.max()),
            }
        metrics[name] = found
        ablation.append(
            {"changed": f"norms {plots.WHERE[norms]}, {plots.NAMES[kind]}, {depth} blocks"}
            | {"not finite": f"{broken.sum()} of {len(runs)}"}
            | {
                key.replace("_", " "): found[key]["mean"] if key in found else None
                for key in ("first_loss", "last_loss")
            }
            | {"largest loss": found.get("largest_loss")}
        )
    figure = plots.no_norm(curves, metrics, figures / "no_norm.svg")
    return Record(
        objective="Does a network of 24 blocks without norms survive training at a usual rate?",
        setup="Byte-level language models, D = 32, 4 heads, SwiGLU or GELU of equal size, no norm at all or pre-norm, "
        f"matrices N(0, 1/fan-in), embeddings N(0, 0.02²); Adam without warm-up at {rates[0]:g} and {rates[1]:g}, "
        f"{steps} steps of 4 × 32 bytes of Python's library; {len(SEEDS)} seeds; float32.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(ablation),
        figure=figure,
        found="Without norms, 24 blocks of SwiGLU give NaN in {none_swiglu_24[not_finite]} of {runs} runs, and at "
        "the very first step: a product of two projections squares whatever is above one. Twelve blocks hold on, with "
        "losses of up to {none_swiglu_12[largest_loss]:.0e} nats, six train, and 24 with norms end at "
        "{pre_swiglu_24[last_loss][mean]:.2f} nats after {steps} steps.",
        negative="GELU, which is linear at most, does not overflow: {none_gelu_24[not_finite]} of {runs} runs. But its "
        "24 blocks start at {none_gelu_24[first_loss][mean]:.0f} nats and are at {none_gelu_24[last_loss][mean]:.0f} "
        "after {steps} steps.",
    )


GRID_RATES = (1e-3, 3e-3, 1e-2, 3e-2)
ARMS: dict[str, dict[str, Any]] = {
    "pre": {"norm_placement": "pre", "norm": "rms"},
    "pre, LayerNorm": {"norm_placement": "pre", "norm": "layer"},
    "pre, QK-norm": {"norm_placement": "pre", "norm": "rms", "qk_norm": True},
    "sandwich": {"norm_placement": "sandwich", "norm": "rms"},
    "post": {"norm_placement": "post", "norm": "rms"},
}


def norm_grid(figures: Path) -> Record:
    """Which norms need a warm-up, and how large a learning rate does each bear?"""
    steps, warmups = 120, (0, 24)
    runs = list(product(warmups, GRID_RATES, SEEDS))
    held_out: dict[str, Any] = {}
    for arm, choices in ARMS.items():
        ensemble = Ensemble([tiny(6, 32, 16, **choices) for _ in runs], [seed for _, _, seed in runs])
        ensemble.train([Recipe(rate, steps, warmup, batch=8, seq_len=16) for warmup, rate, _ in runs])
        losses = ensemble.held_out(16).nan_to_num(99.0).view(len(warmups), len(GRID_RATES), len(SEEDS))
        held_out[arm] = losses.double().numpy()
    metrics: dict[str, Any] = {"steps": steps, "rates": list(GRID_RATES), "blind": _unigram_entropy()}
    ablation = []
    for arm, losses in held_out.items():
        for warmup, by_rate in zip(warmups, losses, strict=True):
            metrics[f"{_key(arm)}_warmup_{warmup}"] = _at_each_rate(by_rate) | _best_rate(by_rate)
            means = {f"{rate:g}": row.mean() for rate, row in zip(GRID_RATES, by_rate, strict=True)}
            ablation.append({"changed": f"{arm}, warm-up of {warmup} steps"} | means)
        metrics[f"{_key(arm)}_warmup_gain"] = _at_each_rate(losses[0] - losses[1])
    metrics["post_minus_pre"] = _at_each_rate(held_out["post"][1] - held_out["pre"][1])
    figure = plots.norm_grid(held_out, GRID_RATES, metrics, figures / "norm_grid.svg")
    return Record(
        objective="Which placement of norms needs a warm-up of the learning rate, and how large a rate does each bear?",
        setup=f"Byte-level language models of 6 blocks, D = 32, 4 heads, GELU, RoPE, matrices N(0, 1/fan-in); "
        f"Adam, {steps} steps of 8 × 16 bytes of Python's library, rate falling by a cosine to a tenth, with and "
        f"without a linear warm-up of {warmups[1]} steps; held-out loss in nats a byte at the end; {len(SEEDS)} seeds.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(ablation),
        figure=figure,
        found="Placement decides which rates a model bears. With norms after the sums it learns at {rates[1]:g} and, "
        "at {rates[2]:g} and {rates[3]:g}, stays at the {post_warmup_24[at_0_03][mean]:.2f} nats of bare byte "
        "frequencies ({blind:.2f} would be their entropy); all others learn at every rate from {rates[1]:g} on, to "
        "{pre_warmup_24[best][mean]:.2f} (pre) and {sandwich_warmup_24[best][mean]:.2f} (sandwich).",
        negative="A warm-up of a fifth of the steps rescues nothing: at {rates[2]:g} post-norm gains "
        "{post_warmup_gain[at_0_01][mean]:.3f} nats by it, at {rates[1]:g} pre-norm "
        "{pre_warmup_gain[at_0_003][mean]:.3f}. LayerNorm for RMSNorm, and QK-norm, change less than seeds do.",
    )


def _at_each_rate(losses: Any) -> dict[str, Any]:
    """{"at_0_01": summary over the seeds, ...} of losses (rates, seeds)."""
    return {f"at_{_key(f'{rate:g}')}": spread(row) for rate, row in zip(GRID_RATES, losses, strict=True)}


def _best_rate(losses: Any) -> dict[str, Any]:
    """The rate with the lowest mean of losses (rates, seeds), and its losses."""
    best = int(losses.mean(axis=1).argmin())
    return {"best": spread(losses[best]), "best_rate": GRID_RATES[best]}


def _key(label: str) -> str:
    """A label as part of a metric's name: "pre, QK-norm" -> "pre_qk_norm", "0.01" -> "0_01"."""
    return label.replace(", ", "_").replace("-", "_").replace(".", "_").lower()


def gated(figures: Path) -> Record:
    """At equal parameters, are gates worth the narrower hidden layer?"""
    seeds, rates, steps, D, d_ff = list(range(5)), (5e-3, 1e-2, 2e-2), 200, 32, 96
    expected = 0.02  # nats a byte: the prediction in the journal
    narrow = equal_width(D, d_ff)
    kinds = {
        "gelu": partial(MLP, D, d_ff, "gelu"),
        "relu2": partial(MLP, D, d_ff, "relu2"),
        "geglu": partial(GatedFeedForward, D, narrow, "geglu"),
        "swiglu": partial(GatedFeedForward, D, narrow, "swiglu"),
    }
    runs = list(product(rates, seeds))
    held_out, best_rate = {}, {}
    for kind, make in kinds.items():
        ensemble = Ensemble([with_feed_forward(tiny(2, D, 16), make) for _ in runs], [seed for _, seed in runs])
        ensemble.train([Recipe(rate, steps, warmup=20, batch=8, seq_len=16) for rate, _ in runs])
        losses = ensemble.held_out(16).double().view(len(rates), len(seeds)).numpy()
        best = int(losses.mean(axis=1).argmin())
        held_out[kind], best_rate[kind] = losses[best], rates[best]
    differences = {kind: held_out[kind] - held_out["gelu"] for kind in kinds if kind != "gelu"}
    metrics: dict[str, Any] = {
        "expected_gain": expected,
        "seeds_needed": math.ceil((1.96 * differences["swiglu"].std(ddof=1) / expected) ** 2),
        "width_plain": d_ff,
        "width_gated": narrow,
        "parameters_plain": feed_forward_parameters(D, d_ff, gated=False, bias=False),
        "parameters_gated": feed_forward_parameters(D, narrow, gated=True, bias=False),
        **{f"{kind}_loss": spread(losses) for kind, losses in held_out.items()},
        **{f"{kind}_best_rate": rate for kind, rate in best_rate.items()},
        **{f"{kind}_minus_gelu": _interval(values) for kind, values in differences.items()},
    }
    figure = plots.gated(differences, metrics, figures / "gated.svg")
    return Record(
        objective="Does a gated feed-forward beat an ungated one of the same number of parameters?",
        setup=f"Byte-level language models of 2 blocks, D = {D}, pre-norm; feed-forward of width {d_ff}, gated "
        f"{narrow}; Adam, {steps} steps of 8 × 16 bytes, warm-up of 20, each kind at the best of the rates "
        f"{', '.join(f'{rate:g}' for rate in rates)}; held-out loss in nats a byte; {len(seeds)} seeds, each "
        "seed the same text for all kinds. Intervals are 95%, Student's t over the differences from GELU.",
        metrics=round_metrics(metrics),
        seeds=seeds,
        ablation=round_metrics(
            [
                {"changed": plots.NAMES[kind], "held-out loss": losses.mean(), "sd": losses.std(ddof=1)}
                for kind, losses in held_out.items()
            ]
        ),
        figure=figure,
        found="With {parameters_plain} parameters a layer, widths {width_plain} and {width_gated}, the held-out loss "
        "is {gelu_loss[mean]:.3f} nats a byte with GELU; SwiGLU is {swiglu_minus_gelu[mean]:+.3f} from it "
        "(95%: {swiglu_minus_gelu[low]:+.3f} to {swiglu_minus_gelu[high]:+.3f}), GEGLU {geglu_minus_gelu[mean]:+.3f}, "
        "squared ReLU {relu2_minus_gelu[mean]:+.3f}.",
        negative="No difference can be told: the intervals reach to both sides of zero. With a scatter between seeds "
        "of {swiglu_minus_gelu[sd]:.3f} nats a gain of the expected {expected_gain:g} would need {seeds_needed} seeds.",
    )


def expert_load(figures: Path) -> Record:
    """Do experts share the work by themselves, and what does making them share cost?"""
    n_expert, steps, D, d_ff, factor = 8, 120, 32, 64, 1.25
    weights = {"none": 0.0, "weak": 0.01, "strong": 0.1}
    loads: dict[str, Any] = {name: [] for name in weights}
    held_out: dict[str, list[float]] = {name: [] for name in weights}
    dropped: dict[str, list[float]] = {name: [] for name in weights}
    for name, seed in product(weights, SEEDS):
        model = _sparse(n_expert, D, d_ff)
        history: list[list[list[float]]] = []
        penalty = partial(_weighted_balance, weights[name])
        train(model, Recipe(1e-2, steps, 10, batch=8), seed, penalty, partial(_note_loads, model, history))
        loads[name].append(history)
        held_out[name].append(held_out_loss(model, 32))
        dropped[name].append(_dropped(model, factor))
    share = {name: np.array(rows) for name, rows in loads.items()}  # (seeds, steps, layers, experts)
    metrics: dict[str, Any] = {"experts": n_expert, "capacity_factor": factor, "fair": 1 / n_expert, "weights": weights}
    for name, rows in share.items():
        settled = rows[:, -20:].mean(axis=1)  # of the last 20 steps
        metrics[name] = {
            "largest_share": spread(settled.max(-1).mean(-1)),
            "smallest_share": spread(settled.min(-1).mean(-1)),
            "idle_experts": spread((settled < 0.01).sum(-1).mean(-1)),
            "dropped": spread(dropped[name]),
            "held_out_loss": spread(held_out[name]),
        }
    figure = plots.expert_load(share, metrics, figures / "expert_load.svg")
    return Record(
        objective="How evenly are eight experts used, with and without a balancing loss, and what does balance cost?",
        setup=f"Byte-level language models of 2 blocks, D = {D}, {n_expert} SwiGLU experts of width {d_ff} and one "
        f"choice a token, dropless; Adam at 0.01, {steps} steps of 8 × 32 bytes; balancing loss with weight 0, "
        "0.01 or 0.1; shares over the last 20 steps; dropped: choices of held-out text that would find no room at "
        f"capacity factor {factor:g}; {len(SEEDS)} seeds.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {"changed": "no balancing loss" if name == "none" else f"balancing loss, weight {weights[name]:g}"}
                | {key: value["mean"] for key, value in metrics[name].items()}
                for name in weights
            ]
        ),
        figure=figure,
        found="Without the loss the busiest of {experts} experts takes {none[largest_share][mean]:.0%} of the tokens "
        "and {none[idle_experts][mean]:.1f} are idle; at weight {weights[weak]:g} it takes "
        "{weak[largest_share][mean]:.0%}, at {weights[strong]:g} {strong[largest_share][mean]:.0%}. At capacity factor "
        "{capacity_factor:g} the three would drop "
        "{none[dropped][mean]:.0%}, {weak[dropped][mean]:.0%} and {strong[dropped][mean]:.0%} of the choices.",
        negative="Balance buys no loss here: {none[held_out_loss][mean]:.3f}, {weak[held_out_loss][mean]:.3f} and "
        "{strong[held_out_loss][mean]:.3f} nats, with a standard deviation of {none[held_out_loss][sd]:.3f}. What it "
        "buys is that a fixed capacity drops little.",
    )


def _sparse(n_expert: int, D: int, d_ff: int) -> GPT:
    expert = partial(GatedFeedForward, D, d_ff, "swiglu")
    return with_feed_forward(tiny(2, D, 32), partial(MixtureOfExperts, D, n_expert, 1, expert))


def _weighted_balance(weight: float, model: GPT) -> Tensor:
    return weight * router_losses(model)[0]


def _mixtures(model: GPT) -> list[MixtureOfExperts]:
    return [module for module in model.modules() if isinstance(module, MixtureOfExperts)]


def _note_loads(model: GPT, history: list[list[list[float]]], step: int) -> None:
    """Append to `history` the share of the last batch's choices, by layer and expert."""
    history.append([mixture.routing.load_E.tolist() for mixture in _mixtures(model) if mixture.routing is not None])


def _dropped(model: GPT, factor: float) -> float:
    """Share of choices on held-out text that find their expert full at this capacity factor."""
    for mixture in _mixtures(model):
        mixture.capacity_factor = factor
    with torch.no_grad():
        next_byte_loss(model, windows(text(HELD_OUT), 64, 32, torch.Generator().manual_seed(1)))
    kept = [float(m.routing.kept_NK.double().mean()) for m in _mixtures(model) if m.routing is not None]
    return 1 - sum(kept) / len(kept)


# --- helpers ----------------------------------------------------------------------------------------------------------


def _unigram_entropy() -> float:
    """Entropy, in nats a byte, of held-out text under its own byte frequencies: what a blind model could reach."""
    share = torch.bincount(text(HELD_OUT)).double() / len(text(HELD_OUT))
    return float(-(share * share.clamp(min=1e-12).log()).sum())


def _interval(values: Any) -> dict[str, float]:
    """Mean of a few differences with its 95% interval by Student's t."""
    from scipy.stats import t

    found = spread(values)
    half = float(t.ppf(0.975, found["n"] - 1)) * found["sd"] / math.sqrt(found["n"])
    return found | {"low": found["mean"] - half, "high": found["mean"] + half}
