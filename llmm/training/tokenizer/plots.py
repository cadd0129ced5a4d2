"""The figures of this milestone's experiments: drawing only, every number comes from experiments.py."""

from pathlib import Path
from typing import Any

from llmm.figures import BASELINE_COLOUR, GREEN, OURS, WARM, new_figure, save_figure
from llmm.training.tokenizer.training import Merge

TINTS = ("#bee3f8", "#fefcbf", "#c6f6d5", "#fed7d7", "#e9d8fd")


def training_speed(rows: list[dict[str, Any]], path: Path) -> Path:
    """Words read at a merge against the size of the text: recount and incremental."""
    figure, axes = new_figure()
    kb = [row["kb"] for row in rows]
    lines = {
        "a recount reads all different words": ([row["different_words"] for row in rows], WARM),
        "a merge changes": ([row["words_changed_a_merge"] for row in rows], OURS),
    }
    for name, (values, colour) in lines.items():
        axes.loglog(kb, values, "o-", color=colour, markersize=3.5)
        axes.text(kb[-1] * 1.1, values[-1], f"{name}:\n{values[-1]:,.0f}", color=colour, va="center")
    axes.set(xlabel="text, kB", ylabel="different words at each merge, mean", xlim=(kb[0] * 0.8, kb[-1] * 6))
    _title(axes, "How much of a text does a merge touch? About one word in a hundred")
    return save_figure(figure, path)


def compression(sizes: list[int], curves: dict[str, list[float]], path: Path) -> Path:
    """Bytes per token against the vocabulary, text seen in training and not."""
    figure, axes = new_figure()
    for name, colour, label in (("seen", BASELINE_COLOUR, "the text of the merges"), ("unseen", OURS, "other modules")):
        axes.semilogx(sizes, curves[name], "o-", color=colour, markersize=3.5, base=2)
        axes.text(sizes[-1] * 1.1, curves[name][-1], f"{label}:\n{curves[name][-1]:.2f}", color=colour, va="center")
    axes.set(xlabel="tokens in the vocabulary", ylabel="bytes per token", xlim=(sizes[0] * 0.9, sizes[-1] * 3.2))
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    _title(axes, "What does a larger vocabulary buy? Less with each doubling, and least on new text")
    return save_figure(figure, path)


def fertility(premium: dict[str, float], bytes_per_token: dict[str, float], path: Path) -> Path:
    """A bar a language: tokens over English."""
    figure, axes = new_figure(height=3.4)
    names = sorted(premium, key=premium.__getitem__, reverse=True)
    axes.barh(names, [premium[n] for n in names], color=[OURS if n == "English" else BASELINE_COLOUR for n in names])
    for row, name in enumerate(names):
        axes.text(premium[name] + 0.05, row, f"{premium[name]:.1f}  ({bytes_per_token[name]:.2f} bytes a token)",
                  va="center", fontsize=8)  # fmt: skip
    axes.set(xlabel="tokens for the same content, English = 1", xlim=(0, max(premium.values()) * 1.4))
    axes.tick_params(axis="y", length=0)
    figure.suptitle("What does a tokenizer of Python source ask of other languages?", x=0.01, ha="left", fontsize=10)
    return save_figure(figure, path)


def bits_per_byte(
    sizes: list[int], found: dict[int, list[float]], nats: dict[int, list[float]], metrics: dict[str, Any], path: Path
) -> Path:
    """Bits per byte beside nats per token, every split a line."""
    figure, (left, right) = new_figure(height=3.4, columns=2)
    for axes, values, colour, name in (
        (left, found, OURS, "bits per byte: comparable"),
        (right, nats, WARM, "nats per token: not comparable"),
    ):
        for split in range(len(values[sizes[0]])):
            axes.semilogx(sizes, [values[size][split] for size in sizes], "o-", color=colour, markersize=3, base=2)
        axes.set(xlabel="tokens in the vocabulary", ylabel=name.split(":")[0])
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.minorticks_off()
        axes.set_title(name, loc="left", fontsize=9, color=colour)
    figure.suptitle(
        f"Which vocabulary suits a trigram model? {metrics['best_size']:,} tokens: {metrics['best']['mean']:.2f} bits "
        "per byte",
        x=0.01, ha="left", fontsize=10,
    )  # fmt: skip
    return save_figure(figure, path)


