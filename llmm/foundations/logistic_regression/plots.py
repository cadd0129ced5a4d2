"""The figures of this milestone's experiments: drawing only, every number comes from experiments.py."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmm.figures import BASELINE_COLOUR, DARK, GREEN, OURS, WARM, new_figure, save_figure

Array = NDArray[np.float64]
COLOURS = {"gradient descent": OURS, "SGD": "#6b46c1", "L-BFGS": GREEN, "Newton": WARM}


def finite_differences(steps: Array, errors: dict[str, Any], metrics: dict[str, Any], path: Path) -> Path:
    """Relative error of both quotients against h, with the two straight lines that theory draws."""
    figure, axes = new_figure()
    for name, colour in (("central", OURS), ("forward", WARM)):
        for row in errors[name]:
            axes.loglog(steps, row, color=colour, alpha=0.25, linewidth=0.8)
        axes.loglog(steps, np.exp(np.log(errors[name]).mean(axis=0)), color=colour, linewidth=2)
    left, right = steps[steps < 1e-7], steps[steps > 1e-4]
    axes.loglog(right, metrics["error_at_best"]["mean"] * (right / 1e-5) ** 2 * 0.06, ":", color=DARK)
    axes.loglog(left, 3e-17 / left, ":", color=DARK)
    axes.text(4e-3, 4e-10, "truncation, slope 2", rotation=47, color=DARK, ha="center", va="center")
    axes.text(4e-11, 3e-8, "rounding, ε / h", rotation=-28, color=DARK, ha="center", va="center")
    axes.text(1.3e-1, 1.6e-2, "forward", color=WARM, va="center")
    axes.text(1.3e-1, 1.6e-4, "central", color=OURS, va="center")
    h, error = metrics["best_step"], metrics["error_at_best"]["mean"]
    axes.plot(h, error, "o", color=OURS)
    axes.annotate(
        f"best step {h:.0e}\nerror {error:.0e}", (h, error), (2e-7, 2e-12), color=OURS, ha="right", va="center",
        arrowprops={"arrowstyle": "-", "color": OURS},
    )  # fmt: skip
    axes.set(
        xlabel="step h", ylabel="relative error of the gradient", xlim=(5e-13, 0.9), ylim=(3e-13, 1),
    )  # fmt: skip
    _title(axes, "Which step makes a difference quotient the best referee of a gradient?")
    return save_figure(figure, path)


def paths(loss: Any, walked: dict[str, list[Array]], best: Array, metrics: dict[str, Any], path: Path) -> Path:
    """Contours of the loss and the solvers' points on them, each in a panel of its own."""
    figure, panels = new_figure(width=8.5, height=3.0, columns=4)
    across, up = np.meshgrid(np.linspace(-7.5, 4.5, 81), np.linspace(-8.5, 3.5, 81))
    height = np.array(
        [[loss.value(np.array([a, b])) for a, b in zip(*row, strict=True)] for row in zip(across, up, strict=True)]
    )
    levels = loss.value(best) + np.geomspace(0.003, height.max(), 12)
    counts = {
        "SGD": "never to 1e-8",
        "gradient descent": f"{metrics['steps_gradient_descent']} steps to 1e-8",
        "L-BFGS": f"{metrics['steps_lbfgs']} steps to 1e-8",
        "Newton": f"{metrics['steps_newton']} steps to 1e-8",
    }
    for axes, (name, points) in zip(panels, walked.items(), strict=True):
        axes.contour(across, up, height, levels=levels, colors="0.8", linewidths=0.6)
        line = np.array(points)
        many = len(line) > 50
        axes.plot(
            *line.T, color=COLOURS[name], linewidth=0.8 if many else 1.5, marker=None if many else "o", markersize=3.5
        )
        axes.plot(*line[0], "o", color=DARK, markersize=4)
        axes.plot(*best, "x", color=DARK)
        axes.set_title(f"{name}\n{counts[name]}", loc="left", fontsize="medium", color=COLOURS[name])
        axes.set(xlim=(-7.5, 4.5), ylim=(-8.5, 3.5), xlabel="w₁ (mean radius)")
        if axes is not panels[0]:
            axes.set_yticklabels([])
    panels[0].set_ylabel("w₂ (worst radius)")
    figure.suptitle(
        "Which way to the minimum (×) does each solver take from the same start (●)?", x=0.01, ha="left", fontsize=10
    )
    return save_figure(figure, path)


