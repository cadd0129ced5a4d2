"""The figures of this milestone's experiments: drawing only, every number comes from experiments.py."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmm.figures import BASELINE_COLOUR, DARK, GREEN, OURS, WARM, new_figure, save_figure
from llmm.transformers.block.propagation import Norms

PURPLE = "#6b46c1"
COLOURS = {"pre": OURS, "post": WARM, "sandwich": GREEN, "none": DARK}
WHERE = {
    "pre": "before the branches",
    "post": "after the sums",
    "sandwich": "on both sides",
    "none": "nowhere",
}
NAMES = {"gelu": "GELU", "relu2": "ReLU²", "geglu": "GEGLU", "swiglu": "SwiGLU"}


def residual_variance(measured: dict[Norms, Any], metrics: dict[str, Any], path: Path) -> Path:
    """Mean square of the stream against blocks: straight lines on the left, an exponential on the right."""
    figure, (left, right) = new_figure(width=8.0, height=3.8, columns=2)
    depth = metrics["depth"]
    layers = np.arange(depth + 1)
    bounded: tuple[Norms, ...] = ("sandwich", "pre", "post")
    for axes, kinds in ((left, bounded), (right, ("none", *bounded))):
        for norms in kinds:
            for row in measured[norms]:
                axes.plot(layers, row, color=COLOURS[norms], alpha=0.3, linewidth=0.8)
            axes.plot(layers, measured[norms].mean(axis=0), color=COLOURS[norms], linewidth=2)
    left.fill_between(
        layers, 1 + metrics["pre_slope_lowest"] * layers, 1 + metrics["pre_slope_highest"] * layers,
        color=OURS, alpha=0.12, linewidth=0,
    )  # fmt: skip
    left.plot(layers, 1 + 2 * layers, ":", color=DARK, linewidth=1)
    ends = {norms: metrics[f"{norms}_at_{depth}"]["mean"] for norms in COLOURS}
    for norms in bounded:
        text = f"{ends[norms]:.1f} {WHERE[norms]}"
        left.text(depth + 0.4, ends[norms], text, color=COLOURS[norms], va="center")
    left.text(12, 1 + 2 * 12 + 4, "1 + 2 l", color=DARK, ha="right")
    left.text(depth + 0.4, 12, "shaded: between\nindependent and\nequal tokens", color=OURS, va="center", alpha=0.8)
    factor = metrics["none_factor_a_block_late"]["mean"]
    right.text(10.5, 3e6, f"no norm:\n× {factor:.2f} a block", color=DARK, ha="right")
    right.text(depth, 150, "any norm", color="0.35", ha="right", va="bottom")
    right.set_yscale("log")
    left.set(xlabel="block l", ylabel="variance of the residual stream", xlim=(0, depth + 15), ylim=(0, 52))
    left.set_xticks([0, 6, 12, 18, 24])
    right.set(xlabel="block l", xlim=(0, depth))
    right.set_xticks([0, 6, 12, 18, 24])
    figure.suptitle(
        "How does the residual stream grow with depth, by where the norms stand?", x=0.01, ha="left", fontsize=10
    )
    return save_figure(figure, path)


def gradient_by_depth(depths: Sequence[int], found: dict[Norms, Any], metrics: dict[str, Any], path: Path) -> Path:
    """Norm of the last layer's gradient against depth, log-log, with slope -1/2."""
    figure, axes = new_figure()
    x = np.array(depths)
    for norms, rows in found.items():
        mean = rows.mean(axis=0)
        error = rows.std(axis=0, ddof=1) / len(rows) ** 0.5
        axes.fill_between(x, mean - error, mean + error, color=COLOURS[norms], alpha=0.15, linewidth=0)
        axes.loglog(x, mean, "o-", color=COLOURS[norms], linewidth=2, markersize=4)
        text = f"{WHERE[norms]}\n6 to 24 blocks: ÷ {metrics[f'{norms}_ratio']:.2f}"
        axes.text(25, mean[-1], text, color=COLOURS[norms], va="bottom" if norms == "sandwich" else "center")
    start = found["pre"].mean(axis=0)[0] * 0.86
    axes.loglog(x, start * (x / x[0]) ** -0.5, ":", color=DARK)
    axes.text(8.6, start * (8.6 / 6) ** -0.5 * 0.9, "slope -1/2", color=DARK, ha="center", va="top")
    axes.set_xticks(x, [str(d) for d in depths])
    axes.minorticks_off()
    low, high = axes.get_ylim()
    axes.set_yticks([0.03, 0.05, 0.1, 0.2], ["0.03", "0.05", "0.1", "0.2"])
    axes.set(xlabel="blocks", ylabel="gradient norm of the last layer", xlim=(5.7, 52), ylim=(low * 0.95, high * 1.05))
    axes.set_title("Does the last layer's gradient shrink with depth at initialisation?", loc="left", fontsize=10)
    return save_figure(figure, path)


