"""The figure of the agent's evaluation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmm.figures import OURS, new_figure, save_figure

_COLOURS = {"agent": OURS, "regex_router": "0.55", "no_tools": "0.75", "random_weights": "0.87"}


def draw_rates(metrics: Mapping[str, Mapping[str, Any]], systems: Sequence[str], path: Path) -> Path:
    """Bars of exact calls by suite and system with their intervals, written to `path`."""
    figure, axes = new_figure(8, 3.6)
    width = 0.8 / len(systems)
    for position, suite in enumerate(metrics.values()):
        for order, system in enumerate(systems):
            rate = suite[system]["exact"]
            x = position + (order - (len(systems) - 1) / 2) * width
            axes.bar(x, 100 * rate["rate"], width * 0.92, color=_COLOURS[system])
            axes.plot([x, x], [100 * rate["low"], 100 * rate["high"]], color="0.25", linewidth=0.8)
            axes.text(x, 100 * rate["high"] + 1.5, f"{100 * rate['rate']:.0f}", ha="center", fontsize=8)
    for system in systems:
        axes.bar(0, 0, color=_COLOURS[system], label=system.replace("_", " "))
    axes.set_xticks(
        range(len(metrics)), [f"{name.replace('_', ' ')}\n{suite['tasks']} tasks" for name, suite in metrics.items()]
    )
    axes.set_ylabel("exact calls, % (95% interval)")
    axes.set_ylim(0, 112)
    axes.set_yticks(range(0, 101, 25))
    axes.set_title("How often does the agent make exactly the right calls?", loc="left", fontsize="medium")
    figure.legend(frameon=False, ncols=len(systems), loc="outside lower center")
    return save_figure(figure, path)
