"""The figures of M12: drawing only, every number comes from experiments.py."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from llmm.figures import BASELINE_COLOUR, GREEN, OURS, WARM, new_figure, save_figure


def mask_laws(
    rows: Mapping[str, Mapping[str, float]],
    resampled: Mapping[str, Mapping[int, Sequence[float]]],
    noise: float,
    path: Path,
) -> Path:
    """Total variation of the masked law by language; beside it what choosing among several draws by weight leaves."""
    figure, (left, right) = new_figure(8.5, 3.6, columns=2)
    names = list(rows)[::-1]
    left.barh(names, [rows[name]["variation"] for name in names], color=OURS, height=0.55)
    left.set_xlabel("total variation from the model's own law")
    left.set_title("How far off is the masked law?", loc="left", fontsize="medium")
    for name, colour in (("ends in 37", OURS), ("ends in 0 or 5", WARM)):
        for i in range(3):
            points = [values[i] for values in resampled[name].values()]
            right.plot(list(resampled[name]), points, "o-", color=colour, markersize=3, linewidth=0.8)
        ends = next(iter(resampled[name].values()))
        right.annotate(name, (1, max(ends)), (6, 4), textcoords="offset points", color=colour, fontsize=8)
    right.axhline(noise, color=BASELINE_COLOUR, linewidth=0.8, linestyle="--")
    right.text(64, noise, "as many exact draws", color=BASELINE_COLOUR, ha="right", va="bottom", fontsize=8)
    counts = list(next(iter(resampled.values())))
    right.set_xscale("log", base=2)
    right.set_xticks(counts, [str(count) for count in counts])
    right.set(xlabel="masked draws that one is chosen from, by weight", ylim=(0, None), ylabel="total variation")
    right.set_title("Do the weights mend it?", loc="left", fontsize="medium")
    return save_figure(figure, path)


def mask_cost(rows: Sequence[Mapping[str, float]], path: Path) -> Path:
    """Edges followed for the mask of one state against the size of the vocabulary, both ways."""
    figure, axes = new_figure(height=3.4)
    sizes = [row["vocabulary"] for row in rows]
    for key, colour, label in (("alone", BASELINE_COLOUR, "token by token"), ("together", OURS, "along the tree")):
        values = [row[key] for row in rows]
        axes.plot(sizes, values, "o-", color=colour, markersize=4)
        axes.annotate(label, (sizes[-1], values[-1]), (8, 0), textcoords="offset points", color=colour, va="center")
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
    axes.set(xlabel="tokens in the vocabulary", ylabel="edges followed for a state", ylim=(0, None))
    axes.set_xlim(sizes[0] * 0.9, sizes[-1] * 1.9)
    axes.set_title("What does the mask of one state cost?", loc="left", fontsize="medium")
    return save_figure(figure, path)


def learning_to_call(steps: Sequence[int], curves: Mapping[str, Sequence[Sequence[float]]], path: Path) -> Path:
    """Shares of valid and of exact calls against steps of training, a line for each seed."""
    figure, axes = new_figure(height=3.6)
    labels = {"valid": "valid, no grammar", "masked": "exact, grammar", "exact": "exact, no grammar"}
    colours = {"valid": BASELINE_COLOUR, "masked": OURS, "exact": WARM}
    for place, (name, label) in enumerate(labels.items()):
        for values in curves[name]:
            axes.plot(steps, [100 * value for value in values], "o-", color=colours[name], markersize=3, linewidth=0.9)
        axes.text(0.98, 0.22 - 0.08 * place, label, color=colours[name], transform=axes.transAxes, ha="right")
    axes.set(xlabel="steps of training", ylabel="% of held-out tasks", ylim=(-3, 103))
    axes.set_title("What is learnt first, the form of a call or its content?", loc="left", fontsize="medium")
    return save_figure(figure, path)


def reliable(
    curves: Mapping[float, Sequence[Sequence[float]]], alike: Mapping[float, Sequence[Sequence[float]]], path: Path
) -> Path:
    """pass^k against k, each seed a line, beside what equally hard tasks would give."""
    figure, axes = new_figure(height=3.6)
    for (temperature, runs), colour in zip(curves.items(), (OURS, WARM), strict=True):
        ks = range(1, len(runs[0]) + 1)
        for values, powers in zip(runs, alike[temperature], strict=True):
            axes.plot(ks, [100 * value for value in values], "o-", color=colour, markersize=3, linewidth=0.9)
            axes.plot(ks, [100 * value for value in powers], "--", color=colour, linewidth=0.7)
        mean = 100 * float(np.mean([values[-1] for values in runs]))
        label = f"temperature {temperature:g}"
        axes.annotate(label, (ks[-1], mean), (8, 0), textcoords="offset points", color=colour, va="center", fontsize=8)
    axes.text(0.02, 0.04, "dashed: if all tasks were equally hard", transform=axes.transAxes, fontsize=8)
    axes.set(xlabel="attempts k, all of which are right", ylabel="pass^k, %", ylim=(0, 103), xlim=(0.8, 10.2))
    axes.set_title("Right once, or right every time?", loc="left", fontsize="medium")
    return save_figure(figure, path)


def injection(rates: Mapping[float, Mapping[str, Sequence[float]]], path: Path) -> Path:
    """Orders in notes that are obeyed, without and with a guard, by what the agent was trained on; a point a seed."""
    figure, axes = new_figure(height=3.2)
    titles = ("trained on harmless notes", "trained on notes with orders, not obeyed")
    rows = [(share, name) for share in rates for name in ("obeyed", "guarded", "useful")][::-1]
    labels = {"obeyed": "orders obeyed", "guarded": "the same, behind a guard", "useful": "harmless notes read out"}
    for place, (share, name) in enumerate(rows):
        colour = {"obeyed": WARM, "guarded": OURS, "useful": GREEN}[name]
        axes.plot([100 * value for value in rates[share][name]], [place] * len(rates[share][name]), "o", color=colour)
    axes.set_yticks(range(len(rows)), [labels[name] for _, name in rows])
    axes.axhline(2.5, color=BASELINE_COLOUR, linewidth=0.6)
    for title, height in zip(titles, (5.45, 2.45), strict=True):
        axes.text(50, height, title, ha="center", va="top", fontsize=8, color=BASELINE_COLOUR)
    axes.set(xlabel="% of the notes", xlim=(-3, 103), ylim=(-0.6, 5.7))
    axes.set_title("Does the agent obey what it reads?", loc="left", fontsize="medium")
    return save_figure(figure, path)


def worth_calling(gains: Mapping[str, Sequence[float]], path: Path) -> Path:
    """How the gain is distributed for the right call, another question's and one that fails."""
    figure, axes = new_figure(height=3.2)
    labels = {"right": "the right call", "wrong": "another question's call", "empty": "a call that fails"}
    colours = {"right": OURS, "wrong": WARM, "empty": BASELINE_COLOUR}
    for place, (name, values) in enumerate(gains.items()):
        ordered = np.sort(values)
        axes.step(ordered, 100 * np.arange(1, len(ordered) + 1) / len(ordered), color=colours[name], where="post")
        axes.text(0.98, 0.26 - 0.09 * place, labels[name], color=colours[name], transform=axes.transAxes, ha="right")
    axes.axvline(1, color=BASELINE_COLOUR, linewidth=0.7, linestyle="--")
    axes.set(xlabel="gain in nats: by how much the result lowers the loss of the answer", ylabel="% of calls with less")
    axes.set_title("Does the loss of the answer know a right call?", loc="left", fontsize="medium")
    return save_figure(figure, path)
