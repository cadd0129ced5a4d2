"""The figures of M9: drawing only, every number comes from experiments.py."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmm.figures import BASELINE_COLOUR, OURS, WARM, new_figure, save_figure
from llmm.training.pretraining.noise_scale import TradeOff
from llmm.training.pretraining.scaling_law import ScalingLaw

SHADES = ("#90cdf4", "#4299e1", "#1a4f85")  # narrow to wide, light to dark: also in grey


def scaling(
    sizes: Sequence[int],
    losses: Sequence[Sequence[float]],
    law: ScalingLaw,
    line: Sequence[float],
    metrics: dict[str, Any],
    path: Path,
) -> Path:
    """Losses of all seeds against size, the law through the small ones, and the large one beside its prediction."""
    figure, axes = new_figure()
    grid = np.geomspace(sizes[0] * 0.8, sizes[-1] * 1.3, 100)
    axes.loglog(grid, [law.loss(n) for n in grid], color=OURS, linewidth=1.4)
    axes.loglog(grid, np.exp(np.polyval(line, np.log(grid))), ":", color=BASELINE_COLOUR, linewidth=1.2)
    for n, row in zip(sizes[:-1], losses[:-1], strict=True):
        axes.plot([n] * len(row), row, "o", color=OURS, markersize=4)
    axes.plot([sizes[-1]] * len(losses[-1]), losses[-1], "o", color=WARM, markersize=4)
    axes.annotate(
        f"held out: {metrics['measured']:.3f}\npredicted: {metrics['predicted']:.3f}",
        (sizes[-1], metrics["measured"]), (-60, -12), textcoords="offset points", ha="right", va="center", color=WARM,
        arrowprops={"arrowstyle": "-", "color": WARM, "linewidth": 0.6},
    )  # fmt: skip
    axes.annotate(
        f"E + A / N^α: E = {metrics['irreducible']:.2f}, α = {metrics['exponent']:.2f}",
        (sizes[0], law.loss(sizes[0])), (14, 6), textcoords="offset points", color=OURS,
    )  # fmt: skip
    middle = float(grid[72])
    axes.annotate(
        "a power, by least squares", (middle, float(np.exp(np.polyval(line, np.log(middle))))), (8, 8),
        textcoords="offset points", color=BASELINE_COLOUR,
    )  # fmt: skip
    axes.set_xticks(sizes, [f"{n / 1e3:.0f}k" for n in sizes])
    ticks = np.arange(np.floor(min(map(min, losses)) * 5) / 5, max(map(max, losses)) + 0.2, 0.2)
    axes.set_yticks(ticks, [f"{tick:.1f}" for tick in ticks])
    axes.minorticks_off()
    axes.set(xlabel="parameters in matrix products, five tokens each", ylabel="validation loss, nats a byte")
    axes.set_title(f"Do five small models predict a larger one? To {metrics['error']:.1%}")
    return save_figure(figure, path)


def lr_width(rates: Sequence[float], means: dict[str, dict[int, list[float]]], tuned: int, path: Path) -> Path:
    """Loss against learning rate, a curve a width, SP beside μP."""
    figure, panels = new_figure(8.5, 3.6, columns=2)
    every = [loss for by_width in means.values() for row in by_width.values() for loss in row]
    for axes, by_width in zip(panels, means.values(), strict=True):
        for (width, row), colour in zip(by_width.items(), SHADES, strict=True):
            axes.semilogx(rates, row, "o-", color=colour, markersize=3, linewidth=1.4, base=2)
            i = int(np.argmin(row))
            axes.plot(rates[i], row[i], "o", color=colour, markersize=8, fillstyle="none")
            if axes is panels[0]:  # the colours say it in the other one, where curves lie close
                axes.annotate(f"width {width}", (rates[0], row[0]), (-2, 7), textcoords="offset points", color=colour,
                              fontsize=8)  # fmt: skip
        axes.axvline(rates[tuned], color=BASELINE_COLOUR, linestyle=":", linewidth=1)
        axes.set(xlabel="learning rate of AdamW", ylim=(min(every) - 0.06, max(every) + 0.14))
        axes.set_xticks(rates, [f"{rate:g}" for rate in rates], fontsize=7.5)
        axes.minorticks_off()
    panels[0].set_title("Standard: does the best rate move?")
    panels[1].set_title("μP, same colours: does it stay?")
    panels[0].set_ylabel("validation loss, nats a byte")
    return save_figure(figure, path)


def coordinate_check(
    widths: Sequence[int], found: dict[str, list[list[dict[str, float]]]], metrics: dict[str, Any], path: Path
) -> Path:
    """Movement of the logits and of every branch against width, SP beside μP."""
    figure, panels = new_figure(8.5, 3.6, columns=2)
    keys = {"SP": "sp", "μP": "mup"}
    for axes, (name, runs) in zip(panels, found.items(), strict=True):
        for place in runs[0][0]:
            means = [statistics.fmean(run[i][place] for run in runs) for i in range(len(widths))]
            is_logits = place == "logits"
            axes.loglog(widths, means, "o-", color=OURS if is_logits else BASELINE_COLOUR, markersize=3,
                        linewidth=1.8 if is_logits else 0.9)  # fmt: skip
            if is_logits:
                slope = metrics[keys[name]]["logits"]["mean"]
                label = f"logits: width to the power {slope:.2f}"
                axes.annotate(label, (0.03, 0.93), xycoords="axes fraction", color=OURS)
            elif place == "layers.0.mlp" and name == "μP":
                axes.annotate("grey: what each branch adds", (widths[-1], means[-1]), (0, 14),
                              textcoords="offset points", ha="right", color=BASELINE_COLOUR)  # fmt: skip
        axes.set(xlabel="width")
        axes.set_xticks(widths, map(str, widths))
        axes.minorticks_off()
    low = min(axes.get_ylim()[0] for axes in panels)
    high = max(axes.get_ylim()[1] for axes in panels) * 1.6
    for axes in panels:
        axes.set_ylim(low, high)
    panels[0].set_ylabel("change in four steps, root mean square")
    panels[0].set_title("Standard: do wide models move further?")
    panels[1].set_title("μP: do all move equally far?")
    return save_figure(figure, path)


def critical_batch(steps: dict[int, float], curve: TradeOff, metrics: dict[str, Any], path: Path) -> Path:
    """Steps against examples to one loss, a point a batch, with the curve through them and its two asymptotes."""
    figure, axes = new_figure()
    grid = np.geomspace(min(steps) / 2, max(steps) * 2, 100)
    axes.loglog([curve.examples(b) for b in grid], [curve.steps(b) for b in grid], color=OURS, linewidth=1.4)
    for batch, needed in steps.items():
        axes.plot(batch * needed, needed, "o", color=OURS, markersize=5)
        above = needed > curve.steps(batch)  # away from the curve
        axes.annotate(f"batch {batch}: {needed:,.0f} steps", (batch * needed, needed), (9, 4) if above else (-8, -10),
                      fontsize=8, textcoords="offset points", ha="left" if above else "right",
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8})  # fmt: skip
    axes.axhline(curve.fewest_steps, color=BASELINE_COLOUR, linestyle=":", linewidth=1)
    axes.axvline(curve.fewest_examples, color=BASELINE_COLOUR, linestyle=":", linewidth=1)
    top, right = axes.get_ylim()[1], axes.get_xlim()[1]
    axes.set(xlim=(curve.fewest_examples / 3.5, right * 3), ylim=(min(steps.values()) * 0.7, top))
    axes.text(right * 2.8, curve.fewest_steps, f"by the curve at least {curve.fewest_steps:.0f} steps", ha="right",
              color=BASELINE_COLOUR, va="top", fontsize=8)  # fmt: skip
    axes.text(curve.fewest_examples * 0.95, top, f"at least\n{curve.fewest_examples:,.0f} windows", ha="right",
              color=BASELINE_COLOUR, va="top", fontsize=8)  # fmt: skip
    critical = curve.critical_batch
    axes.plot(curve.examples(critical), curve.steps(critical), "s", color=WARM, markersize=7, fillstyle="none")
    axes.annotate(
        f"critical batch {critical:.0f}; noise scale {metrics['noise_scale_at_target']['mean']:.0f}",
        (curve.examples(critical), curve.steps(critical)), (12, 22), textcoords="offset points", color=WARM,
        arrowprops={"arrowstyle": "-", "color": WARM, "linewidth": 0.6},
    )  # fmt: skip
    axes.set(xlabel="windows to the same loss", ylabel="steps to the same loss")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:,.0f}")
        axis.set_minor_formatter("")
    axes.set_title("What does a larger batch buy? Steps, until it buys no more")
    return save_figure(figure, path)


def repetition(
    held_out: dict[int, list[float]], seen: dict[int, list[float]], once: dict[int, list[float]], path: Path
) -> Path:
    """Loss against epochs at the same number of tokens, beside the small text read once."""
    figure, axes = new_figure()
    lines = (
        ("the small text once", once, BASELINE_COLOUR, "s:"),
        ("same tokens, repeated", held_out, OURS, "o-"),
        ("its training loss", seen, WARM, "o--"),
    )
    for name, values, colour, style in lines:
        epochs = list(values)
        means = [statistics.fmean(values[e]) for e in epochs]
        axes.semilogx(epochs, means, style, color=colour, markersize=4, linewidth=1.3, base=2)
        axes.annotate(f"{name}:\n{means[-1]:.2f}", (epochs[-1], means[-1]), (8, 0), textcoords="offset points",
                      va="center", color=colour)  # fmt: skip
        for epoch in epochs:
            axes.plot([epoch] * 2, [min(values[epoch]), max(values[epoch])], color=colour, linewidth=1)
    epochs = list(held_out)
    axes.set_xticks(epochs, [f"{e}\n1/{e} of the text" if e > 1 else "1\nall of it" for e in epochs])
    axes.minorticks_off()
    axes.set(xlabel="epochs", ylabel="loss, nats a byte", xlim=(0.85, 36))
    axes.set_title("What is a token worth that was seen before?")
    return save_figure(figure, path)


def recipe(found: dict[str, list[float]], metrics: dict[str, Any], path: Path) -> Path:
    """Every seed of each recipe as a point, its mean as a line."""
    figure, axes = new_figure(height=2.8)
    for row, (name, values) in enumerate(found.items()):
        colour = OURS if name == "ours" else BASELINE_COLOUR
        mean = statistics.fmean(values)
        axes.plot(values, [row] * len(values), "o", color=colour, markersize=5)
        axes.plot([mean] * 2, [row - 0.25, row + 0.25], color=colour, linewidth=2)
        axes.annotate(f"{mean:.3f}", (max(values), row), (9, 0), textcoords="offset points", va="center", color=colour)
    axes.set_yticks(range(len(found)), list(found))
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.margins(x=0.2)
    axes.set(xlabel="validation loss, nats a byte, three seeds")
    figure.suptitle(
        f"How far is today's recipe ahead of GPT-2's at equal tokens? {metrics['gain']['mean']:.2f} nats",
        x=0.01, ha="left", fontsize=10,
    )  # fmt: skip
    return save_figure(figure, path)
