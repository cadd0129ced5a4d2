"""The figures of M13: drawing only, every number comes from experiments.py."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from llmm.figures import BASELINE_COLOUR, DARK, GREEN, OURS, WARM, new_figure, save_figure

Runs = Sequence[Sequence[float]]


def votes(
    voted: Mapping[int, Sequence[float]],
    majority: Mapping[int, Sequence[float]],
    predicted: Mapping[str, Mapping[int, Sequence[float]]],
    greedy: Sequence[float],
    path: Path,
) -> Path:
    """The vote, the share of majorities that are right and two predictions of it, a panel for each seed."""
    figure, panels = new_figure(9.5, 3.6, columns=len(greedy))
    counts = list(voted)
    for seed, axes in enumerate(panels):
        lines = (
            ("the vote", voted, OURS, "o-"),
            ("more than half right", majority, GREEN, "s-"),
            *(
                (f"{way} voters", of, WARM, style)
                for (way, of), style in zip(predicted.items(), (":", "--"), strict=True)
            ),
        )
        for label, of, colour, style in lines:
            values = [100 * of[n][seed] for n in counts]
            axes.plot(counts, values, style, color=colour, markersize=3.5, linewidth=1.2, label=label)
        axes.axhline(100 * greedy[seed], color=BASELINE_COLOUR, linewidth=0.8, label="one attempt, not drawn")
        axes.set_xscale("log")
        axes.set_xticks(counts, [str(n) for n in counts])
        axes.minorticks_off()
        axes.set(xlabel="attempts that vote", ylim=(0, 103))
        axes.set_title(f"seed {seed}", loc="left", fontsize="medium")
    panels[0].set_ylabel("% of the errands right")
    panels[-1].legend(frameon=False, fontsize=8, loc="lower right")
    return save_figure(figure, path)


def debates(
    right: Runs, voted: Runs, agree: Runs, copying: Sequence[float], same_tokens: Sequence[float], path: Path
) -> Path:
    """Right answers, right votes and agreement against rounds of listening, each seed a line."""
    figure, (left, beside) = new_figure(8.5, 3.6, columns=2)
    rounds = range(len(copying))
    for runs, colour, label, height in ((right, OURS, "an answer", 0.95), (voted, GREEN, "the vote of three", 0.89)):
        for values in runs:
            left.plot(rounds, [100 * value for value in values], "o-", color=colour, markersize=3, linewidth=0.9)
        left.text(0.98, height, label, color=colour, transform=left.transAxes, ha="right", fontsize=8)
    mean = 100 * float(np.mean(same_tokens))
    left.axhline(mean, color=BASELINE_COLOUR, linewidth=0.8)
    left.text(3, mean + 1, "vote of first speakers, same tokens", color=BASELINE_COLOUR, fontsize=8, ha="right")
    left.set(xlabel="rounds of listening", ylabel="% right", xticks=list(rounds), ylim=(0, 118))
    left.set_title("Do they become right?", loc="left", fontsize="medium")
    for values in agree:
        beside.plot(rounds, [100 * value for value in values], "o-", color=OURS, markersize=3, linewidth=0.9)
    beside.plot(rounds, [100 * value for value in copying], "--", color=WARM, linewidth=1)
    beside.text(0.98, 0.95, "the team", color=OURS, transform=beside.transAxes, ha="right", fontsize=8)
    beside.text(0.98, 0.89, "debaters who copy", color=WARM, transform=beside.transAxes, ha="right", fontsize=8)
    beside.set(xlabel="rounds of listening", ylabel="% of pairs that agree", xticks=list(rounds), ylim=(0, 118))
    beside.set_title("Or only of one mind?", loc="left", fontsize="medium")
    return save_figure(figure, path)


def equal_budgets(
    within: Mapping[str, Mapping[float, Sequence[bool]]], labels: Mapping[str, Mapping[str, float]], path: Path
) -> Path:
    """What is done right within each budget, by system; and which labels their failures have."""
    figure, (left, right) = new_figure(10, 4.0, columns=2)
    colours = (BASELINE_COLOUR, "0.65", "0.8", OURS, WARM, GREEN)
    for (name, of), colour in zip(within.items(), colours, strict=True):
        budgets = list(of)
        values = [100 * float(np.mean(of[budget])) for budget in budgets]
        left.plot(budgets, values, "o-", color=colour, markersize=3.5, linewidth=1.2, label=name)
    left.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)
    left.set(xlabel="budget, in tokens of one agent", ylabel="% of the messages right", ylim=(0, 100))
    left.set_title("Who does most within a budget?", loc="left", fontsize="medium")
    rules = list(next(iter(labels.values())))
    shares = np.array([[of[rule] for rule in rules] for of in labels.values()])
    right.imshow(shares, cmap="Blues", vmin=0, vmax=1.3, aspect="auto")
    right.set_xticks(range(len(rules)), rules, rotation=35, ha="right", fontsize=8)
    right.set_yticks(range(len(labels)), list(labels), fontsize=8)
    for row, of in enumerate(shares):
        for column, share in enumerate(of):
            colour = "white" if share > 0.75 else DARK
            right.text(column, row, f"{share:.0%}", ha="center", va="center", fontsize=7, color=colour)
    for side in ("left", "bottom"):
        right.spines[side].set_visible(False)
    right.tick_params(length=0)
    right.set_title("What is wrong with what is not right?", loc="left", fontsize="medium")
    return save_figure(figure, path)


def longer_tasks(
    lengths: Sequence[int], shares: Mapping[str, Runs], tokens: Mapping[str, Sequence[float]], path: Path
) -> Path:
    """Messages done right and tokens read and written, against the number of errands."""
    figure, (left, right) = new_figure(8.5, 3.6, columns=2)
    for place, ((name, runs), colour) in enumerate(zip(shares.items(), (BASELINE_COLOUR, OURS, GREEN), strict=True)):
        for values in runs:
            left.plot(lengths, [100 * value for value in values], "o-", color=colour, markersize=3, linewidth=0.9)
        left.text(0.03, 0.2 - 0.07 * place, name, color=colour, transform=left.transAxes, fontsize=8)
        right.plot(lengths, tokens[name], "o-", color=colour, markersize=3.5, linewidth=1.2)
    left.axvspan(4.5, lengths[-1] + 0.3, color="0.95", zorder=0)
    left.text(4.6, 97, "not in training", fontsize=8, color="0.4")
    left.set(xlabel="errands in the message", ylabel="% of the messages right", ylim=(0, 103), xticks=list(lengths))
    left.set_title("Who copes with longer messages?", loc="left", fontsize="medium")
    right.set(xlabel="errands in the message", ylabel="tokens read and written", ylim=(0, None), xticks=list(lengths))
    right.set_title("And at which price?", loc="left", fontsize="medium")
    return save_figure(figure, path)


def injected_faults(
    shares: Mapping[str, Mapping[float, Sequence[float]]],
    tokens: Mapping[str, Mapping[float, Sequence[float]]],
    path: Path,
) -> Path:
    """Messages done right, and tokens for them, against the share of calls that fail."""
    figure, (left, right) = new_figure(8.5, 3.6, columns=2)
    for (name, of), colour in zip(shares.items(), (BASELINE_COLOUR, WARM, OURS), strict=True):
        rates = [100 * rate for rate in of]
        for points in zip(*of.values(), strict=True):
            left.plot(rates, [100 * value for value in points], "o-", color=colour, markersize=3, linewidth=0.9)
        means = [float(np.mean(values)) for values in tokens[name].values()]
        right.plot(rates, means, "o-", color=colour, markersize=3.5, linewidth=1.2)
        _at_end(right, rates[-1], means[-1], name, colour)
    left.set(xlabel="% of the calls that fail", ylabel="% of the messages right", ylim=(0, 103))
    left.set_title("What is left when tools fail?", loc="left", fontsize="medium")
    right.set(xlabel="% of the calls that fail", ylabel="tokens read and written", ylim=(0, None), xlim=(-2, 62))
    right.set_title("And at which price?", loc="left", fontsize="medium")
    return save_figure(figure, path)


def lost_letters(
    faults: Mapping[str, Mapping[str, Sequence[float]]],
    asked: Mapping[float, Sequence[float]],
    predicted: Mapping[float, float],
    path: Path,
) -> Path:
    """Schedules that end badly, by protocol; and rounds against the share of letters lost."""
    figure, (left, right) = new_figure(8.5, 3.4, columns=2)
    kinds = list(next(iter(faults.values())))
    names = list(faults)[::-1]
    for place, (kind, colour) in enumerate(zip(kinds, (BASELINE_COLOUR, WARM, OURS), strict=True)):
        places = [row + 0.25 * (1 - place) for row in range(len(names))]
        left.barh(places, [100 * float(np.mean(faults[name][kind])) for name in names], 0.22, color=colour, label=kind)
    left.set_yticks(range(len(names)), names)
    left.legend(frameon=False, fontsize=8, loc="upper right")
    left.set(xlabel="% of the schedules", xlim=(0, 103))
    left.set_title("Which part keeps which promise?", loc="left", fontsize="medium")
    losses = [100 * lost for lost in predicted]
    right.plot(losses, list(predicted.values()), "-", color=WARM, linewidth=1)
    for lost, values in asked.items():
        right.plot([100 * lost] * len(values), values, "o", color=OURS, markersize=4)
    right.text(0.03, 0.92, "measured", color=OURS, transform=right.transAxes, fontsize=8)
    right.text(0.03, 0.84, "predicted", color=WARM, transform=right.transAxes, fontsize=8)
    right.set(xlabel="% of the letters that get lost", ylabel="times that it asks", ylim=(0, None))
    right.set_title("How often must the coordinator ask?", loc="left", fontsize="medium")
    return save_figure(figure, path)


def _at_end(axes: object, x: float, y: float, text: str, colour: str) -> None:
    axes.annotate(text, (x, y), (8, 0), textcoords="offset points", color=colour, va="center", fontsize=8)  # type: ignore[attr-defined]
