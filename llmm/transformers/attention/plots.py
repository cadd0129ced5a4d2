"""The figures of this milestone's experiments: drawing only, every number comes from experiments.py."""

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from llmm.figures import BASELINE_COLOUR, DARK, GREEN, OURS, STYLE, WARM, new_figure, save_figure

VIOLET = "#6b46c1"


def softmax_entropy(entropies: dict[str, Any], metrics: dict[str, Any], path: Path) -> Path:
    """Entropy against width for the three scales, with the law for many keys."""
    figure, axes = new_figure()
    widths = np.array(list(entropies["1/√d"]))
    for name, colour in (("1/√d", OURS), ("no scale", WARM), ("1/d", BASELINE_COLOUR)):
        axes.semilogx(widths, [np.mean(entropies[name][d]) for d in widths], "o-", color=colour, markersize=3.5, base=2)
    smooth = np.linspace(4, metrics["freezing_width"], 60)
    axes.semilogx(smooth, metrics["log_keys"] - smooth / 2, ":", color=WARM, base=2)
    axes.axhline(metrics["log_keys"], color="0.8", linewidth=0.8, zorder=0)
    axes.text(1100, metrics["log_keys"] + 0.07, "most there can be: log 128", color="0.5", ha="right", fontsize=8)
    scaled, bare = metrics["scaled_wide"]["mean"], metrics["unscaled_wide"]["mean"]
    axes.text(1150, scaled, f"scaled by 1/√d\n{scaled:.2f} nats", color=OURS, va="center")
    axes.text(1150, bare - 0.06, f"not scaled\n{bare:.2f} nats", color=WARM, va="bottom")
    axes.text(1150, metrics["one_over_d_wide"]["mean"] + 0.02, "1/d", color=BASELINE_COLOUR, va="center")
    axes.text(9.9, 0.3, "log S - d/2, for many keys", color=WARM, fontsize=8, va="center")
    axes.set(xlabel="width of a head d", ylabel="entropy of a query's weights, nats", xlim=(3.6, 3000), ylim=(0, 5.2))
    axes.set_xticks(widths, [str(d) for d in widths])
    axes.minorticks_off()
    _title(axes, "Why divide by √d? Without it, wide heads see a single key before they learn anything")
    return save_figure(figure, path)


def rope_shift(errors: dict[str, list[Tensor]], metrics: dict[str, Any], path: Path) -> Path:
    """Running maximum of the error against the shift, one line a number format."""
    figure, axes = new_figure()
    colours = {"float64": GREEN, "float32": OURS, "bfloat16, tables in float32": VIOLET, "bfloat16": WARM}
    for name, found in errors.items():
        runs = np.array([np.maximum.accumulate(error.numpy()) for error in found])
        shifts = np.arange(runs.shape[1])
        shown = runs.mean(axis=0) > 0
        axes.loglog(shifts[shown], runs.mean(axis=0)[shown], color=colours[name], linewidth=1.6)
        end = runs[:, -1].mean()
        axes.text(
            2300, end, f"{name}\n{end:.1g}" if end < 1 else f"{name}\n{end:.1f}", color=colours[name], va="center"
        )
    axes.axhline(metrics["deviation_of_a_score"], color="0.6", linewidth=0.8)
    axes.text(1.1, metrics["deviation_of_a_score"] * 1.5, "deviation of a score: 1", color="0.4", fontsize=8)
    axes.set(
        xlabel="positions by which query and key are moved together", ylabel="largest change of a score so far",
        xlim=(1, 60_000), ylim=(1e-16, 60),
    )  # fmt: skip
    axes.set_xticks([1, 10, 100, 1000, 2048], ["1", "10", "100", "1000", "2048"])
    axes.minorticks_off()
    _title(axes, "Moving query and key together must change no score. By how much does it?")
    return save_figure(figure, path)


