"""The figures of the experiments: one question each, in its title."""

from typing import Any

import numpy as np
from torch import Tensor

from llmm.figures import BASELINE_COLOUR, OURS, new_figure

DARK, LIGHT, ORANGE = "#1a365d", "#63b3ed", "#dd6b20"  # with OURS told apart in grey too


def trajectories(paths: dict[str, dict[int, Tensor]], condition: float, share: float) -> Any:
    """For every rule its paths (T, 2) down the valley along the axes (0) and turned (45)."""
    figure, axes = new_figure(7.0, 2.7, columns=len(paths))
    x, y = np.meshgrid(np.linspace(-3.4, 1.6, 80), np.linspace(-1.3, 1.3, 80))
    for ax, (name, both) in zip(axes, paths.items(), strict=True):
        ax.contour(x, y, x**2 / condition + y**2, levels=8, colors="0.88", linewidths=0.7, zorder=0)
        for (degrees, path), colour, height in zip(both.items(), ("0.35", OURS), (0.92, 0.83), strict=True):
            ax.plot(path[:, 0], path[:, 1], "-o", color=colour, markersize=1.6, linewidth=0.7)
            text = f"turned by {degrees}°: {len(path) - 1}" if degrees else f"along the axes: {len(path) - 1}"
            # on white, where neither path goes
            box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
            ax.text(0.98, height, text, transform=ax.transAxes, color=colour, fontsize=7.5, ha="right", bbox=box)
        ax.set_title(name, loc="left", fontsize="medium")
        ax.tick_params(labelsize=7)
        if ax is not axes[0]:
            ax.set_yticklabels([])
    axes[0].set_ylabel("across the valley")
    axes[0].set_xlabel("along the valley")
    title = f"Does it matter how the valley lies? Steps to 1/{1 / share:,.0f} of the first loss, κ = {condition:.0f}"
    figure.suptitle(title, x=0.01, ha="left", fontsize="medium")
    return figure


def conditioning(
    conditions: list[float], steps: dict[str, list[int]], slopes: dict[str, float], tolerance: float
) -> Any:
    """Steps of each rule at each condition number."""
    figure, ax = new_figure(7.0, 3.6)
    for (name, counts), colour, marker in zip(steps.items(), (DARK, OURS, ORANGE, "#718096"), "osD^", strict=True):
        ax.loglog(conditions, counts, f"-{marker}", color=colour, markersize=4)
        ax.annotate(
            f"{name}: slope {slopes[name]:.2f}",
            (conditions[-1], counts[-1]),
            (6, 0),
            textcoords="offset points",
            va="center",
            color=colour,
        )
    ax.set_xlim(25, 2e5)
    ax.set_xticks([1e2, 1e3, 1e4])
    ax.set_title(
        f"How do the steps to 1/{1 / tolerance:,.0f} of the distance grow with the condition number?",
        loc="left",
        fontsize="medium",
    )
    ax.set_xlabel("condition number κ")
    ax.set_ylabel("steps")
    return figure


def counterexample(places: dict[str, list[float]], C: float) -> Any:
    """The places after every cycle."""
    cycles = len(places["Adam"])
    figure, ax = new_figure(7.0, 3.4)
    shown = [("Adam", ORANGE, "-"), ("AMSGrad", OURS, "-"), ("Adam, β₂ = 0.999", BASELINE_COLOUR, "--")]
    for name, colour, line in shown:
        ax.plot(range(1, cycles + 1), places[name], line, color=colour)
    for (name, colour, _), y in zip(shown, (0.88, -0.86, -0.7), strict=True):
        ax.text(cycles, y, f"{name}: {places[name][-1]:.2f}", ha="right", va="center", color=colour)
    ax.axhline(0, color="0.85", linewidth=0.8)
    ax.set_title(
        f"Which end do they find? Slopes {C:.0f}, -1, -1 in turn; the best point is -1", loc="left", fontsize="medium"
    )
    ax.set_xlabel("cycles of three steps")
    ax.set_ylabel("w")
    return figure


