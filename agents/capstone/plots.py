"""The figures of M14: drawing only, every number comes from experiments.py."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from agents.capstone.block_quantization import relative_noise
from llmm.figures import BASELINE_COLOUR, DARK, GREEN, OURS, WARM, new_figure, save_figure


def batch_sizes(
    steps: Mapping[str, Mapping[int, Sequence[float]]],
    perfect: Mapping[int, Sequence[float]],
    tokens_a_second: Mapping[int, Sequence[float]],
    predicted: Mapping[int, float],
    path: Path,
) -> Path:
    """Steps against rows by way of batching, and tokens a second beside what single steps and readings say."""
    figure, (left, right) = new_figure(9, 3.8, columns=2)
    rows = list(perfect)
    for label, of, colour, style in (
        ("whole batches", steps["whole"], WARM, "s-"),
        ("continuous", steps["continuous"], OURS, "o-"),
        ("no row ever idle", perfect, BASELINE_COLOUR, ":"),
    ):
        left.plot(rows, [np.mean(of[n]) for n in rows], style, color=colour, markersize=4, linewidth=1.2, label=label)
    left.set_yscale("log")
    ticks = [125, 250, 500, 1000, 2000, 4000]
    left.set_yticks(ticks, [f"{tick:,}" for tick in ticks])
    left.set(xlabel="rows", ylabel="steps for 128 answers")
    left.set_title("Who waits for the longest?", loc="left", fontsize="medium")
    left.legend(frameon=False, fontsize=8)
    for seed in range(len(tokens_a_second[1])):
        right.plot(rows, [tokens_a_second[n][seed] for n in rows], "o", color=OURS, markersize=4)
    right.plot(rows, [predicted[n] for n in rows], "--", color=DARK, linewidth=1)
    right.text(0.98, 0.06, "-- by the law, from single steps", transform=right.transAxes, ha="right", fontsize=8)
    right.set(xlabel="rows", ylabel="tokens a second, continuous", ylim=(0, None))
    right.set_title("What do more rows gain?", loc="left", fontsize="medium")
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(rows, [str(n) for n in rows])
        axes.minorticks_off()
    return save_figure(figure, path)


def waiting(
    capacity: Mapping[int, float],
    found: Mapping[int, Mapping[float, Mapping[str, Sequence[float]]]],
    law: Mapping[int, Mapping[float, float]],
    path: Path,
) -> Path:
    """Mean, p50 and p95 against questions a second, one row and many, beside the law of the mean."""
    figure, axes = new_figure(7.5, 4.2)
    for (rows, by_load), colour in zip(found.items(), (WARM, OURS), strict=True):
        rates = [load * capacity[rows] for load in by_load]
        for name, style, wide in (("p95", "^-", 1.2), ("mean", "o", 0), ("p50", "v-", 0.8)):
            values = [np.mean(of[name]) for of in by_load.values()]
            label = f"{name}, {rows} row{'s' * (rows > 1)}"
            axes.plot(rates, values, style, color=colour, markersize=4, linewidth=wide, label=label)
        axes.plot(rates, list(law[rows].values()), "--", color=DARK, linewidth=1)
        axes.axvline(capacity[rows], color=colour, linewidth=0.6, linestyle=":")
    axes.plot([], [], "--", color=DARK, linewidth=1, label="mean by the law")
    axes.set_yscale("log")
    axes.set(xlabel="questions a second (dotted: all that the server can do)", ylabel="seconds from question to end")
    axes.legend(frameon=False, fontsize=8, loc="upper center", ncols=2)
    return save_figure(figure, path)


def histories(read: Mapping[str, Sequence[int]], first: Mapping[str, Sequence[float]], path: Path) -> Path:
    """Tokens read and milliseconds to the first token, turn by turn, with the memory and without."""
    figure, (left, right) = new_figure(8.5, 3.6, columns=2)
    for way, colour in (("anew", WARM), ("remembered", OURS)):
        turns = range(1, len(read[way]) + 1)
        left.plot(turns, read[way], "o-", color=colour, markersize=3.5, linewidth=1.2, label=way)
        right.plot(turns, [1e3 * value for value in first[way]], "o-", color=colour, markersize=3.5, linewidth=1.2)
    left.set(xlabel="turns", ylabel="tokens read so far", ylim=(0, None))
    left.set_title("How much is read?", loc="left", fontsize="medium")
    left.legend(frameon=False, fontsize=8)
    right.set(xlabel="turns", ylabel="ms to the first token", ylim=(0, None))
    right.set_title("How long until it answers?", loc="left", fontsize="medium")
    return save_figure(figure, path)


def regressions(
    caught: Mapping[int, Mapping[float, Sequence[float]]],
    predicted: Mapping[int, Mapping[float, float]],
    unpaired: Mapping[float, float],
    path: Path,
) -> Path:
    """Gates that fail against the size of the loss."""
    figure, axes = new_figure(7.0, 4.0)
    for (figures, of), colour in zip(caught.items(), (GREEN, OURS), strict=True):
        losses = [100 * loss for loss in of]
        for seed in range(len(next(iter(of.values())))):
            axes.plot(losses, [100 * values[seed] for values in of.values()], "o", color=colour, markersize=3.5)
        law = [100 * value for value in predicted[figures].values()]
        words = "one figure alone" if figures == 1 else f"one of {figures} figures"
        axes.plot(losses, law, "-", color=colour, linewidth=1.2, label=f"{words}: power, and gates that failed")
    losses = [100 * loss for loss in unpaired]
    values = [100 * value for value in unpaired.values()]
    axes.plot(losses, values, "--", color=WARM, linewidth=1.2, label="one of 19, two rates compared: power")
    axes.axhline(80, color=BASELINE_COLOUR, linewidth=0.6)
    axes.set(xlabel="items lost, % of all 200", ylabel="% of the gates that fail", ylim=(-2, 103))
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return save_figure(figure, path)


def fewer_bits(
    full: Sequence[float],
    exact: Mapping[int, Sequence[float]],
    noise: Mapping[int, Sequence[float]],
    path: Path,
) -> Path:
    """Exact calls and noise against bits a weight."""
    figure, (left, right) = new_figure(8.5, 3.6, columns=2)
    bits = list(exact)
    for seed in range(len(full)):
        left.plot(bits, [100 * exact[b][seed] for b in bits], "o-", color=OURS, markersize=3.5, linewidth=0.9)
    left.axhline(100 * float(np.mean(full)), color=BASELINE_COLOUR, linewidth=0.8)
    left.text(7.5, 100 * float(np.mean(full)) + 3, "32 bits", color=BASELINE_COLOUR, fontsize=8)
    left.set(xlabel="bits a weight", ylabel="% of the calls exact", ylim=(0, 108))
    left.set_title("Is it still the same agent?", loc="left", fontsize="medium")
    for seed in range(len(full)):
        right.plot(bits, [noise[b][seed] for b in bits], "o", color=OURS, markersize=3.5)
    right.plot(bits, [relative_noise(b) for b in bits], "--", color=DARK, linewidth=1)
    right.text(0.98, 0.05, "-- normal weights, by the law", transform=right.transAxes, ha="right", fontsize=8)
    right.set_yscale("log")
    right.set(xlabel="bits a weight", ylabel="noise, of the weights' own size")
    right.set_title("How much is rounded off?", loc="left", fontsize="medium")
    for axes in (left, right):
        axes.invert_xaxis()
        axes.set_xticks(bits)
    return save_figure(figure, path)