def no_norm(curves: dict[str, Any], metrics: dict[str, Any], path: Path) -> Path:
    """Training loss against steps, a panel an arm, all rates and seeds; what is not finite gets a cross at the top."""
    figure, panels = new_figure(width=9.5, height=3.3, columns=len(curves))
    top = 1e6
    for axes, (name, losses) in zip(panels, curves.items(), strict=True):
        norms, kind, depth = name.split("_")
        colour = COLOURS[norms]
        for row in losses:
            steps = np.arange(1, len(row) + 1)
            good = np.isfinite(row)
            axes.semilogy(steps[good], row[good], color=colour, linewidth=1, alpha=0.7)
            axes.semilogy(steps[~good], np.full((~good).sum(), 3e5), "x", color=WARM, markersize=5)
        broken = metrics[name]["not_finite"]
        where = "norm before" if norms == "pre" else "no norm"
        axes.set_title(f"{where}, {NAMES[kind]},\n{depth} blocks", loc="left", fontsize="medium", color=colour)
        if broken:
            axes.text(10.5, 5e4, f"{broken} of {metrics['runs']} NaN", color=WARM, ha="center", va="top")
        else:
            last = metrics[name]["last_loss"]["mean"]
            axes.text(20, 0.6, f"end: {last:.3g}", color=colour, ha="right", va="bottom")
        axes.set(xlabel="step", ylim=(0.5, top), xlim=(0, 21), xticks=[1, 10, 20])
        if axes is not panels[0]:
            axes.set_yticklabels([])
    panels[0].set_ylabel("loss, nats a byte")
    figure.suptitle("Does a deep network without norms survive training?", x=0.01, ha="left", fontsize=10)
    return save_figure(figure, path)


def norm_grid(held_out: dict[str, Any], rates: Sequence[float], metrics: dict[str, Any], path: Path) -> Path:
    """Held-out loss against learning rate, without and with warm-up, one panel an arm."""
    figure, panels = new_figure(width=9.5, height=3.2, columns=len(held_out))
    for axes, (arm, losses) in zip(panels, held_out.items(), strict=True):
        for i, (name, colour) in enumerate((("no warm-up", WARM), ("warm-up", OURS))):
            axes.semilogx(rates, losses[i].mean(axis=-1), "o-", color=colour, markersize=4)
            for seed in range(losses.shape[-1]):
                axes.semilogx(rates, losses[i, :, seed], ".", color=colour, alpha=0.5, markersize=4)
            if axes is panels[0]:
                axes.text(1.05e-3, 2.79 + 0.05 * i, name, color=colour)
        axes.axhline(metrics["blind"], color=BASELINE_COLOUR, linestyle="--", linewidth=1)
        axes.set_title(arm, loc="left", fontsize="medium")
        axes.set(xlabel="learning rate", ylim=(2.78, 3.4), xticks=rates, xticklabels=[f"{rate:g}" for rate in rates])
        axes.minorticks_off()
        if axes is not panels[0]:
            axes.set_yticklabels([])
    panels[0].set_ylabel("held-out loss, nats a byte")
    panels[0].text(3.2e-2, metrics["blind"] + 0.01, "byte frequencies\nalone", color="0.35", ha="right", va="bottom")
    figure.suptitle("Which norms need a warm-up, and how large a rate does each bear?", x=0.01, ha="left", fontsize=10)
    return save_figure(figure, path)


def gated(differences: dict[str, Any], metrics: dict[str, Any], path: Path) -> Path:
    """Difference of held-out loss from GELU at equal parameters: every seed, the mean and its interval."""
    figure, axes = new_figure(height=3.0)
    for row, (kind, values) in enumerate(differences.items()):
        found = metrics[f"{kind}_minus_gelu"]
        colour = GREEN if kind == "relu2" else OURS
        axes.plot([found["low"], found["high"]], [row, row], color=colour, linewidth=2)
        axes.plot(values, [row + 0.16] * len(values), ".", color=colour, alpha=0.6)
        axes.plot(found["mean"], row, "o", color=colour)
        axes.text(found["mean"], row - 0.17, f"{found['mean']:+.3f}", color=colour, ha="center", va="top")
    axes.axvline(0, color=BASELINE_COLOUR, linestyle="--", linewidth=1)
    axes.text(0, len(differences) - 0.45, f" GELU: {metrics['gelu_loss']['mean']:.3f} nats", color="0.35", va="bottom")
    axes.set_yticks(range(len(differences)), [NAMES[kind] for kind in differences])
    axes.set(
        xlabel="held-out loss minus that of GELU, nats a byte (dots: seeds; bar: 95%)",
        ylim=(-0.6, len(differences) - 0.2),
    )
    axes.set_title("At equal parameters, are gates worth the narrower hidden layer?", loc="left", fontsize=10)
    return save_figure(figure, path)


def expert_load(share: dict[str, Any], metrics: dict[str, Any], path: Path) -> Path:
    """Share of tokens of each expert against steps, first layer of the first seed, a panel for each weight."""
    figure, panels = new_figure(width=9.0, height=3.5, columns=len(share))
    for axes, (name, rows) in zip(panels, share.items(), strict=True):
        ordered = rows[0, :, 0][:, np.argsort(-rows[0, -20:, 0].mean(axis=0))]
        smooth = np.stack([np.convolve(column, np.ones(5) / 5, mode="valid") for column in ordered.T])
        steps = np.arange(3, 3 + smooth.shape[1])
        shades = [str(grey) for grey in np.linspace(0.25, 0.9, len(smooth))]
        axes.stackplot(steps, smooth, colors=[OURS, *shades[1:]], edgecolor="white", linewidth=0.4)
        weight = metrics["weights"][name]
        largest, dropped = metrics[name]["largest_share"]["mean"], metrics[name]["dropped"]["mean"]
        title = f"balancing loss × {weight:g}" if weight else "no balancing loss"
        text = f"{title}\nlargest share {largest:.0%}\n{dropped:.0%} dropped at capacity 1.25"
        axes.set_title(text, loc="left", fontsize="medium")
        axes.set(xlabel="step", ylim=(0, 1), xlim=(steps[0], steps[-1]))
        if axes is not panels[0]:
            axes.set_yticklabels([])
    panels[0].set_ylabel("share of tokens, expert by expert")
    figure.suptitle("Do eight experts share the work by themselves?", x=0.01, ha="left", fontsize=10)
    return save_figure(figure, path)
