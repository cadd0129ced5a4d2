"""The figures of M10: drawing only, every number comes from experiments.py."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from llmm.figures import BASELINE_COLOUR, GREEN, OURS, WARM, new_figure, save_figure
from llmm.training.lora.preferences import best_of_n_kl

SHADES = ("#90cdf4", "#4299e1", "#1a4f85")  # low to high rank, light to dark: also in grey
COLOURS = {
    "full": BASELINE_COLOUR,
    "full_far": "0.7",
    "rank_1": SHADES[0],
    "rank_4": SHADES[1],
    "rank_16": SHADES[2],
    "dora_4": WARM,
}
NAMES = {"full": "all weights", "rank_1": "rank 1", "rank_4": "rank 4", "rank_16": "rank 16", "dora_4": "DoRA 4"}


def planted_shift(
    errors: Mapping[int, Sequence[float]], bounds: Mapping[int, Sequence[float]], planted: int, path: Path
) -> Path:
    """Error of every seed against rank, and the least that any matrix of the rank leaves."""
    figure, axes = new_figure()
    ranks = list(errors)
    means = [statistics.fmean(errors[rank]) for rank in ranks]
    possible = [rank for rank in ranks if statistics.fmean(bounds[rank]) > 1e-9]
    axes.semilogy(possible, [statistics.fmean(bounds[rank]) for rank in possible], "x", color=WARM, markersize=9)
    axes.semilogy(ranks, means, "-", color=OURS, linewidth=1.4)
    for rank in ranks:
        axes.plot([rank] * len(errors[rank]), errors[rank], "o", color=OURS, markersize=4)
    axes.axvline(planted, color=BASELINE_COLOUR, linestyle=":", linewidth=1)
    axes.annotate("rank of what was planted", (planted, 2e-3), (6, 0), textcoords="offset points",
                  color=BASELINE_COLOUR, va="center")  # fmt: skip
    axes.annotate("least that a matrix of this rank leaves (Eckart-Young)", (possible[0], means[0]), (10, 0),
                  textcoords="offset points", color=WARM, va="center")  # fmt: skip
    axes.annotate(
        "LoRA, three seeds", (ranks[-1], means[-1]), (0, 9), textcoords="offset points", color=OURS, ha="right"
    )
    axes.set_xticks(ranks, map(str, ranks))
    axes.set(xlabel="rank of the LoRA", ylabel="|planted - learnt|² / |planted|²")
    axes.set_title("Which rank does a change of rank four need?")
    return save_figure(figure, path)


def rank_rate(
    rates: Sequence[float],
    means: Mapping[str, Mapping[int, Sequence[float]]],
    tuned_at: Mapping[str, int],
    names: Mapping[str, str],
    path: Path,
) -> Path:
    """Loss against learning rate, a curve a rank, one scale beside the other."""
    figure, panels = new_figure(8.5, 3.6, columns=2)
    lowest = min(min(row) for by_rank in means.values() for row in by_rank.values())
    highest = max(row[0] for by_rank in means.values() for row in by_rank.values()) + 0.03
    for axes, (name, by_rank) in zip(panels, means.items(), strict=True):
        for (rank, row), colour in zip(by_rank.items(), SHADES, strict=True):
            axes.semilogx(rates, row, "o-", color=colour, markersize=3, linewidth=1.4, base=2)
            i = min(range(len(row)), key=row.__getitem__)
            axes.plot(rates[i], row[i], "o", color=colour, markersize=8, fillstyle="none")
            if axes is panels[-1]:  # the colours say it in the other one, where curves lie close
                axes.annotate(f"rank {rank}", (rates[i], row[i]), (-8, -9), textcoords="offset points", color=colour,
                              fontsize=8, ha="right")  # fmt: skip
        axes.axvline(rates[tuned_at[name]], color=BASELINE_COLOUR, linestyle=":", linewidth=1)
        axes.set(xlabel="learning rate of AdamW", ylim=(lowest - 0.012, highest))
        axes.set_xticks(rates, [f"{1000 * rate:g}" for rate in rates])
        axes.minorticks_off()
        axes.set_title(f"{names[name]}: does the best rate move with the rank?", fontsize=9)
        axes.set_xlabel("learning rate of AdamW, thousandths")
    panels[0].set_ylabel("loss on prose, nats a byte")
    return save_figure(figure, path)


def forgetting(found: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], path: Path) -> Path:
    """What every run lost on the old text against what it gained on the new one."""
    figure, panels = new_figure(8.5, 3.6, columns=2)
    titles = {"format": "A new format", "prose": "New knowledge"}
    for axes, (task, by_variant) in zip(panels, found.items(), strict=True):
        for variant, runs in by_variant.items():
            gained, lost = zip(*runs, strict=True)
            marker = "s" if variant == "full" else "D" if variant == "dora_4" else "o"
            axes.plot(gained, lost, marker, color=COLOURS[variant], markersize=5, label=NAMES[variant])
        every = [run for runs in by_variant.values() for run in runs]
        limits = (1.12 * max(values) for values in zip(*every, strict=True))
        axes.set(**dict(zip(("xlim", "ylim"), ((0, limit) for limit in limits), strict=True)))
        axes.set_xlabel("gained on new text, nats a byte")
        axes.set_title(titles[task])
    panels[0].set_ylabel("lost on old text, nats a byte")
    panels[1].legend(frameon=False, fontsize=8, loc="upper left")
    figure.suptitle("What is gained, and what is forgotten for it?", x=0.01, ha="left", fontsize=10)
    return save_figure(figure, path)


def intruders(
    counts: Mapping[str, Sequence[float]], ranks: Mapping[str, Sequence[float]], labels: Mapping[str, str], path: Path
) -> Path:
    """Intruders a matrix, and the effective rank of the change, every seed a point."""
    figure, panels = new_figure(8.5, 2.8, columns=2)
    for axes, values, what in zip(
        panels, (counts, ranks), ("intruders among the ten strongest", "effective rank of the change"), strict=True
    ):
        for row, (variant, found) in enumerate(values.items()):
            mean = statistics.fmean(found)
            axes.plot(found, [row] * len(found), "o", color=COLOURS[variant], markersize=5)
            axes.annotate(f"{mean:.2g}", (max(found), row), (9, 0), textcoords="offset points", va="center",
                          color=COLOURS[variant])  # fmt: skip
        axes.set_yticks(range(len(values)), [labels[variant] for variant in values] if axes is panels[0] else [])
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(values) - 0.5, -0.5)
        axes.set_xlim(-0.03 * max(map(max, values.values())), 1.2 * max(map(max, values.values())))
        axes.set_xlabel(what)
    panels[0].set_title("Are there directions that the base did not have?")
    panels[1].set_title("In how many directions did it change?")
    return save_figure(figure, path)


def nf4(rmse: Mapping[str, Mapping[int, Sequence[float]]], blocks: Sequence[int], usual: int, path: Path) -> Path:
    """RMSE on normal numbers against the size of a block, a curve a set of levels."""
    figure, axes = new_figure()
    styles = {"nf4": ("NF4", OURS), "fp4": ("FP4", GREEN), "uniform": ("uniform", WARM)}
    for name, by_block in rmse.items():
        label, colour = styles[name]
        means = [statistics.fmean(by_block[block]) for block in blocks]
        axes.semilogx(blocks, means, "o-", color=colour, markersize=4, linewidth=1.4, base=2)
        axes.annotate(label, (blocks[-1], means[-1]), (8, 0), textcoords="offset points", va="center", color=colour)
    axes.axvline(usual, color=BASELINE_COLOUR, linestyle=":", linewidth=1)
    axes.set_xticks(blocks, map(str, blocks))
    axes.minorticks_off()
    axes.set(
        xlabel="numbers that share a scale",
        ylabel="RMSE, standard deviations",
        xlim=(blocks[0] * 0.85, blocks[-1] * 1.7),
    )
    axes.set_ylim(0, None)
    axes.set_title("Which sixteen levels lose least of normal numbers?")
    return save_figure(figure, path)


def preferences(
    found: Mapping[str, Sequence[tuple[float, float]]],
    drawn: Mapping[int, Sequence[float]],
    labels: Mapping[str, str],
    path: Path,
) -> Path:
    """Reward gained against the distance from the base, every seed a point, beside the best of n draws."""
    figure, axes = new_figure()
    colours = {"sft": WARM, "beta_1": SHADES[1], "beta_0_3": OURS, "beta_0_1": SHADES[2], "few": GREEN}
    curve = [(best_of_n_kl(n), statistics.fmean(rewards)) for n, rewards in drawn.items()]
    axes.semilogx(*zip(*curve, strict=True), "x--", color=BASELINE_COLOUR, linewidth=1.2, markersize=6)
    for n, at in zip(drawn, curve, strict=True):
        axes.annotate(f"best of {n}", at, (-6, 5), textcoords="offset points", color=BASELINE_COLOUR, ha="right",
                      fontsize=8)  # fmt: skip
    for name, runs in found.items():
        kls, rewards = zip(*runs, strict=True)
        axes.plot(kls, rewards, "o", color=colours[name], markersize=5)
        left = name == "beta_0_1"  # to its right are the runs with few pairs
        axes.annotate(labels[name], (min(kls) if left else max(kls), statistics.fmean(rewards)), (-8 if left else 8, 0),
                      textcoords="offset points", color=colours[name], va="center", ha="right" if left else "left",
                      fontsize=8)  # fmt: skip
    axes.set(xlabel="KL from the base, nats an answer", ylabel="reward gained, standard deviations", ylim=(0, None))
    left, right = axes.get_xlim()
    axes.set_xlim(left, right * 4)
    axes.set_title("How much reward for how far from the base?")
    return save_figure(figure, path)
