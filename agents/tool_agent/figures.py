"""The figure of the agent's evaluation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmm.files import atomic_path

_GREYS = {"agent": "#1f4e79", "regex_router": "#7f9fbf", "no_tools": "#b8b8b8", "random_weights": "#dddddd"}


def draw_rates(metrics: Mapping[str, Mapping[str, Any]], systems: Sequence[str], path: Path) -> Path:
    """Bars of exact calls by suite and system with their intervals, written as SVG to `path`."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with matplotlib.rc_context({"svg.hashsalt": "llmm", "svg.fonttype": "none", "font.size": 9}):
        figure, axes = plt.subplots(figsize=(8, 3.6))
        width = 0.8 / len(systems)
        for position, (_, suite) in enumerate(metrics.items()):
            for order, system in enumerate(systems):
                rate = suite[system]["exact"]
                x = position + (order - (len(systems) - 1) / 2) * width
                axes.bar(x, 100 * rate["rate"], width * 0.92, color=_GREYS[system])
                axes.plot([x, x], [100 * rate["low"], 100 * rate["high"]], color="black", linewidth=0.8)
                axes.text(x, 100 * rate["high"] + 1.5, f"{100 * rate['rate']:.0f}", ha="center", fontsize=8)
        for system in systems:
            axes.bar(0, 0, color=_GREYS[system], label=system.replace("_", " "))
        axes.set_xticks(
            range(len(metrics)),
            [f"{name.replace('_', ' ')}\n{suite['tasks']} tasks" for name, suite in metrics.items()],
        )
        axes.set_ylabel("exact calls, % (95% interval)")
        axes.set_ylim(0, 112)
        axes.set_yticks(range(0, 101, 25))
        axes.set_title("How often does the agent make exactly the right calls?", loc="left")
        axes.legend(frameon=False, ncols=len(systems), loc="upper center", bbox_to_anchor=(0.5, -0.18))
        axes.spines[["top", "right"]].set_visible(False)
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="svg", bbox_inches="tight", metadata={"Date": None})
        plt.close(figure)
    return path
