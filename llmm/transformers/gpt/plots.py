"""The figures of M7: drawing only, every number comes from experiments.py or from the text that is looked at."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from llmm.figures import BASELINE_COLOUR, GREEN, OURS, WARM, new_figure, save_figure
from llmm.transformers.gpt.lens import Lens
from llmm.transformers.gpt.speculative import expected_tokens


def ladder_closed(curves: list[Any], variants: dict[str, list[float]], path: Path) -> Path:
    """The two loss curves of each seed, and their distance, with that of variants which should not be equal."""
    figure, (left, right) = new_figure(8.5, 3.6, columns=2)
    steps = np.arange(len(curves[0].own))
    for i, curve in enumerate(curves):
        left.plot(steps, curve.torch, color=OURS, linewidth=4, alpha=0.35, label="torch" if i == 0 else None)
        left.plot(
            steps, curve.own, "--", color="black", linewidth=1, label="M2's engine, M3's rules" if i == 0 else None
        )
        distance = np.maximum(np.abs(np.subtract(curve.own, curve.torch)), 1e-17)
        right.semilogy(steps, distance, color=OURS, linewidth=1)
    left.legend(frameon=False)
    left.set(xlabel="step", ylabel="loss, nats a byte", xticks=steps[::5])
    left.set_title("One curve or two?")
    for (name, distance), colour in zip(variants.items(), (WARM, GREEN), strict=True):
        right.semilogy(steps, np.maximum(distance, 1e-17), color=colour)
        right.annotate(name, (steps[-1], max(distance)), (0, 7), textcoords="offset points", ha="right", color=colour)
    right.axhline(1e-10, color=BASELINE_COLOUR, linestyle=":")
    right.text(steps[-1], 1.6e-11, "asked: 1e-10", color=BASELINE_COLOUR, ha="right")
    worst = max(curve.difference for curve in curves)
    right.annotate(
        f"largest {worst:.0e}", (steps[-1], worst), (0, 8), textcoords="offset points", ha="right", color=OURS
    )
    right.set(xlabel="step", ylabel="|difference| of the losses", ylim=(3e-18, 1), xticks=steps[::5])
    right.set_title("How far apart are they?")
    return save_figure(figure, path)


def speculative(
    points: list[dict[str, Any]], speeds: dict[float, list[float]], guesses: Sequence[int], path: Path
) -> Path:
    """Tokens a pass against α with the formula, and the speed that they are worth at three prices of a guess."""
    figure, (left, right) = new_figure(8.5, 3.6, columns=2)
    alphas = np.linspace(0.3, 1, 60)
    colours = dict(zip((2, 4, 8), (GREEN, OURS, WARM), strict=True))
    for K, colour in colours.items():
        left.plot(alphas, [expected_tokens(a, K) for a in alphas], color=colour, linewidth=1)
        left.annotate(f"{K} guesses", (1, K + 1), (4, 0), textcoords="offset points", va="center", color=colour)
        for point in points:
            if point["guesses"] == K:
                left.plot(point["alpha"], point["tokens_a_pass"], "o", color=colour, markersize=4)
    left.set(xlabel="α, share of the guesses that are kept", ylabel="tokens a pass of the target", xlim=(0.27, 1.2))
    left.set_title("Does (1 - α^(K+1)) / (1 - α) predict the passes?")
    for (cost, speed), colour in zip(speeds.items(), (GREEN, OURS, WARM), strict=True):
        right.plot(guesses, speed, "o-", color=colour, markersize=4)
        right.annotate(f"a guess costs\n{cost:g} passes", (guesses[-1], speed[-1]), (8, 0), textcoords="offset points",
                       va="center", color=colour)  # fmt: skip
    right.axhline(1, color=BASELINE_COLOUR, linestyle=":")
    right.set(xlabel="guesses a pass", ylabel="speed over the target alone", xlim=(0.5, 11), xticks=guesses)
    right.margins(y=0.12)
    right.set_title("How many guesses pay?")
    return save_figure(figure, path)


def cached_cost(lengths: Sequence[int], formulas: dict[str, list[int]], counted: dict[str, Any], path: Path) -> Path:
    """FLOPs of writing n tokens with and without the cache: formulas as lines, counted ones as points."""
    figure, axes = new_figure()
    cached, uncached = formulas["with cache"], formulas["without cache"]
    for flops, name, colour in ((uncached, "without cache", WARM), (cached, "with cache", OURS)):
        axes.loglog(lengths, flops, color=colour)
        axes.loglog(*zip(*counted[name], strict=True), "o", color=colour, markersize=4)
        axes.annotate(name, (lengths[-1], flops[-1]), (-6, 6), textcoords="offset points", ha="right", color=colour)
    ratio = uncached[-1] / cached[-1]
    axes.annotate(
        f"{ratio:.0f} times the work\nfor {lengths[-1]} tokens", (lengths[-1], (cached[-1] * uncached[-1]) ** 0.5),
        (-8, 0), textcoords="offset points", ha="right", va="center",
    )  # fmt: skip
    axes.annotate("", (lengths[-1], cached[-1]), (lengths[-1], uncached[-1]), arrowprops={"arrowstyle": "<->"})
    axes.set(xlabel="tokens written", ylabel="FLOPs (points counted, lines by formula)")
    axes.minorticks_off()
    axes.set_xticks(lengths, map(str, lengths))
    axes.set_title("What does the KV cache save?")
    return save_figure(figure, path)


def nucleus(rows: list[dict[str, Any]], text: dict[str, float], path: Path) -> Path:
    """Repetition and surprise of what is written, against p, beside those of the text itself."""
    figure, panels = new_figure(8.5, 3.6, columns=2)
    ps = [row["p"] for row in rows]
    for axes, key, label, title in (
        (panels[0], "repeated", "share of 12-grams that were there before", "When does it repeat itself?"),
        (panels[1], "nats", "nats a byte that the model itself gives", "How surprising is it?"),
    ):
        mean = np.array([row[key]["mean"] for row in rows])
        sd = np.array([row[key]["sd"] for row in rows])
        axes.fill_between(ps, mean - sd, mean + sd, color=OURS, alpha=0.2, linewidth=0)
        axes.plot(ps, mean, "o-", color=OURS, markersize=4)
        axes.axhline(text[key], color=BASELINE_COLOUR, linestyle="--")
        axes.annotate(f"the text itself {text[key]:.2f}", (0, text[key]), (2, 4), textcoords="offset points",
                      color=BASELINE_COLOUR)  # fmt: skip
        axes.set(xlabel="p of the nucleus (0: greedy)", ylabel=label)
        axes.margins(y=0.12)
        axes.set_title(title)
    return save_figure(figure, path)


def weight_tying(rows: list[dict[str, Any]], path: Path) -> Path:
    """Held-out loss of tied and untied models, a panel a vocabulary, a dot a seed."""
    vocabularies = list(dict.fromkeys(row["vocabulary"] for row in rows))
    figure, panels = new_figure(8.5, 3.2, columns=len(vocabularies))
    for axes, vocabulary in zip(panels, vocabularies, strict=True):
        chosen = [row for row in rows if row["vocabulary"] == vocabulary]
        for place, row in enumerate(chosen):
            colour = OURS if row["tied"] else WARM
            axes.plot(row["losses"], [place] * len(row["losses"]), "o", color=colour, alpha=0.6)
            axes.plot(np.mean(row["losses"]), place, "|", color=colour, markersize=22)
            name = f"{'tied' if row['tied'] else 'untied'}, {row['parameters'] / 1e3:.0f}k parameters"
            axes.annotate(f"{name}: {np.mean(row['losses']):.3f}", (np.mean(row["losses"]), place), (0, 14),
                          textcoords="offset points", ha="center", color=colour)  # fmt: skip
        axes.set(xlabel="held-out loss, nats a token", ylim=(-0.6, 1.8), yticks=[])
        axes.margins(x=0.35)
        axes.set_title(vocabulary)
    figure.suptitle("Does sharing the matrix of embedding and LM head cost or help?", x=0.01, ha="left", fontsize=10)
    return save_figure(figure, path)


def logit_lens(example: Lens, shown: Sequence[str], spell: Callable[[int], str], depth: Any, path: Path) -> Path:
    """What each layer would say along a line of text, and the mean divergence from the last word by depth."""
    figure, panels = new_figure(11, 3.4, columns=2)
    _lens(panels[0], example, shown, spell)
    panels[0].set_title("What would the model say after each block?")
    layers = np.arange(depth.shape[1])
    for row in depth:
        panels[1].plot(layers, row, color=OURS, alpha=0.35, linewidth=1)
    panels[1].plot(layers, depth.mean(0), "o-", color=OURS)
    for layer, value in zip(layers, depth.mean(0), strict=True):
        panels[1].annotate(f"{value:.2f}", (layer, value), (4, 4), textcoords="offset points", color=OURS)
    panels[1].set(xlabel="blocks read", ylabel="KL from the whole model, nats", xticks=layers)
    panels[1].set_title("When does it make up its mind?")
    return save_figure(figure, path)


def lens(found: Lens, shown: Sequence[str], spell: Callable[[int], str], path: Path) -> Path:
    """What each layer would say after each token of a text."""
    figure, axes = new_figure(max(5.0, 0.5 * len(shown) + 1.5), 0.42 * len(found.token) + 1.4)
    _lens(axes, found, shown, spell)
    axes.set_title("What would the model say after each block?")
    return save_figure(figure, path)


def _lens(axes: Any, found: Lens, shown: Sequence[str], spell: Callable[[int], str]) -> None:
    axes.imshow(found.probability.numpy(), aspect="auto", cmap="Blues", vmin=0, vmax=1.8)
    for layer, row in enumerate(found.token.tolist()):
        for t, token in enumerate(row):
            final = token == int(found.token[-1, t])
            axes.text(t, layer, spell(token), ha="center", va="center", fontsize=7, color="black" if final else "0.5")
    layers = len(found.token)
    axes.set_yticks(range(layers), ["embedding", *(f"block {i}" for i in range(1, layers))])
    axes.set_xticks(range(len(shown)), shown, fontsize=7, rotation=0 if max(map(len, shown)) < 3 else 60)
    axes.set_xlabel("token read (black: what the whole model says; the bluer, the surer)")
    axes.tick_params(length=0)


def attention(
    patterns: Tensor, shown: Sequence[str], path: Path, titles: dict[tuple[int, int], str] | None = None
) -> Path:
    """Where every head looks: a grid of layers by heads, query down, key across; (layer, head) may have a title."""
    L, H = patterns.shape[:2]
    labelled, upright = len(shown) <= 40, max(map(len, shown)) < 3
    figure, axes = new_figure(2.1 * H, 2.1 * L + 0.3)
    axes.remove()
    for layer in range(L):
        for head in range(H):
            axes = figure.add_subplot(L, H, layer * H + head + 1)
            # the root lets weak looks be seen
            axes.imshow(patterns[layer, head].sqrt().numpy(), cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
            named = f"{layer + 1}.{head + 1}"
            axes.set_title(f"{named}: {titles[layer, head]}" if titles else f"block.head {named}", fontsize=7)
            axes.set_xticks(
                range(len(shown)) if labelled else [],
                shown if labelled else [],
                fontsize=4,
                rotation=0 if upright else 90,
            )
            axes.set_yticks(range(len(shown)) if labelled else [], shown if labelled else [], fontsize=4)
            axes.tick_params(length=0)
    figure.suptitle("Where does each head look? (row: the token that asks)", x=0.01, ha="left", fontsize=9)
    return save_figure(figure, path)