def conditioning(curves: dict[tuple[str, str], tuple[Any, Any]], metrics: dict[str, Any], path: Path) -> Path:
    """Loss against updates for each solver, raw features dashed, standardised solid."""
    figure, axes = new_figure()
    for (solver, name), (steps, values) in curves.items():
        axes.loglog(
            steps,
            values,
            "--" if name == "raw" else "-",
            color=COLOURS[solver],
            linewidth=1.8 if name == "raw" else 1.4,
        )
    ends = metrics["gradient_descent_raw_ends_at"]
    axes.text(10_500, ends, f"{ends:.2f}", color=OURS, va="center")
    ends = metrics["gradient_descent_standardised_ends_at"]
    axes.text(10_500, ends, f"{ends:.2f}", color=OURS, va="center")
    axes.text(60, 0.66, "gradient descent, raw", color=OURS, va="bottom")
    axes.text(500, 0.066, "gradient descent, standardised", color=OURS, va="bottom")
    axes.text(1.05, 0.0165, f"dashed: raw, κ = {metrics['condition_number_raw']:.1e}", color="0.3")
    axes.text(1.05, 0.0135, f"solid: standardised, κ = {metrics['condition_number_standardised']:.1e}", color="0.3")
    axes.text(210, curves["L-BFGS", "raw"][1][-1], "L-BFGS, raw", color=COLOURS["L-BFGS"], va="center")
    axes.text(
        210, curves["L-BFGS", "standardised"][1][-1], "L-BFGS, standardised", color=COLOURS["L-BFGS"], va="center"
    )
    axes.text(5.4, curves["Newton", "raw"][1][-1] * 0.93, "Newton:\nboth the same", color=WARM, va="top", ha="center")
    axes.set(
        xlabel="updates", ylabel="mean negative log-likelihood, nats", xlim=(0.9, 30_000), ylim=(0.012, 0.85),
    )  # fmt: skip
    axes.set_yticks([0.02, 0.05, 0.1, 0.2, 0.5], ["0.02", "0.05", "0.1", "0.2", "0.5"])
    axes.minorticks_off()
    _title(axes, "What does standardising the features buy each solver?")
    return save_figure(figure, path)


def newton_order(errors: dict[str, list[float]], metrics: dict[str, Any], path: Path) -> Path:
    """The error after a step against the error before it: the slope is the order of convergence."""
    figure, axes = new_figure(height=4.4)
    for name in ("gradient descent", "L-BFGS", "Newton"):
        run = np.array([error for error in errors[name] if error > 1e-13])
        before, after = run[:-1], run[1:]
        if name == "gradient descent":  # 3000 dots on one line
            before, after = before[::40], after[::40]
        style = (
            {"marker": "D", "markersize": 6, "linestyle": "-"}
            if name == "Newton"
            else {"marker": "o", "markersize": 3, "linestyle": ""}
        )
        axes.loglog(before, after, color=COLOURS[name], linewidth=1, **style)
    order, rate = metrics["order_gradient_descent"]["mean"], metrics["rate_gradient_descent"]["mean"]
    axes.text(2.5e-4, 1e-2, f"gradient descent: order {order:.2f},\nalways × {rate:.4f}", color=OURS, ha="right")
    axes.text(
        3e-2, 3e-6, f"Newton: order {metrics['order_newton']['mean']:.2f},\ntwice the digits each step", color=WARM
    )
    axes.text(3e-7, 2e-9, "L-BFGS: better than linear,\nbut in jumps", color=COLOURS["L-BFGS"])
    axes.set(
        xlabel="error ‖w - w*‖ before the step", ylabel="error after the step", xlim=(1e-9, 60), ylim=(1e-11, 10),
    )  # fmt: skip
    _title(axes, "How many digits does a step add? The slope is the order of convergence")
    return save_figure(figure, path)


def norm_growth(steps: Any, trace: Array, shrunk: Array, metrics: dict[str, Any], path: Path) -> Path:
    """‖w‖ and both losses against steps; `trace` (seeds, steps, 3) and `shrunk` (seeds, 3) hold norm, train, test."""
    figure, (left, right) = new_figure(width=8.0, height=3.6, columns=2)
    for norm in trace[:, :, 0]:
        left.loglog(steps, norm, color=OURS, alpha=0.3, linewidth=0.8)
    left.loglog(steps, trace[:, :, 0].mean(axis=0), color=OURS, linewidth=2)
    for mark in (600, 6_000, 60_000):
        norm = metrics[f"norm_{mark}"]["mean"]
        left.plot(mark, norm, "o", color=OURS)
        left.annotate(f"{norm:.1f}", (mark, norm), (-4, 6), textcoords="offset points", ha="right", color=OURS)
    level = shrunk[:, 0].mean()
    left.axhline(level, color=BASELINE_COLOUR, linestyle="--", linewidth=1)
    left.text(1.05e5, level * 0.96, f"minimum with L2: {level:.1f}", color="0.35", ha="right", va="top")
    _title(left, "Does ‖w‖ ever stop growing?")
    left.set(xlabel="steps of gradient descent", ylabel="‖w‖", xlim=(1, 1e5))
    left.set_yticks([0.5, 1, 2, 5, 10, 20, 40], ["0.5", "1", "2", "5", "10", "20", "40"])
    left.minorticks_off()

    for column, colour, name in ((1, OURS, "train"), (2, WARM, "test")):
        for row in trace[:, :, column]:
            right.semilogx(steps, row, color=colour, alpha=0.3, linewidth=0.8)
        mean = trace[:, :, column].mean(axis=0)
        right.semilogx(steps, mean, color=colour, linewidth=2)
        right.text(7e4, mean[-1], f"{name}\n{mean[-1]:.3f}", color=colour, va="center" if name == "test" else "bottom")
    level = shrunk[:, 2].mean()
    right.axhline(level, color=BASELINE_COLOUR, linestyle="--", linewidth=1)
    right.text(9e5, level + 0.004, f"test, L2: {level:.3f}", color="0.35", ha="right")
    _title(right, "And the loss, on training and on test data?")
    right.set(
        xlabel="steps of gradient descent",
        ylabel="mean negative log-likelihood, nats", xlim=(1, 1e6), ylim=(0, 0.45),
    )  # fmt: skip
    return save_figure(figure, path)


