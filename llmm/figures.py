"""One look for all figures, and the same bytes for the same numbers."""

from pathlib import Path
from typing import Any

from llmm.files import atomic_path

OURS = "#2b6cb0"
BASELINE_COLOUR = "0.45"
WARM, GREEN, DARK = "#c05621", "#2f855a", "0.15"  # for what is neither ours nor a baseline
STYLE: Any = {
    "svg.hashsalt": "llmm",  # matplotlib's ids are random without it
    "svg.fonttype": "none",  # text stays text: small files, and searchable
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": "medium",
    "axes.titlelocation": "left",
    "figure.constrained_layout.use": True,
}


def new_figure(width: float = 7.0, height: float = 4.0, columns: int = 1) -> tuple[Any, Any]:
    """A figure of page width with one Axes, or an array of `columns` of them."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        return plt.subplots(1, columns, figsize=(width, height))


def save_figure(figure: Any, path: Path) -> Path:
    """Write the figure as `path` says (.svg or .png), without a date in it, and close it."""
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE), atomic_path(path) as temporary:
        metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
        figure.savefig(temporary, format=path.suffix[1:], metadata=metadata, dpi=150)
    plt.close(figure)
    return path