def zipf(used: dict[int, list[int]], words: list[int], metrics: dict[str, Any], path: Path) -> Path:
    """Frequency against rank, log-log: words, and tokens of three vocabularies."""
    figure, axes = new_figure()
    lines = [
        (words, BASELINE_COLOUR, f"words: slope {metrics['slope_words']:.2f}"),
        (used[256], WARM, "256 bytes"),
        (used[512], GREEN, "512 tokens"),
        (used[2048], OURS, f"2,048 tokens: slope {metrics['slope_2048']:.2f}"),
    ]
    for counts, colour, label in lines:
        axes.loglog(range(1, len(counts) + 1), counts, color=colour, linewidth=1.6, label=label)
    axes.legend(frameon=False, loc="lower left", labelcolor="linecolor")
    axes.set(xlabel="rank", ylabel="occurrences in other modules")
    _title(axes, "How unevenly are tokens used? Merging takes the head of Zipf's law away")
    return save_figure(figure, path)


def merge_tree(token: bytes, parts: dict[bytes, Merge], path: Path) -> Path:
    """The merges of one token, bytes at the bottom, each with the frequency that made it win."""
    figure, axes = new_figure(height=3.8)

    def draw(part: bytes, start: int) -> tuple[float, int]:
        """Draw the part that begins at byte `start`; returns where its node is: (x, height)."""
        if part not in parts:
            axes.text(start, 0, part.decode("latin-1"), ha="center", va="center", fontsize=11)
            return start, 0
        merge = parts[part]
        (a, low), (b, high) = draw(merge.left, start), draw(merge.right, start + len(merge.left))
        x, y = (a + b) / 2, max(low, high) + 1
        for at, level in ((a, low), (b, high)):
            axes.plot([at, at, x], [level + 0.28, y - 0.28, y - 0.28], color="0.7", linewidth=1, zorder=0)
        axes.text(
            x, y, f"{part.decode('latin-1')}\n{merge.frequency:,}", ha="center", va="center", fontsize=8.5, color=OURS
        )
        return x, y

    _, height = draw(token, 0)
    axes.set(xlim=(-0.6, len(token) - 0.4), ylim=(-0.5, height + 0.6), xticks=[], yticks=range(height + 1))
    axes.set_ylabel("merges deep")
    axes.spines["bottom"].set_visible(False)
    _title(axes, f"How is “{token.decode('latin-1')}” made? Each merge with the count that made it the most frequent")
    return save_figure(figure, path)


def segmentation(cuts: dict[str, list[bytes]], metrics: dict[str, Any], path: Path) -> Path:
    """The same text, tokens in alternating colours, one block a method."""
    figure, axes = new_figure(width=8.5, height=2.6)
    y = 0.0
    for name, cut in cuts.items():
        axes.text(0, y, f"{name}: {len(cut)} tokens", color=OURS, fontsize=9, va="bottom")
        x, y = 0, y - 1.2
        for index, token in enumerate(cut):
            for character in token.decode():
                if character != "\n":
                    axes.barh(y, 1, left=x, height=0.95, color=TINTS[index % len(TINTS)], linewidth=0)
                    axes.text(x + 0.5, y, character, ha="center", va="center", fontsize=7, family="monospace")
                    x += 1
                else:
                    axes.text(x + 0.5, y, "⏎", ha="center", va="center", fontsize=6, color="0.5")
                    x, y = 0, y - 1.1
        y -= 0.3
    axes.set(xlim=(-0.5, 90), ylim=(y + 0.3, 1.2))
    axes.axis("off")
    alike = metrics["words_cut_alike"]
    _title(axes, f"Where do two vocabularies of equal size cut? {alike:.0%} of the words of other modules alike")
    return save_figure(figure, path)


def _title(axes: Any, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=10)