def implicit_bias(
    steps: Any, plain: list[list[float]], fast_steps: Any, fast: list[list[float]], metrics: dict[str, Any], path: Path
) -> Path:
    """Angle to the maximum margin against steps, a thin line a seed and their mean."""
    figure, axes = new_figure()
    for ticks, rows, colour in ((steps, plain, OURS), (fast_steps, fast, WARM)):
        for row in rows:
            axes.semilogx(ticks, row, color=colour, alpha=0.3, linewidth=0.8)
        axes.semilogx(ticks, np.mean(rows, axis=0), color=colour, linewidth=2)
    end, quick = metrics["angle_20000"]["mean"], metrics["angle_normalised_1000"]["mean"]
    axes.text(22_000, end, f"step ∝ gradient:\n{end:.1f}°", color=OURS, va="center")
    axes.text(1_100, quick, f"step ∝ gradient / loss: {quick:.1f}°", color=WARM, va="center")
    for key, name in (("angle_l2", "minimum with L2"), ("angle_least_squares", "least squares")):
        level = metrics[key]["mean"]
        axes.axhline(level, color=BASELINE_COLOUR, linestyle="--", linewidth=1)
        axes.text(150_000, level + 1, f"{name}: {level:.0f}°", color="0.35", ha="right")
    axes.set(
        xlabel="steps of gradient descent", ylabel="degrees from the maximum-margin hyperplane",
        xlim=(1, 160_000), ylim=(0, None),
    )  # fmt: skip
    _title(axes, "Towards which separating hyperplane does gradient descent go, unasked?")
    return save_figure(figure, path)


def calibration(tables: dict[str, Any], metrics: dict[str, Any], path: Path) -> Path:
    """Reliability diagrams before and after temperature scaling, for a model without and with a penalty.

    All splits pooled; bins of fewer than 10 samples are left out.
    """
    figure, panels = new_figure(width=8.0, height=4.0, columns=2)
    titles = {
        "no penalty": f"no penalty: overconfident, T = {metrics['temperature']['mean']:.1f}\n"
        f"ECE {metrics['ece_before']['mean']:.3f} → {metrics['ece_after']['mean']:.3f}",
        "L2 0.01": f"L2 0.01: underconfident, T = {metrics['temperature_strong_l2']['mean']:.2f}\n"
        f"ECE {metrics['ece_before_strong_l2']['mean']:.3f} → {metrics['ece_after_strong_l2']['mean']:.3f}",
    }
    labels = {  # where a free spot beside each line is
        ("no penalty", "before"): (0.8, 0.3), ("no penalty", "after"): (0.6, 0.8),
        ("L2 0.01", "before"): (0.3, 0.85), ("L2 0.01", "after"): (0.75, 0.62),
    }  # fmt: skip
    for axes, (name, pair) in zip(panels, tables.items(), strict=True):
        axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        for table, colour, label in zip(pair, (WARM, OURS), ("before", "after"), strict=True):
            some = table.count >= 10
            axes.plot(table.confidence[some], table.accuracy[some], "-", color=colour, linewidth=1)
            axes.scatter(
                table.confidence[some], table.accuracy[some], s=8 + table.count[some] / 15, color=colour, alpha=0.8
            )
            x, y = labels[name, label]
            axes.text(x, y, label, color=colour)
        _title(axes, titles[name])
        axes.set(xlabel="mean confidence in a bin of width 0.1", xlim=(0, 1.03), ylim=(0, 1.05))
        axes.set_aspect("equal")
    panels[0].set_ylabel("share that is right (area: number of samples)")
    panels[0].text(0.3, 0.33, "perfectly calibrated", color="0.5", rotation=45, ha="center", va="bottom")
    figure.suptitle("Is a model that says 90% right nine times in ten?", x=0.01, ha="left", fontsize=10)
    return save_figure(figure, path)


def _title(axes: Any, text: str) -> None:
    axes.set_title(text, loc="left", fontsize="medium")