def newton_schulz(
    s: Tensor,
    lifted: dict[int, Tensor],
    converging: Tensor,
    gradients: list[tuple[Tensor, Tensor]],
    low: float,
    high: float,
) -> Any:
    """Singular values s and where 1, 3, 5 steps take them; of two gradients before and after; the band."""
    figure, ax = new_figure(7.0, 3.8)
    ax.axhspan(low, high, color="0.92", zorder=0)
    for k, colour, line in ((1, BASELINE_COLOUR, ":"), (3, LIGHT, "-"), (5, OURS, "-")):
        ax.semilogx(s, lifted[k], line, color=colour, linewidth=1.2)
    ax.semilogx(s, converging, "--", color=ORANGE, linewidth=1)
    for (i, o), marker, shade in zip(gradients, "o^", ("0.2", DARK), strict=True):
        ax.semilogx(i[::6], o[::6], marker, color=shade, markersize=3, markerfacecolor="none", markeredgewidth=0.7)
    for text, x, y, colour in (
        ("5 steps", 8.5e-4, 0.5, OURS),
        ("3 steps", 8e-3, 0.43, LIGHT),
    ):
        ax.text(x, y, text, color=colour, ha="right")
    ax.text(0.031, 0.43, "5 steps that\nconverge to 1", color=ORANGE, va="center", fontsize=8)
    ax.text(0.13, 0.36, "1 step", color="0.35")
    ax.text(1.05e-4, high + 0.015, f"[{low:.3f}, {high:.3f}]: all that began above 0.01", fontsize=7.5, color="0.35")
    ax.text(1.15e-4, 1.03, "○ 192 × 192 gradient", fontsize=8)
    ax.text(1.15e-4, 0.96, "△ 512 × 192 gradient", fontsize=8)
    ax.set_ylim(0, 1.3)
    ax.set_xlim(1e-4, 1)
    ax.set_title(
        "Where do singular values go? They are lifted fast, and do not settle at 1", loc="left", fontsize="medium"
    )
    ax.set_xlabel("singular value before, as a share of the Frobenius norm")
    ax.set_ylabel("singular value after")
    return figure


def edge_of_stability(
    curves: dict[str, list[list[float]]], settings: dict[str, tuple[float, float]], every: int, last: int
) -> Any:
    """Sharpness every so many steps, of every seed, beside the limit of its rate and momentum (lr, μ)."""
    steps = (len(next(iter(curves.values()))[0]) - 1) * every
    figure, ax = new_figure(7.0, 3.8)
    for (name, runs), colour in zip(curves.items(), ("0.6", DARK, OURS, LIGHT, ORANGE), strict=True):
        for curve in runs:
            ax.plot(np.arange(len(curve)) * every, curve, color=colour, linewidth=0.9, alpha=0.9)
        lr, mu = settings[name]
        limit = 2 * (1 + mu) / lr
        arrived = limit < 10  # that of the smallest rate is far above the figure
        end = float(np.mean([np.median(curve[-last:]) if arrived else curve[-1] for curve in runs]))
        if arrived:
            ax.plot([0, steps], [limit, limit], color=colour, linewidth=0.8, linestyle=":")
        text = f"{name}: {'2(1+μ)/lr' if mu else '2/lr'} = {limit:.1f}"
        ax.annotate(text, (steps, end), (5, 0), textcoords="offset points", va="center", color=colour, fontsize=8)
    ax.set_xlim(0, steps * 1.42)
    ax.set_xticks(range(0, steps + 1, 300))
    ax.set_ylim(0)
    ax.set_title("Does the sharpness stop at the largest that the learning rate allows?", loc="left", fontsize="medium")
    ax.set_xlabel("steps of full-batch descent")
    ax.set_ylabel("sharpness (largest eigenvalue of the Hessian)")
    return figure


