"""The figures of M11: drawing only, every number comes from experiments.py."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from llmm.figures import BASELINE_COLOUR, GREEN, OURS, WARM, new_figure, save_figure
from llmm.training.rag.risk_coverage import Point

Word = tuple[float, float, float, float]  # elite mean, other mean, share of elite documents if relevant, if not


def two_poisson(
    counts: Sequence[int],
    exact: Mapping[Word, Sequence[float]],
    fitted: Mapping[Word, tuple[float, float]],
    ndcg: Mapping[str, Sequence[float]],
    path: Path,
) -> Path:
    """Exact weights of three words and the saturation curves fitted to them; beside it what each weight ranks like."""
    figure, (left, right) = new_figure(8.5, 3.6, columns=2)
    for word, colour, above in zip(list(exact)[:3], (OURS, WARM, GREEN), (12, -16, 8), strict=True):
        height, k1 = fitted[word]
        left.plot(counts, exact[word], "o", color=colour, markersize=4)
        left.plot(counts, [height * count / (count + k1) for count in counts], "-", color=colour, linewidth=1.2)
        left.annotate(f"means {word[0]:g} and {word[1]:g}", (counts[-1], exact[word][-1]), (0, above),
                      textcoords="offset points", color=colour, ha="right", fontsize=8)  # fmt: skip
    left.margins(y=0.1)
    left.set(xlabel="occurrences of the word", ylabel="weight")
    left.set_title("Points: exact log odds; lines: saturation", loc="left", fontsize="medium")
    names = {
        "exact": "exact",
        "fitted": "fitted",
        "one_k1": "fitted, one k1",
        "bm25": "BM25",
        "linear": "idf × count",
        "presence": "idf",
    }
    for place, (name, values) in enumerate(reversed(list(ndcg.items()))):
        colour = OURS if name == "bm25" else BASELINE_COLOUR
        right.plot(values, [place] * len(values), "o", color=colour, markersize=4)
        right.text(0.01, place, names[name], transform=right.get_yaxis_transform(), va="center", color=colour)
    right.set_yticks([])
    lowest, highest = (pick(min(v) if pick is min else max(v) for v in ndcg.values()) for pick in (min, max))
    right.set_xlim(lowest - 0.35 * (highest - lowest), highest + 0.05 * (highest - lowest))
    right.set_xlabel("nDCG@10, three seeds")
    right.set_title("How well does each weight rank?", loc="left", fontsize="medium")
    return save_figure(figure, path)


def contrastive_tuning(
    suites: Mapping[str, Mapping[str, Sequence[float]]],
    by_temperature: Mapping[float, Sequence[float]],
    path: Path,
) -> Path:
    """nDCG@10 of BM25, vectors and both, every seed a point; beside it the vectors at each temperature."""
    figure, (left, right) = new_figure(8.5, 3.6, columns=2)
    titles = {"names_removed": "names removed", "with_names": "with names"}
    shades = {"bm25": BASELINE_COLOUR, "dense": WARM, "hybrid": OURS}
    labels = {"bm25": "BM25", "dense": "vectors", "hybrid": "both"}
    for group, by_system in enumerate(suites.values()):
        for place, (name, values) in enumerate(by_system.items()):
            at = group + (place - 1) * 0.27
            left.bar(at, statistics.fmean(values), 0.24, color=shades[name], alpha=0.35)
            left.plot([at] * len(values), values, "o", color=shades[name], markersize=3)
            left.text(at, max(values) + 0.012, labels[name], ha="center", color=shades[name], fontsize=8)
    left.set_xticks(range(len(suites)), [titles[suite] for suite in suites])
    left.set_ylabel("nDCG@10")
    left.set_ylim(bottom=0)
    left.margins(y=0.12)
    left.set_title("Do tuned vectors help BM25?", loc="left", fontsize="medium")
    temperatures = list(by_temperature)
    right.semilogx(temperatures, [statistics.fmean(by_temperature[t]) for t in temperatures], color=WARM, linewidth=1.3)
    for t, values in by_temperature.items():
        right.plot([t] * len(values), values, "o", color=WARM, markersize=3)
    right.set_xticks(temperatures, map(str, temperatures))
    right.minorticks_off()
    right.set_ylim(bottom=0)
    right.set(xlabel="temperature", ylabel="nDCG@10 of the vectors, names removed")
    right.set_title("At which temperature?", loc="left", fontsize="medium")
    return save_figure(figure, path)


def batch_size(
    means: Mapping[int, Sequence[float]],
    training: Mapping[int, float],
    held_out: Mapping[int, Sequence[float]],
    held_out_batch: int,
    path: Path,
) -> Path:
    """nDCG@10 against the batch, every seed a point; beside it what the training loss shows, and held-out pairs."""
    figure, (left, right) = new_figure(8.5, 3.6, columns=2)
    batches = list(means)
    left.semilogx(batches, [statistics.fmean(means[b]) for b in batches], color=OURS, linewidth=1.3, base=2)
    for batch, values in means.items():
        left.plot([batch] * len(values), values, "o", color=OURS, markersize=3)
    left.set_ylim(bottom=0)
    left.set(xlabel="pairs in a batch", ylabel="nDCG@10 of the vectors, names removed")
    left.set_title("At as many pairs in all, which batch?", loc="left", fontsize="medium")
    right.semilogx(batches, [math.log(b) for b in batches], "--", color=BASELINE_COLOUR, base=2)
    right.semilogx(batches, [training[b] for b in batches], "o-", color=OURS, markersize=4, linewidth=1.3, base=2)
    right.annotate("ln B, the most that it can show", (batches[-1], math.log(batches[-1])), (-40, -4),
                   textcoords="offset points", color=BASELINE_COLOUR, ha="right")  # fmt: skip
    right.annotate("ln B less the training loss", (batches[1], training[batches[1]]), (10, -16),
                   textcoords="offset points", color=OURS)  # fmt: skip
    for batch, values in held_out.items():
        right.plot([batch] * len(values), values, "o", color=WARM, markersize=4)
    right.annotate(f"held-out pairs, in batches of {held_out_batch}", (batches[1], max(held_out[batches[1]])), (0, 10),
                   textcoords="offset points", color=WARM, ha="center")  # fmt: skip
    right.set(xlabel="pairs in a batch", ylabel="nats")
    right.set_ylim(bottom=0)
    right.set_title("What does the loss show?", loc="left", fontsize="medium")
    for axes in (left, right):
        axes.set_xticks(batches, map(str, batches))
        axes.minorticks_off()
    return save_figure(figure, path)


def nearest_neighbours(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    on_noise: Sequence[tuple[float, float]],
    enough: Mapping[str, Mapping[int, float]],
    wanted: float,
    path: Path,
) -> Path:
    """Recall against distances computed at the largest size; beside it distances for the wanted recall against size."""
    figure, (left, right) = new_figure(8.5, 3.6, columns=2)
    names = {"hnsw": "HNSW", "flat": "flat graph", "inverted_lists": "IVF"}
    colours = {"hnsw": OURS, "flat": GREEN, "inverted_lists": WARM}
    for name, curve in curves.items():
        left.semilogx(*zip(*curve, strict=True), "o-", color=colours[name], markersize=3, linewidth=1.3)
        below = {"hnsw": -14, "flat": -27, "inverted_lists": -12}[name]
        left.annotate(names[name], curve[0], (-4, below), textcoords="offset points", color=colours[name])
    left.semilogx(*zip(*on_noise, strict=True), "o--", color=BASELINE_COLOUR, markersize=3, linewidth=1)
    left.annotate("HNSW on noise", on_noise[1], (8, -4), textcoords="offset points", color=BASELINE_COLOUR)
    left.axhline(wanted, color="0.8", linewidth=1)
    left.set_xticks([200, 500, 1000, 2000], ["200", "500", "1,000", "2,000"])
    left.minorticks_off()
    left.set(xlabel="distances computed for a query", ylabel="recall of the ten nearest")
    largest = max(next(iter(enough.values())))
    left.set_title(f"{largest:,} passages: what does recall cost?", loc="left", fontsize="medium")
    sizes = list(next(iter(enough.values())))
    right.loglog(sizes, sizes, "--", color=BASELINE_COLOUR, linewidth=1)
    right.annotate("exact search", (sizes[1], sizes[1]), (6, -2), textcoords="offset points", color=BASELINE_COLOUR)
    for name, costs in enough.items():
        right.loglog(sizes, list(costs.values()), "o-", color=colours[name], markersize=3, linewidth=1.3)
        right.annotate(names[name], (sizes[-1], costs[sizes[-1]]), (-4, -16 if name == "hnsw" else 8),
                       textcoords="offset points", color=colours[name], ha="right")  # fmt: skip
    right.set_xticks(sizes, [f"{size:,}" for size in sizes])
    right.minorticks_off()
    right.set(xlabel="points", ylabel=f"distances for a recall of {wanted:.0%}")
    right.set_title("How does it grow?", loc="left", fontsize="medium")
    return save_figure(figure, path)


def chunks(rows: Mapping[str, Mapping[int, tuple[float, float]]], budget: int, path: Path) -> Path:
    """Functions kept whole, and functions found, against the length of a chunk."""
    figure, panels = new_figure(8.5, 3.6, columns=2)
    labels = {"borders": "natural borders", "windows": "windows"}
    colours = {"borders": OURS, "windows": BASELINE_COLOUR}
    titles = ("How many functions stay whole?", "How many are found?")
    ylabels = ("share of functions that would fit into a chunk", f"share found in {budget:,} characters read")
    for column, (axes, title, ylabel) in enumerate(zip(panels, titles, ylabels, strict=True)):
        for name, by_length in rows.items():
            lengths, values = list(by_length), [row[column] for row in by_length.values()]
            axes.semilogx(lengths, values, "o-", color=colours[name], markersize=4, linewidth=1.3, base=2)
            place, offset = (1, (10, 6)) if name == "borders" and column else (0, (6, -16))
            axes.annotate(labels[name], (lengths[place], values[place]), offset, textcoords="offset points",
                          color=colours[name])  # fmt: skip
        axes.set_xticks(lengths, [f"{length:,}" for length in lengths])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.margins(y=0.15)
        axes.set(xlabel="longest chunk, characters", ylabel=ylabel)
        axes.set_title(title, loc="left", fontsize="medium")
    return save_figure(figure, path)


def abstention(
    curves: Sequence[Sequence[Point]],
    hand_written: Sequence[Point],
    allowed: float,
    certified: Sequence[tuple[float, float]],
    path: Path,
) -> Path:
    """Risk against coverage of every draw of questions, of certified thresholds, and of hand-written questions."""
    figure, axes = new_figure(6.5, 3.8)
    for curve in curves:
        axes.plot([p.coverage for p in curve], [p.risk for p in curve], "o-", color=OURS, markersize=2.5, linewidth=1)
    axes.plot([p.coverage for p in hand_written], [p.risk for p in hand_written], "-", color=WARM, linewidth=1)
    axes.plot(*zip(*certified, strict=True), "D", color=GREEN, markersize=6)
    axes.axhline(allowed, color="0.75", linewidth=1, linestyle="--")
    axes.annotate(f"risk that is allowed, {allowed:.0%}", (1, allowed), (0, 4), textcoords="offset points",
                  color=BASELINE_COLOUR, ha="right", fontsize=8)  # fmt: skip
    wide = min(curves[0], key=lambda point: abs(point.coverage - 0.7))
    axes.annotate("questions about names,\nthree draws", (wide.coverage, wide.risk), (-10, 4),
                  textcoords="offset points", color=OURS, ha="right", fontsize=8)  # fmt: skip
    middle = hand_written[len(hand_written) // 2]
    axes.annotate("hand-written questions", (middle.coverage, middle.risk), (0, 16), textcoords="offset points",
                  color=WARM, ha="center", fontsize=8)  # fmt: skip
    axes.annotate("certified on other questions", min(certified), (-8, 12), textcoords="offset points", color=GREEN,
                  ha="right", fontsize=8)  # fmt: skip
    axes.set(xlabel="share of the questions that are answered", ylabel="share of wrong answers", xlim=(0, 1.02))
    axes.set_ylim(0, 1)
    axes.set_title("How often is a reader wrong that may stay silent?", loc="left", fontsize="medium")
    return save_figure(figure, path)


def reading_depth(
    depths: Sequence[int], curves: Mapping[str, Mapping[int, Sequence[float]]], questions: int, path: Path
) -> Path:
    """Recall of a right module and right citations, against how many chunks are read."""
    figure, axes = new_figure(6.5, 3.6)
    labels = {"recall": "a chunk of a right module is there", "cited": "the answer cites a right module"}
    for (name, curve), colour in zip(curves.items(), (BASELINE_COLOUR, OURS), strict=True):
        values = [statistics.fmean(curve[depth]) for depth in depths]
        axes.semilogx(depths, values, "o-", color=colour, markersize=4, linewidth=1.3)
        axes.annotate(
            labels[name], (depths[-1], values[-1]), (0, 7), textcoords="offset points", color=colour, ha="right"
        )
    axes.set_xticks(depths, map(str, depths))
    axes.minorticks_off()
    axes.set_ylim(0, 1.05)
    axes.set(xlabel="chunks that are read", ylabel=f"share of {questions} hand-written questions")
    axes.set_title("Does reading more give better answers?", loc="left", fontsize="medium")
    return save_figure(figure, path)
