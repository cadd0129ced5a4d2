"""The figures of this milestone, one function each: they draw what the experiments hand them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmm.figures import BASELINE_COLOUR, GREEN, OURS, WARM, new_figure, save_figure


def kinks_and_cuts(
    curves: Mapping[str, tuple[list[int], set[int]]], shape: Sequence[int], cuts: set[int], path: Path
) -> Path:
    """Storage address against flat index for each layout, its kinks marked, on the cuts of the new shape."""
    figure, axes = new_figure(7.0, 2.9, columns=len(curves))
    for axis, (name, (addresses, kinks)) in zip(axes, curves.items(), strict=True):
        multiples = sorted({k * cut for cut in cuts if cut > 1 for k in range(1, len(addresses) // cut)})
        for cut in multiples:
            axis.axvline(cut - 0.5, color="0.88", linewidth=5, zorder=0)
        axis.plot(addresses, color=BASELINE_COLOUR, linewidth=1, marker="o", markersize=3)
        bad = [p for p in kinks if p not in multiples]
        good = [p for p in kinks if p in multiples]
        axis.plot(good, [addresses[p] for p in good], "o", color=OURS, markersize=6)
        axis.plot(bad, [addresses[p] for p in bad], "X", color=WARM, markersize=8)
        axis.set_title(
            f"{name}\n{'copy' if bad else 'view'}", color=WARM if bad else OURS, loc="left", fontsize="medium"
        )
        axis.set_xlabel("flat index p")
    axes[0].set_ylabel("address in the storage")
    figure.suptitle(
        f"Does shape {tuple(shape)} need a copy? Only if the address kinks between two cuts (grey)",
        x=0.01, ha="left", fontsize="medium",
    )  # fmt: skip
    return save_figure(figure, path)


def kept_bytes(rows: Sequence[tuple[str, float, float]], path: Path) -> Path:
    """Bars: (name, bytes kept besides the logits over those of the logits, error of the second derivative)."""
    figure, axis = new_figure(7.0, 2.4)
    names = [name for name, _, _ in rows]
    kept = [max(share, 0.0) for _, share, _ in rows]
    axis.barh(names, kept, color=[WARM if error > 1e-6 else OURS for _, _, error in rows])
    for place, (_, share, error) in enumerate(rows):
        verdict = f"second derivative wrong by {error:.2g}" if error > 1e-6 else "second derivative right"
        axis.text(max(share, 0) + 0.06, place, f"{share:.3g} x, {verdict}", va="center")
    axis.set_xlim(0, max(kept) * 1.75)
    axis.invert_yaxis()
    axis.set_xlabel("kept for backward besides the logits, in sizes of the logits")
    axis.set_title("What does backward of a softmax cross-entropy keep?", loc="left", fontsize="medium")
    return save_figure(figure, path)


def memory_against_segments(panels: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Measured peaks on the predicted curve, a panel for each kind of block; the best number of segments is marked."""
    figure, axes = new_figure(7.0, 3.4, columns=len(panels))
    for axis, panel in zip(axes, panels, strict=True):
        axis.plot(panel["curve_at"], panel["curve"], color=BASELINE_COLOUR, linewidth=1.2)
        axis.plot(panel["segments"], panel["measured"], "o", color=OURS, markersize=5)
        axis.axhline(panel["plain"], color=WARM, linewidth=1, linestyle="--")
        axis.text(panel["segments"][-1] ** 0.5, panel["plain"], "no checkpoints", color=WARM, ha="center", va="bottom")
        best = panel["best"]
        low = panel["measured"][panel["segments"].index(best)]
        axis.annotate(
            f"k = {best}: ÷{panel['plain'] / low:.1f}", (best, low), xytext=(0, 22), textcoords="offset points",
            ha=panel["align"], arrowprops={"arrowstyle": "-", "color": OURS}, color=OURS,
        )  # fmt: skip
        axis.set_xscale("log", base=2)
        axis.set_xticks(panel["ticks"], [str(tick) for tick in panel["ticks"]])
        axis.set_ylim(0, panel["plain"] * 1.15)
        axis.set_xlabel("segments k")
        axis.set_title(panel["title"], loc="left", fontsize="medium")
    axes[0].set_ylabel("peak of activations, MB")
    figure.suptitle(
        "How many segments? Dots: measured; line: k b + ⌈n/k⌉ a, predicted", x=0.01, ha="left", fontsize="medium"
    )
    return save_figure(figure, path)


