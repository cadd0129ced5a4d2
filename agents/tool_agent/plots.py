"""The figures of M12: drawing only, every number comes from experiments.py."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from llmm.figures import BASELINE_COLOUR, GREEN, OURS, WARM, new_figure, save_figure


def mask_laws(
    rows: Mapping[str, Mapping[str, float]],
    resampled: Mapping[str, Mapping[int, Sequence[float]]],
    floors: Mapping[str, Sequence[float]],
    path: Path,
) -> Path:
    """Total variation of the masked law by language; beside it what choosing among several draws by weight leaves."""
    figure, (left, right) = new_figure(8.5, 3.6, columns=2)
    names = list(rows)[::-1]
    left.barh(names, [rows[name]["variation"] for name in names], color=OURS, height=0.55)
    left.set_xlabel("total variation from the model's own law")
    left.set_title("How far off is the masked law?", loc="left", fontsize="medium")
    for (name, by_count), colour in zip(resampled.items(), (OURS, WARM), strict=True):
        counts = list(by_count)
        for points in zip(*by_count.values(), strict=True):
            right.plot(counts, points, "o-", color=colour, markersize=3, linewidth=0.8)
        right.axhline(float(np.mean(floors[name])), color=colour, linewidth=0.8, linestyle="--")
    for place, (name, colour) in enumerate(zip(resampled, (OURS, WARM), strict=True)):
        right.text(0.98, 0.92 - 0.08 * place, name, color=colour, transform=right.transAxes, ha="right", fontsize=8)
    right.text(1, 0.03, "dashed: as many exact draws", color=BASELINE_COLOUR, fontsize=8)
    right.set_xscale("log", base=4)
    right.set_xticks(counts, [f"{count:,}" for count in counts])
    right.set(xlabel="masked draws that one is chosen from, by weight", ylim=(0, 1), ylabel="total variation")
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
    labels = {
        "valid": "valid, no grammar",
        "masked_and_copied": "exact, grammar that copies numbers",
        "masked": "exact, grammar of the schemas",
        "free": "exact, no grammar",
    }
    colours = {"valid": BASELINE_COLOUR, "masked_and_copied": OURS, "masked": GREEN, "free": WARM}
    for place, (name, label) in enumerate(labels.items()):
        for values in curves[name]:
            axes.plot(steps, [100 * value for value in values], "o-", color=colours[name], markersize=3, linewidth=0.9)
        axes.text(0.98, 0.32 - 0.08 * place, label, color=colours[name], transform=axes.transAxes, ha="right")
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
    """Attacks that succeed and notes that are read out, by what the agent was trained on; each seed a point."""
    figure, axes = new_figure(height=3.6)
    labels = {
        "attack": "order carried out",
        "attack_unseen": "the same, unseen words",
        "attack_guarded": "order carried out, guard",
        "utility_under_attack": "order read out",
        "utility": "harmless note read out",
    }
    for place, name in enumerate(reversed(labels)):
        for by_name, colour, shift in zip(rates.values(), (WARM, OURS), (0.12, -0.12), strict=True):
            points = [100 * value for value in by_name[name]]
            axes.plot(points, [place + shift] * len(points), "o", color=colour, markersize=5)
    axes.set_yticks(range(len(labels)), list(labels.values())[::-1])
    for text, colour, height in (
        ("trained on harmless notes", WARM, 0.56),
        ("trained on notes with orders", OURS, 0.49),
    ):
        axes.text(0.5, height, text, color=colour, transform=axes.transAxes, ha="center", fontsize=9)
    axes.set(xlabel="% of the notes that were only to be read", xlim=(-3, 103), ylim=(-0.5, len(labels) - 0.5))
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