def learning_rates(bowls: dict[str, list[dict[str, Any]]]) -> Any:
    """Mean and spread of the final loss at every learning rate."""
    figure, axes = new_figure(7.0, 4.0, columns=2)
    groups = (
        ("SGD", "momentum", "Nesterov", "RMSProp", "Adam", "AMSGrad"),
        ("AdamW", "Lion", "Muon", "SOAP", "Schedule-Free"),
    )
    colours = (DARK, OURS, LIGHT, ORANGE, "#718096", "0.1")
    for ax, names in zip(axes, groups, strict=True):
        for name, colour, marker in zip(names, colours, "osD^vP", strict=False):
            rows = bowls[name]
            means, spread = [row["loss"]["mean"] for row in rows], [row["loss"]["sd"] for row in rows]
            ax.errorbar(
                [row["lr"] for row in rows],
                means,
                spread,
                fmt=f"-{marker}",
                color=colour,
                markersize=3.5,
                linewidth=1,
                label=f"{name} {min(means):.3f}",
            )
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_ylim(0.055, 20)
        ax.legend(
            frameon=False, fontsize=7.5, loc="upper left", ncols=2, title="best mean of three seeds", title_fontsize=7.5
        )
        ax.set_xlabel("peak learning rate")
    axes[0].set_ylabel("cross-entropy on held-out digits, nats")
    figure.suptitle(
        "How much does the learning rate matter, at the end of the schedule?", x=0.01, ha="left", fontsize="medium"
    )
    return figure


def update_ratios(
    ratios: dict[str, list[list[float]]], ranks: dict[str, list[list[float]]], summary: dict[str, Any], middle: slice
) -> Any:
    """Relative size and stable rank of the update at every step, the median of the seeds; `summary` over `middle`."""
    figure, axes = new_figure(7.0, 3.4, columns=2)
    colours = dict(zip(ratios, ("0.55", OURS, ORANGE, DARK, LIGHT), strict=True))
    for values, ax in ((ratios, axes[0]), (ranks, axes[1])):
        for name, runs in values.items():
            curve = np.median(runs, axis=0)
            ax.plot(np.arange(1, len(curve) + 1), curve, color=colours[name], linewidth=1.1)
            if ax is axes[1]:
                height = float(curve[-40:].mean()) + {"AdamW": 0.5, "momentum": -0.6}.get(name, 0.0)
                text = f"{name} {summary[name]['stable_rank']['mean']:.1f}"
                ax.text(len(curve) + 4, height, text, va="center", color=colours[name], fontsize=8)
        ax.set_xlabel("step")
    axes[0].set_yscale("log")
    axes[0].set_ylim(1e-4, 0.3)
    axes[1].set_xlim(0, 275)
    axes[1].set_xticks(range(0, 201, 50))
    axes[1].set_ylim(0)
    # the curves lie close together, so their names stand below all of them, in their order
    below = axes[0].transAxes
    axes[0].text(0.05, 0.37, f"median of\nsteps {middle.start} to {middle.stop}", transform=below, fontsize=7.5)
    ordered = sorted(summary, key=lambda name: -summary[name]["ratio"]["mean"])
    for place, name in enumerate(ordered):
        text = f"{name} {summary[name]['ratio']['mean']:.4f}"
        axes[0].text(0.05, 0.31 - 0.065 * place, text, transform=below, color=colours[name], fontsize=8)
    axes[0].set_title("How large is a step? ‖ΔW‖ / ‖W‖", loc="left", fontsize="medium")
    axes[1].set_title("In how many directions? ‖ΔW‖² / ‖ΔW‖₂²", loc="left", fontsize="medium")
    return figure


def speed(counts: list[int], started: dict[str, list[int]]) -> Any:
    """Operations a step, plain and fast."""
    figure, ax = new_figure(7.0, 3.2)
    for (name, numbers), colour in zip(started.items(), (BASELINE_COLOUR, OURS), strict=True):
        ax.loglog(counts, numbers, "-o", color=colour, markersize=4)
        ax.annotate(
            f"{name}: {numbers[-2]:,} for 200",
            (counts[-1], numbers[-1]),
            (6, 0),
            textcoords="offset points",
            va="center",
            color=colour,
        )
    ax.set_xlim(0.9, 3000)
    ax.set_xticks([1, 10, 100])
    ax.set_title("How many operations does a step of AdamW start?", loc="left", fontsize="medium")
    ax.set_xlabel("parameters (tensors)")
    ax.set_ylabel("operations a step")
    return figure