def transposed_copy(
    sizes: Sequence[int], ratios: Mapping[str, Sequence[float]], model: Mapping[str, Any], path: Path
) -> Path:
    """Cost of a transposed copy over a plain one: by size, beside what the cache model says of a plain loop."""
    figure, axis = new_figure(7.0, 3.6)
    for name in ("row by row", "in tiles"):
        axis.plot(model["sizes"], model[name], "s--", color="0.65", markersize=4, linewidth=1)
    for (_, values), colour in zip(ratios.items(), (OURS, WARM, BASELINE_COLOUR), strict=True):
        axis.plot(sizes, values, "o-", color=colour, markersize=5)
    labels = [
        (f"{name}: {values[-1]:.1f}×", values[-1], colour)
        for (name, values), colour in zip(ratios.items(), (OURS, WARM, BASELINE_COLOUR), strict=True)
    ]
    labels.append(("lines fetched, model: row by row", model["row by row"][-1], "0.5"))
    labels.append(("lines fetched, model: in tiles of 16 x 8", model["in tiles"][-1], "0.5"))
    lowest = 0.0
    for text, value, colour in sorted(labels, key=lambda label: label[1]):
        lowest = max(value, lowest * 1.3)
        axis.text(sizes[-1] * 1.15, lowest, text, color=colour, va="center")
    axis.set_xscale("log", base=2)
    axis.set_yscale("log", base=2)
    axis.set_xticks(sizes, [str(size) for size in sizes])
    axis.set_yticks([1, 2, 4, 8, 16, 32], ["1", "2", "4", "8", "16", "32"])
    axis.set_xlim(56, sizes[-1] * 24)
    axis.set_xlabel("n, of an n x n float32 matrix")
    axis.set_ylabel("times a plain copy")
    axis.set_title("What does it cost to copy a transpose?", loc="left", fontsize="medium")
    return save_figure(figure, path)


def dispatch_cost(sizes: Sequence[int], curves: Mapping[str, Sequence[float]], path: Path) -> Path:
    """Microseconds of one addition against its size, for each way to call it."""
    figure, axis = new_figure(7.0, 3.8)
    shades = [OURS, BASELINE_COLOUR, WARM, GREEN, "#6b46c1", "#b7791f"]
    order = sorted(curves, key=lambda name: curves[name][0])
    previous = 0.0
    for name, colour in zip(order, shades, strict=False):
        values = curves[name]
        axis.plot(sizes, values, "o-", color=colour, markersize=3, linewidth=1.2)
        place = max(values[0], previous * 1.45)  # labels keep their distance
        axis.text(sizes[0] * 0.75, place, f"{name}  {values[0]:.1f} µs", color=colour, ha="right", va="center")
        previous = place
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlim(sizes[0] / 5e3, sizes[-1] * 1.5)
    axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axis.set_yticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
    axis.minorticks_off()
    axis.set_xlabel("elements")
    axis.set_ylabel("µs a call")
    axis.set_title("What does a call cost before it computes anything?", loc="left", fontsize="medium")
    return save_figure(figure, path)


def rewrites(rows: Sequence[tuple[str, float, float]], path: Path) -> Path:
    """Bars: (rule, share of operations removed, share of programs that it breaks)."""
    figure, axis = new_figure(7.0, 2.2)
    places = list(range(len(rows)))
    axis.barh([place - 0.19 for place in places], [row[1] for row in rows], height=0.36, color=OURS)
    axis.barh([place + 0.19 for place in places], [row[2] for row in rows], height=0.36, color=WARM)
    for place, (_, removed, broken) in enumerate(rows):
        axis.text(removed + 0.005, place - 0.19, f"removes {removed:.0%} of operations", va="center", color=OURS)
        axis.text(broken + 0.005, place + 0.19, f"breaks {broken:.0%} of programs", va="center", color=WARM)
    axis.set_yticks(places, [row[0] for row in rows])
    axis.invert_yaxis()
    axis.set_xlim(0, max(max(row[1:]) for row in rows) * 1.7)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axis.set_title("When is the same expression the same value?", loc="left", fontsize="medium")
    return save_figure(figure, path)