def rope_decay(
    distances: Tensor, kernels: dict[str, Tensor], bound: Tensor, deviation: Tensor, metrics: dict[str, Any], path: Path
) -> Path:
    """Share of the score left against distance: equal vectors for three bases, the bound, unrelated vectors."""
    figure, axes = new_figure()
    at = np.maximum(distances.numpy(), 0.7)
    colours = {"theta 100": BASELINE_COLOUR, "theta 10,000": OURS, "theta 1,000,000": GREEN}
    lines = [(kernels[name], colour, "-") for name, colour in colours.items()]
    smooth = {}
    for values, colour, style in [*lines, (bound, DARK, ":"), (deviation, WARM, "-")]:
        near = np.abs(np.log(at[:, None] / at[None, :])) < 0.12  # distances within an eighth of each other
        smooth[colour] = (near * values.numpy()).sum(1) / near.sum(1)
        axes.semilogx(at, values, color=colour, linewidth=0.6, alpha=0.2)
        axes.semilogx(at, smooth[colour], style, color=colour, linewidth=1.6)
    left = metrics["kernel"]["at_16"]
    axes.plot(16, left, "o", color=OURS, markersize=4)
    axes.text(2400, smooth[OURS][-1], f"equal, base 10⁴:\n{left:.2f} after 16", color=OURS, va="center")
    axes.text(2400, smooth[GREEN][-1], "equal, base 10⁶", color=GREEN, va="center")
    axes.text(2400, smooth[BASELINE_COLOUR][-1] - 0.06, "equal, base 10²", color=BASELINE_COLOUR, va="center")
    axes.text(2400, smooth[WARM][-1], "unrelated:\ndeviation", color=WARM, va="center")
    axes.text(2400, smooth[DARK][-1] + 0.03, "the paper's bound", color=DARK, va="center")
    axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    axes.set(xlabel="distance of query and key, tokens", ylabel="share of the score at distance 0", xlim=(0.7, 14_000))
    axes.set_xticks([0.7, 1, 10, 100, 1000, 2048], ["0", "1", "10", "100", "", "2048"])
    axes.minorticks_off()
    _title(axes, "Does rotation make far tokens count less? Those like the query do, unrelated ones do not")
    return save_figure(figure, path)


def memory(lengths: list[int], peaks: dict[str, list[int]], metrics: dict[str, Any], path: Path) -> Path:
    """Peak megabytes against length, log-log."""
    figure, axes = new_figure()
    colours = {
        "by the formula": WARM, "tiled": OURS, "tiled, 256 a side": BASELINE_COLOUR, "torch's kernel": GREEN,
    }  # fmt: skip
    labels = {
        "by the formula": f"formula: slope {metrics['slope_formula']:.2f}, {metrics['megabytes_formula']:.0f} MB",
        "tiled": f"tiled, 64 a side: slope {metrics['slope_tiled']:.2f}, {metrics['megabytes_tiled']:.1f} MB",
        "tiled, 256 a side": "tiled, 256 a side",
        "torch's kernel": f"torch's kernel: slope {metrics['slope_torch']:.2f}",
    }
    nudge = {"tiled, 256 a side": 1.35, "torch's kernel": 0.7}  # the three lower ends lie close together
    for name, values in peaks.items():
        megabytes = np.array(values) / 1e6
        axes.loglog(lengths, megabytes, "o-", color=colours[name], markersize=3.5, base=2)
        axes.text(4500, megabytes[-1] * nudge.get(name, 1), labels[name], color=colours[name], va="center")
    axes.set_yscale("log", base=10)
    axes.set(
        xlabel="tokens T", ylabel="peak of forward and backward, MB", xlim=(220, 40_000),
    )  # fmt: skip
    axes.set_xticks(lengths, [f"{T:,}" for T in lengths])
    axes.minorticks_off()
    _title(axes, "How does attention's memory grow with the text? One head, d = 64, float32")
    return save_figure(figure, path)