def break_even(eager: float, compiled: float, startup: float, kernels: tuple[int, int], path: Path) -> Path:
    """Seconds spent after so many calls, eager and compiled; where the lines cross, compiling has paid."""
    figure, axis = new_figure(7.0, 3.2)
    calls = [10 ** (k / 8) for k in range(0, 49)]
    axis.plot(calls, [eager * n for n in calls], color=BASELINE_COLOUR)
    axis.plot(calls, [startup + compiled * n for n in calls], color=OURS)
    for loops, each, total, colour, side in (
        (kernels[0], eager, eager * calls[-1], "0.3", "bottom"),
        (kernels[1], compiled, startup + compiled * calls[-1], OURS, "top"),
    ):
        name = "eager" if side == "bottom" else "compiled"
        axis.text(calls[-1] * 1.2, total, f"{name}, loops: {loops},\n{each * 1e3:.2f} ms a call", color=colour, va=side)
    if eager > compiled:
        crossing = startup / (eager - compiled)
        axis.plot([crossing], [eager * crossing], "o", color=WARM)
        axis.annotate(
            f"pays after {crossing:,.0f} calls", (crossing, eager * crossing), xytext=(-8, 14),
            textcoords="offset points", ha="right", color=WARM,
        )  # fmt: skip
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_ylim(eager, eager * calls[-1] * 10)
    axis.set_xticks([10.0**k for k in range(7)])
    axis.set_xlim(1, calls[-1] * 60)
    axis.minorticks_off()
    axis.set_xlabel("calls")
    axis.set_ylabel("seconds in all")
    axis.set_title(f"When has compiling paid? The first call takes {startup:.1f} s", loc="left", fontsize="medium")
    return save_figure(figure, path)


def graphs(rows: Sequence[tuple[str, int, int]], path: Path) -> Path:
    """Bars: (what stands in the way, graphs with it, graphs without it)."""
    figure, axis = new_figure(7.0, 2.4)
    places = list(range(len(rows)))
    axis.barh([place - 0.19 for place in places], [row[1] for row in rows], height=0.36, color=WARM)
    axis.barh([place + 0.19 for place in places], [row[2] for row in rows], height=0.36, color=OURS)
    for place, (_, before, after) in enumerate(rows):
        axis.text(before + 0.03, place - 0.19, f"{before} graphs", va="center", color=WARM)
        axis.text(after + 0.03, place + 0.19, f"{after} graph, rewritten", va="center", color=OURS)
    axis.set_yticks(places, [row[0] for row in rows])
    axis.set_xticks(range(max(row[1] for row in rows) + 1))
    axis.set_xlim(0, max(row[1] for row in rows) + 0.6)
    axis.invert_yaxis()
    axis.set_xlabel("graphs that torch.compile captures in one call")
    axis.set_title("What breaks a graph, and is it gone after rewriting?", loc="left", fontsize="medium")
    return save_figure(figure, path)


def roofline(points: Sequence[tuple[str, float, float]], machine: Mapping[str, float], path: Path) -> Path:
    """Measured operations, (label, intensity, flops per second), under the roof of `machine`."""
    figure, axis = new_figure(7.0, 3.8)
    peak, bandwidth = machine["peak"], machine["bandwidth"]
    corner = peak / bandwidth
    low, high = min(point[1] for point in points) / 2, max(max(point[1] for point in points), corner) * 3
    axis.plot([low, corner, high], [low * bandwidth / 1e9, peak / 1e9, peak / 1e9], color=BASELINE_COLOUR)
    axis.text(low * 1.15, low * bandwidth / 1e9 * 1.9, f"{bandwidth / 1e9:.1f} GB/s", rotation=27, color="0.35")
    axis.text(high, peak / 1e9 * 1.12, f"{peak / 1e9:.0f} GFLOP/s", ha="right", color="0.35")
    axis.axvline(corner, color="0.85", zorder=0)
    axis.text(corner * 1.06, min(point[2] for point in points) / 1e9, f"ridge: {corner:.1f} flops a byte", color="0.35")
    for label, intensity, rate in points:
        axis.plot(intensity, rate / 1e9, "o", color=OURS if label.startswith("m") else WARM, markersize=5)
        axis.annotate(label, (intensity, rate / 1e9), xytext=(5, -10), textcoords="offset points", fontsize="small")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("intensity, flops a byte")
    axis.set_ylabel("GFLOP/s")
    axis.set_title("What limits a product with m rows, memory or arithmetic?", loc="left", fontsize="medium")
    return save_figure(figure, path)