def cache_sizes(gib: dict[str, float], metrics: dict[str, Any], path: Path) -> Path:
    """One bar a kind of attention, longest first."""
    figure, axes = new_figure(height=3.2)
    names = sorted(gib, key=lambda name: gib[name])
    colours = [OURS if name.startswith("latent") else BASELINE_COLOUR for name in names]
    axes.barh(names, [gib[name] for name in names], color=colours, height=0.65)
    for row, name in enumerate(names):
        share = "" if name == "multi-head" else f", {gib['multi-head'] / gib[name]:.3g} times less"
        axes.text(gib[name] + 0.15, row, f"{gib[name]:.4g} GiB{share}", va="center", fontsize=8)
    axes.set(xlabel="cache of one conversation, GiB", xlim=(0, 19))
    axes.tick_params(axis="y", length=0)
    figure.suptitle(
        "What does a context of 32,768 tokens weigh? 32 layers, 32 heads of 128, bfloat16",
        x=0.01,
        ha="left",
        fontsize=10,
    )
    return save_figure(figure, path)


def induction_heads(curves: dict[str, list[list[tuple[int, float]]]], metrics: dict[str, Any], path: Path) -> Path:
    """Accuracy against training steps, every seed a line."""
    figure, axes = new_figure()
    colours = {"two layers": OURS, "one layer": WARM, "one layer, period always 12": BASELINE_COLOUR}
    for name, found in curves.items():
        for curve in found:
            steps, reached = zip(*curve, strict=True)
            axes.plot(steps, reached, color=colours[name], linewidth=1.3, alpha=0.8)
    last = curves["two layers"][0][-1][0]
    two, one, fixed = (metrics[key]["mean"] for key in ("two_layers", "one_layer", "one_layer_fixed_period"))
    axes.text(last * 1.02, two + 0.012, f"two layers: {two:.3f}", color=OURS, va="bottom")
    axes.text(last * 1.02, one + 0.01, f"one layer: {one:.3f}", color=WARM, va="bottom")
    axes.text(
        last * 1.02, fixed - 0.02, f"one layer, one period\nfor all texts: {fixed:.3f}", color=BASELINE_COLOUR, va="top"
    )
    chance = metrics["guessing_in_the_period"]
    axes.axhline(chance, color="0.7", linewidth=0.8, linestyle=":")
    axes.text(last * 1.02, chance - 0.01, f"guessing in the period: {chance:.3f}", color="0.4", va="top", fontsize=8)
    axes.set(
        xlabel="training steps", ylabel="share of knowable tokens guessed right", xlim=(0, last * 1.42), ylim=(0, 1.06)
    )
    _title(axes, "Who can continue a repeated random sequence? Two layers of attention, not one")
    return save_figure(figure, path)


def head_patterns(seen: list[Tensor], scores: list[Tensor], metrics: dict[str, Any], path: Path) -> Path:
    """The weights of every head on one text of period 12, each with the share that it pays to what it looks for."""
    import matplotlib.pyplot as plt

    figure, _ = new_figure(width=8.5, height=5.2)
    figure.clear()
    with plt.rc_context(STYLE):
        grid = figure.subplots(2, seen[0].shape[1], sharex=True, sharey=True)
    for layer, (row, what) in enumerate(zip(grid, ("one back", "after the last like it"), strict=True)):
        for head, axes in enumerate(row):
            axes.imshow(seen[layer][0, head].numpy(), cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
            axes.set_title(f"layer {layer + 1}, head {head + 1}", loc="left", fontsize=9)
            axes.text(46, 1, f"{float(scores[layer][head]):.2f}\n{what}", ha="right", va="top", fontsize=8, color=OURS)
            axes.set_xticks([0, 12, 24, 36])
            axes.set_yticks([0, 12, 24, 36])
        row[0].set_ylabel("query's position")
    for axes in grid[1]:
        axes.set_xlabel("key's position")
    intact, cut = metrics["intact"]["mean"], metrics["without_previous_token_heads"]["mean"]
    figure.suptitle(
        "Where do the heads look in a text that repeats every 12 tokens? Layer 1 one token back; layer 2 to the token\n"
        "after the last one like the present, the induction stripe. Continued right: "
        f"{intact:.3f}, without layer 1's previous-token heads {cut:.3f}.",
        x=0.01, ha="left", fontsize=9.5,
    )  # fmt: skip
    return save_figure(figure, path)


def _title(axes: Any, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=10)
