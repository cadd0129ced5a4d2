"""What the engine shows and what networks learn with it: one function an experiment of milestone.yaml."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmm.figures import BASELINE_COLOUR, GREEN, OURS, WARM, new_figure, save_figure
from llmm.foundations.neural_network import drawing, functional, torch_twin
from llmm.foundations.neural_network.autograd import grad, jvp
from llmm.foundations.neural_network.data import digits, spirals
from llmm.foundations.neural_network.deep_linear import learn_modes, learn_modes_shallow, mode_curve
from llmm.foundations.neural_network.graph import edges, pull_back, topological_order
from llmm.foundations.neural_network.initialisation import he_normal, xavier_normal
from llmm.foundations.neural_network.layers import MLP, Module
from llmm.foundations.neural_network.tensor import Tensor, no_grad
from llmm.foundations.neural_network.training import TrainingConfig, accuracy, fit
from llmm.ladder.records import Record, round_metrics, spread

Array = NDArray[Any]
GREY = BASELINE_COLOUR


# --- the engine ------------------------------------------------------------------------------------------------------


def computation_graph(figures: Path) -> Record:
    """What does the engine record of an expression, and why must gradients be added up?"""

    def expression(x: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, dict[int, str]]:
        y = (w * x + b).tanh()
        error = y - x
        return error * error, {id(x): "x", id(w): "w", id(b): "b"}

    point = {"x": 0.5, "w": -1.2, "b": 0.9}
    x, w, b = (Tensor(value, requires_grad=True) for value in point.values())
    loss, names = expression(x, w, b)
    gradients = {id(t): g.item() for t, g in pull_back(loss, Tensor(1.0))}
    uses = [gradients[id(y)] * s for y in topological_order(loss) for z, s in drawing.slopes(y) if z is x]
    h = 6e-6
    ahead, behind = (expression(Tensor(0.5 + d), w, b)[0].item() for d in (h, -h))
    difference = (ahead - behind) / (2 * h)

    fig, ax = new_figure(7.5, 3.8)
    drawing.draw_graph(ax, loss, gradients, names | {id(loss): "loss"})
    parts = " + ".join(f"{use:.3f}" for use in uses)
    ax.set_title("What does the engine record of (tanh(wx + b) − x)²?", loc="left")
    ax.text(
        0.02, 0.02, f"x is used twice, so its gradient is {parts} = {sum(uses):.3f}", color=OURS, transform=ax.transAxes
    )
    figure = save_figure(fig, figures / "computation_graph.svg")
    order = topological_order(loss)
    metrics = {
        "tensors": len(order),
        "uses": sum(len(list(edges(t))) for t in order),
        "gradient": gradients[id(x)],
        "through_each_use": uses,
        "central_difference": round(difference, 8),
    }
    return Record(
        objective="What does the engine record of a small expression, and what would be lost without adding up?",
        setup=f"loss = (tanh(w x + b) - x)² in float64 at {point}; the graph is drawn from the engine's own records.",
        metrics=round_metrics(metrics),
        seeds=[],
        ablation=[
            {"changed": "base: contributions of all uses added up", "gradient of x": round_metrics(gradients[id(x)])},
            {"changed": "only the first use", "gradient of x": round_metrics(uses[0])},
            {"changed": "only the last use", "gradient of x": round_metrics(uses[-1])},
            {"changed": "central differences", "gradient of x": round(difference, 6)},
        ],
        figure=figure,
        found="The graph has {tensors} tensors and {uses} uses; x is used twice. The sum over both uses, "
        "{gradient:.4f}, is the central difference; neither use alone is even near it.",
    )


def cheap_gradient(figures: Path) -> Record:
    """What does a gradient cost beside the function, by reverse and by forward mode?"""
    rows = []
    for width in (8, 16, 32, 64, 128):
        model = MLP([width, width, width, 10], np.random.default_rng(0))
        parameters = model.parameters()
        x, labels = Tensor(np.ones((32, width))), np.zeros(32, dtype=int)
        loss = functional.cross_entropy(model(x), labels)
        seed = Tensor(1.0, requires_grad=True)
        reverse = grad(loss, parameters, seed, create_graph=True)
        weight = model.layers[0].weight
        value, tangent = jvp(
            lambda w, model=model, x=x, labels=labels: _loss_with(model, w, x, labels),
            [weight],
            [Tensor(np.ones(weight.shape), requires_grad=True)],
        )
        function = _cost([loss])
        n = sum(p.size for p in parameters)
        rows.append(
            {
                "width": width,
                "parameters": n,
                "reverse": (_cost([loss, *reverse]) - function) / function,
                "one_direction": (_cost([value, tangent]) - _cost([value])) / function,
            }
        )
        rows[-1]["forward"] = rows[-1]["one_direction"] * n

    fig, ax = new_figure(7, 3.8)
    sizes = [row["parameters"] for row in rows]
    ax.loglog(sizes, [row["forward"] for row in rows], "o-", color=WARM)
    ax.loglog(sizes, [row["reverse"] for row in rows], "o-", color=OURS)
    ax.text(sizes[2], rows[2]["forward"] * 2.2, "forward mode: one sweep a parameter", color=WARM, ha="right")
    ax.text(
        sizes[2],
        rows[2]["reverse"] * 1.7,
        f"reverse mode: {rows[-1]['reverse']:.2f} function values at any size",
        color=OURS,
        ha="center",
    )
    ax.axhline(1, color=GREY, lw=0.8, ls=":")
    ax.set(
        xlabel="parameters of the network", ylabel="cost of the gradient\n(in values of the function)", ylim=(0.5, 3e5)
    )
    ax.set_title("What does a whole gradient cost beside the function itself?", loc="left")
    figure = save_figure(fig, figures / "cheap_gradient.svg")
    return Record(
        objective="What does a whole gradient cost beside one value of the function, by reverse and by forward mode?",
        setup="MLPs of 2 hidden layers, widths 8 to 128, cross-entropy of 32 samples. Cost is counted in the recorded "
        "graphs: 2·m·k·n for a product of (m, k) and (k, n), the number of entries for all else.",
        metrics=round_metrics({"sizes": rows, "largest": rows[-1]}, 4),
        seeds=[],
        ablation=[
            {
                "changed": f"width {row['width']}, {mode}",
                "parameters": row["parameters"],
                "cost": round_metrics(row[mode], 4),
            }
            for row in (rows[0], rows[-1])
            for mode in ("reverse", "forward")
        ],
        figure=figure,
        found="A gradient in all {largest[parameters]} parameters costs {largest[reverse]:.2f} values of the function "
        "by reverse mode, about as many as for the smallest network. Forward mode pays {largest[one_direction]:.2f} "
        "for each direction, so for all parameters it needs {largest[forward]:.0f}.",
        negative="Reverse mode pays in memory instead: it keeps every intermediate tensor until the sweep is done. "
        "This engine's forward mode does as well, since it follows the recorded graph.",
    )


def _loss_with(model: MLP, weight: Tensor, x: Tensor, labels: Array) -> Tensor:
    """The loss with another first weight matrix."""
    hidden = (x @ weight.T + model.layers[0].bias).relu()
    hidden = model.layers[1](hidden).relu()
    return functional.cross_entropy(model.layers[2](hidden), labels)


def _cost(roots: Sequence[Tensor]) -> float:
    """Operations of all recorded tensors below the roots, each counted once."""
    tensors = {id(t): t for root in roots for t in topological_order(root)}
    return float(sum(_operations(t) for t in tensors.values()))


def _operations(tensor: Tensor) -> int:
    if tensor.origin is None or tensor.origin.primitive.name in ("reshape", "transpose", "broadcast"):
        return 0  # leaves, and views that move no number
    if tensor.origin.primitive.name == "matmul":
        return 2 * tensor.size * tensor.origin.inputs[0].shape[-1]
    return max([tensor.size, *(x.size for x in tensor.origin.inputs if isinstance(x, Tensor))])


# --- learning --------------------------------------------------------------------------------------------------------


def digits_mlp(figures: Path) -> Record:
    """What do hidden layers add to softmax regression on handwritten digits?"""
    from sklearn.linear_model import LogisticRegression

    seeds = [0, 1, 2, 3, 4]
    sizes = {"no hidden layer": [64, 10], "one of 128": [64, 128, 10], "two of 128": [64, 128, 128, 10]}
    baseline = "softmax regression"
    found: dict[str, list[float]] = {name: [] for name in (baseline, *sizes)}
    for seed in seeds:
        split = digits(seed)
        converged = LogisticRegression(max_iter=1000).fit(split.x_train, split.y_train)
        found[baseline].append(float(converged.score(split.x_test, split.y_test)))
        for name in sizes:
            model = MLP(sizes[name], np.random.default_rng(seed))
            fit(model, split.x_train, split.y_train, TrainingConfig(epochs=25, lr=0.1, seed=seed))
            found[name].append(accuracy(model, split.x_test, split.y_test))
    plain, deep = found[baseline], found["two of 128"]

    fig, ax = new_figure(7, 3.8)
    for seed in seeds:
        ax.plot(range(4), [found[name][seed] for name in found], "o-", color=OURS, alpha=0.35, ms=4)
    for i, name in enumerate(found):
        mean = float(np.mean(found[name]))
        ax.plot(i, mean, "_", color="black", ms=26, mew=2)
        ax.annotate(f"{mean:.3f}", (i, mean), (17, -3), textcoords="offset points", weight="bold")
    labels = ["softmax regression\nconverged, L2", *(f"{name}\n25 epochs" for name in sizes)]
    ax.set(xticks=range(4), xticklabels=labels, xlim=(-0.4, 3.5), ylabel="test accuracy")
    ax.set_title("What do hidden layers add on the digits? (five splits, bars are means)", loc="left")
    figure = save_figure(fig, figures / "digits_mlp.svg")
    return Record(
        objective="What do hidden layers add to softmax regression on scikit-learn's digits?",
        setup="1,797 images of 8×8 pixels, a quarter for the test, five stratified splits. SGD, momentum 0.9, batches "
        "of 32, 25 epochs, lr falling linearly from 0.1 to 0; ReLU, He initialisation. Baseline: scikit-learn's "
        "LogisticRegression, C = 1, converged, on the same splits.",
        metrics=round_metrics(
            {
                "accuracy": spread(deep),
                "baseline": spread(plain),
                "margin": spread(np.subtract(deep, plain)),
                "wins": sum(a > b for a, b in zip(deep, plain, strict=True)),
                "one_hidden": spread(found["one of 128"]),
                "no_hidden": spread(found["no hidden layer"]),
                "by_seed": {"baseline": plain, "two_hidden": deep},
            }
        ),
        seeds=seeds,
        ablation=[
            {
                "changed": name,
                "test accuracy": round_metrics(spread(found[name])["mean"], 4),
                "sd": round_metrics(spread(found[name])["sd"], 3),
            }
            for name in reversed(found)
        ],
        figure=figure,
        found="Two hidden layers reach {accuracy[mean]:.4f} ± {accuracy[sd]:.4f}, converged softmax regression "
        "{baseline[mean]:.4f} ± {baseline[sd]:.4f} on the same splits; the margin is {margin[mean]:.4f} ± "
        "{margin[sd]:.4f} and positive on {wins} splits of five.",
        negative="On one split the network loses. The second hidden layer adds next to nothing: one alone reaches "
        "{one_hidden[mean]:.4f}. And without any, the network's own recipe ends at {no_hidden[mean]:.4f}, below the "
        "converged optimum: a baseline trained carelessly flatters the network.",
    )


def zero_init(figures: Path) -> Record:
    """What becomes of a network whose units start equal?"""
    seeds, epochs = [0, 1, 2], 10
    # each changes Xavier's weights, (64, 64) and (10, 64), in place
    starts: dict[str, Callable[[Array, Array], None]] = {
        "random": lambda first, last: None,
        "last layer zero": _zero_last_layer,
        "one unit, 64 times": _copy_first_unit,
        "all weights zero": _zero_both_layers,
    }
    curves: dict[str, list[list[float]]] = {name: [] for name in starts}
    distinct: dict[str, list[float]] = {name: [] for name in starts}
    test: dict[str, list[float]] = {name: [] for name in starts}
    for seed in seeds:
        split = digits(seed)
        for name, change in starts.items():
            model = MLP([64, 64, 10], np.random.default_rng(seed), Tensor.tanh, xavier_normal)
            change(*(layer.weight.data for layer in model.layers))
            config = TrainingConfig(epochs=epochs, lr=0.05, seed=seed)
            curves[name].append(fit(model, split.x_train, split.y_train, config))
            rows = np.round(model.layers[0].weight.data, 9)
            distinct[name].append(len(np.unique(rows, axis=0)))
            test[name].append(accuracy(model, split.x_test, split.y_test))

    fig, ax = new_figure(7, 3.8)
    for name, colour, shift in zip(starts, (OURS, GREEN, WARM, "black"), (-8, 6, 0, 4), strict=True):
        mean = np.mean(curves[name], axis=0)
        ax.plot(range(1, epochs + 1), mean, color=colour)
        units = int(np.mean(distinct[name]))
        text = f"{name}: {units if units > 1 else 'no two'} different units"
        ax.annotate(text, (epochs, mean[-1]), (6, shift), textcoords="offset points", color=colour, va="center")
    ax.set(
        xlabel="epoch",
        ylabel="training loss (nats)",
        yscale="log",
        ylim=(0.03, 4),
        xlim=(1, epochs * 1.6),
        xticks=range(1, epochs + 1, 2),
    )
    ax.set_title("What becomes of a network whose hidden units start equal? (3 seeds)", loc="left")
    figure = save_figure(fig, figures / "zero_init.svg")
    keys = {
        "random": "random",
        "last layer zero": "last_zero",
        "one unit, 64 times": "copied",
        "all weights zero": "zero",
    }
    metrics: dict[str, Any] = {
        key: {
            "accuracy": spread(test[name]),
            "loss": spread([c[-1] for c in curves[name]]),
            "distinct_units": spread(distinct[name]),
        }
        for name, key in keys.items()
    }
    return Record(
        objective="What becomes of a network whose hidden units all start with the same weights?",
        setup="Digits, three stratified splits; MLP 64-64-10, tanh, Xavier weights, biases zero; SGD, momentum 0.9, "
        "lr 0.05 falling to 0, 15 epochs. Units count as different where their weights differ in the ninth decimal.",
        metrics=round_metrics(metrics | {"log_10": float(np.log(10))}),
        seeds=seeds,
        ablation=[
            {
                "changed": name,
                "different units": metrics[key]["distinct_units"]["mean"],
                "training loss": round_metrics(metrics[key]["loss"]["mean"], 4),
                "test accuracy": round_metrics(metrics[key]["accuracy"]["mean"], 4),
            }
            for name, key in keys.items()
        ],
        figure=figure,
        found="All weights zero: the loss stays at {zero[loss][mean]:.4f} (ln 10 is {log_10:.4f}) and the accuracy at "
        "{zero[accuracy][mean]:.3f}. One unit copied 64 times stays one unit and reaches "
        "{copied[accuracy][mean]:.3f}. Random weights reach {random[accuracy][mean]:.3f} with "
        "{random[distinct_units][mean]:.0f} different units.",
        negative="Zero in the last layer alone does no harm ({last_zero[accuracy][mean]:.3f}): its gradient is not "
        "zero, and the units below it already differ. The rule is about symmetry and not about zero.",
    )


def _zero_last_layer(first: Array, last: Array) -> None:
    last[...] = 0


def _zero_both_layers(first: Array, last: Array) -> None:
    first[...] = 0
    last[...] = 0


def _copy_first_unit(first: Array, last: Array) -> None:
    """Give all hidden units the weights of the first: rows of the matrix below them, columns of the one above."""
    first[...] = first[:1]
    last[...] = last[:, :1]


def signal_depth(figures: Path) -> Record:
    """How does the size of a signal change over fifty ReLU layers?"""
    seeds, depth, width = [0, 1, 2, 3, 4], 50, 256
    gains = {"Xavier (half of He)": 0.5, "He": 1.0, "2 × He": 2.0}
    logs = {name: np.array([_mean_squares(gain, seed, depth, width) for seed in seeds]) for name, gain in gains.items()}

    fig, ax = new_figure(7, 4)
    layers = np.arange(depth + 1)
    for (name, gain), colour in zip(gains.items(), (WARM, OURS, GREEN), strict=True):
        ax.plot(layers, layers * np.log10(gain), color=GREY, ls=":", lw=1.2)
        for run in logs[name]:
            ax.plot(layers, run, color=colour, alpha=0.45, lw=1)
        end = logs[name][:, -1].mean()
        ax.text(depth + 1, end, f"{name}\n× $10^{{{end:.1f}}}$", color=colour, va="center")
    ax.set(xlabel="layer", ylabel="log₁₀ of mean square (input = 0)", xlim=(0, depth * 1.25))
    ax.text(3, -13, "dotted: the formula, gain^layer", color=GREY)
    ax.set_title("How does the size of a signal change over fifty ReLU layers?", loc="left")
    figure = save_figure(fig, figures / "signal_depth.svg")
    keys = dict(zip(gains, ("xavier", "he", "twice_he"), strict=True))
    metrics: dict[str, Any] = {key: spread(logs[name][:, -1]) for name, key in keys.items()}
    for name, key in keys.items():
        metrics[key]["predicted"] = depth * float(np.log10(gains[name]))
    metrics["he_ratio"] = 10 ** metrics["he"]["mean"]
    return Record(
        objective="How does the mean square of a signal change over fifty ReLU layers under three initial variances?",
        setup="50 layers of width 256 without biases, ReLU after each, 64 normal inputs, five draws; weights normal "
        "with variance 1/n (Xavier in a square layer), 2/n (He) and 4/n. log₁₀ of mean square after over before.",
        metrics=round_metrics(metrics, 5),
        seeds=seeds,
        ablation=[
            {
                "changed": name,
                "log10 of the ratio": round_metrics(metrics[key]["mean"], 4),
                "sd": round_metrics(metrics[key]["sd"], 3),
                "predicted": round_metrics(metrics[key]["predicted"], 4),
            }
            for name, key in keys.items()
        ],
        figure=figure,
        found="Under He the mean square after 50 layers is {he_ratio:.2f} of the input's (geometric mean); under "
        "Xavier it has shrunk by 10^{xavier[mean]:.1f} where the formula says 10^{xavier[predicted]:.1f}, under twice "
        "He grown by 10^{twice_he[mean]:.1f}.",
        negative="The expectation is right, single networks are not: with width 256 the five He draws still differ by "
        "a standard deviation of {he[sd]:.2f} in log₁₀, as layers multiply their fluctuations.",
    )


def _mean_squares(gain: float, seed: int, depth: int, width: int) -> Array:
    """log₁₀ of the mean square after 0 … depth layers, over that of the input."""
    rng = np.random.default_rng(seed)
    y = Tensor(rng.standard_normal((64, width)))
    sizes = [np.mean(y.data**2)]
    with no_grad():
        for _ in range(depth):
            y = (y @ Tensor(he_normal(rng, (width, width), gain)).T).relu()
            sizes.append(np.mean(y.data**2))
    found: Array = np.log10(sizes) - np.log10(sizes[0])
    return found


def activation_histograms(figures: Path) -> Record:
    """What does each layer of a tanh network see under weights that are too small, right and too large?"""
    seeds, width, shown = [0, 1, 2], 256, (1, 3, 6, 10)
    scales = {"¼ of Xavier": 0.25, "Xavier": 1.0, "4 × Xavier": 4.0}
    layers = {name: [_tanh_layers(scale, seed, width, max(shown)) for seed in seeds] for name, scale in scales.items()}

    def deviation(name: str, layer: int) -> list[float]:
        return [float(run[layer - 1].std()) for run in layers[name]]

    def saturated(name: str, layer: int) -> list[float]:
        return [float(np.mean(np.abs(run[layer - 1]) > 0.95)) for run in layers[name]]

    fig, panels = new_figure(7.5, 4.2, columns=3)
    for ax, (name, colour) in zip(panels, zip(scales, (WARM, OURS, GREEN), strict=True), strict=True):
        for row, layer in enumerate(shown):
            counts, bins = np.histogram(layers[name][0][layer - 1], bins=80, range=(-1, 1))
            base = -row
            ax.fill_between(
                (bins[1:] + bins[:-1]) / 2, base, base + 0.6 * counts / counts.max(), color=colour, alpha=0.7, lw=0
            )
            ax.text(-1, base + 0.68, f"layer {layer}", fontsize=7.5, color=GREY)
            ax.text(1, base + 0.68, f"sd {np.mean(deviation(name, layer)):.2g}", fontsize=7.5, ha="right")
        ax.set(yticks=[], xticks=[-1, 0, 1], xlabel="activation", title=f"variance: {name}")
        ax.spines["left"].set_visible(False)
    fig.suptitle("What does each layer of a tanh network pass on, by the variance of its weights?", fontsize=10)
    figure = save_figure(fig, figures / "activation_histograms.svg")
    keys = dict(zip(scales, ("small", "xavier", "large"), strict=True))
    metrics = {
        key: {"sd_layer_10": spread(deviation(name, 10)), "saturated_layer_10": spread(saturated(name, 10))}
        for name, key in keys.items()
    }
    return Record(
        objective="What does each layer of a tanh network pass on when its weights are too small, right or too large?",
        setup="10 layers of width 256, tanh after each, no biases, 256 normal inputs, three draws; weights normal "
        "with variance ¼, 1 and 4 times Xavier's 1/n. Saturated means |activation| > 0.95.",
        metrics=round_metrics(metrics),
        seeds=seeds,
        ablation=[
            {
                "changed": f"variance {name}",
                "sd in layer 10": round_metrics(metrics[key]["sd_layer_10"]["mean"], 4),
                "saturated in layer 10": round_metrics(metrics[key]["saturated_layer_10"]["mean"], 4),
            }
            for name, key in keys.items()
        ],
        figure=figure,
        found="In layer 10 activations have standard deviation {small[sd_layer_10][mean]:.4f} with a quarter of "
        "Xavier's variance and {xavier[sd_layer_10][mean]:.3f} with Xavier's; with four times the variance "
        "{large[saturated_layer_10][mean]:.0%} of them are saturated.",
        negative="Xavier itself is not stationary for tanh: its derivation takes the activation as linear, and each "
        "tanh shrinks a little, down to a standard deviation of {xavier[sd_layer_10][mean]:.3f}.",
    )


def _tanh_layers(scale: float, seed: int, width: int, depth: int) -> list[Array]:
    rng = np.random.default_rng(seed)
    y, found = Tensor(rng.standard_normal((256, width))), []
    with no_grad():
        for _ in range(depth):
            y = (y @ Tensor(np.sqrt(scale) * xavier_normal(rng, (width, width))).T).tanh()
            found.append(y.data)
    return found


def deep_linear(figures: Path) -> Record:
    """Do two linear layers learn one mode after another, along the curves that theory gives?"""
    seeds, start, lr, steps = [0, 1, 2], 1e-3, 0.008, 1250
    strengths = np.array([3.0, 2.0, 1.0, 0.5])
    t = lr * np.arange(steps)
    theory = np.stack([mode_curve(t, s, start) for s in strengths], axis=1)
    runs, loose, shallow = [], [], []
    for seed in seeds:
        runs.append(learn_modes(np.random.default_rng(seed), strengths, start, lr, steps))
        loose.append(learn_modes(np.random.default_rng(seed), strengths, start, lr, steps, aligned=False))
        shallow.append(learn_modes_shallow(np.random.default_rng(seed), strengths, lr, steps))

    def deviation(run: Array) -> float:
        return float((np.abs(run - theory) / strengths).max())

    def half_times(run: Array) -> Array:
        return t[(run > strengths / 2).argmax(axis=0)]

    fig, ax = new_figure(7, 4)
    for i, s in enumerate(strengths):
        ax.plot(t, theory[:, i], color="black", ls=":", lw=1.2)
        ax.plot(t, runs[0][:, i], color=OURS, lw=2, alpha=0.6)
        ax.plot(t, shallow[0][:, i], color=GREY, lw=0.8)
        half = half_times(runs[0])[i]
        ax.plot(half, s / 2, "o", color=OURS, ms=4)
        ax.text(10, s + 0.04, f"half at t = {half:.2f}", color=OURS, fontsize=8, ha="right")  # where nothing moves
    ax.text(10, 2.6, "two layers (dotted: the formula; dot: half of the strength)", color=OURS, ha="right")
    ax.text(10, 2.4, "one layer: every mode at the same pace", color=GREY, ha="right")
    ax.set(xlabel="time (learning rate × steps)", ylabel="strength of a mode of the product")
    ax.set_title(
        "Do two linear layers learn strong modes first, along the curves of the theory?", loc="left", fontsize="medium"
    )
    figure = save_figure(fig, figures / "deep_linear.svg")
    deep, flat = half_times(runs[0]), half_times(shallow[0])
    metrics = {
        "deviation": spread([round(deviation(run), 12) for run in runs]),  # seeds differ by rounding alone
        "deviation_random_start": spread([deviation(run) for run in loose]),
        "half_times": deep.tolist(),
        "half_time_times_strength": (deep * strengths).tolist(),
        "slowest_over_fastest": float(deep[-1] / deep[0]),
        "slowest_over_fastest_shallow": float(flat[-1] / flat[0]),
    }
    return Record(
        objective="Do two linear layers learn one mode after another along Saxe's curves?",
        setup="Target 16×16 with singular values 3, 2, 1, 0.5 and random orthogonal factors (three draws), white "
        "inputs; gradient descent on both layers, lr 0.008, 1,250 steps, aligned start of strength 0.001. Deviation: "
        "largest distance from the formula over all times, as a share of the mode's strength.",
        metrics=round_metrics(metrics, 5),
        seeds=seeds,
        ablation=[
            {
                "changed": "base: two layers, aligned start",
                "deviation from the formula": round_metrics(metrics["deviation"]["mean"], 3),
                "slowest mode over fastest": round_metrics(metrics["slowest_over_fastest"], 3),
            },
            {
                "changed": "two layers, random start of the same size",
                "deviation from the formula": round_metrics(metrics["deviation_random_start"]["mean"], 3),
                "slowest mode over fastest": round_metrics(
                    float(half_times(loose[0])[-1] / half_times(loose[0])[0]), 3
                ),
            },
            {
                "changed": "one layer",
                "slowest mode over fastest": round_metrics(metrics["slowest_over_fastest_shallow"], 3),
            },
        ],
        figure=figure,
        found="Every mode follows the formula to {deviation[mean]:.3f} of its strength. The weakest mode takes "
        "{slowest_over_fastest:.2f} times as long as the strongest; in a single layer "
        "{slowest_over_fastest_shallow:.2f} times: depth, not the data alone, makes strong modes come first.",
        negative="A random start of the same size is off by {deviation_random_start[mean]:.2f}: its shape is S-like "
        "too, but the modes first have to align, and the formula does not know how long that takes.",
    )


def random_labels(figures: Path) -> Record:
    """Can a network learn labels that mean nothing?"""
    seeds, n, epochs = [0, 1, 2], 500, 150
    shares = {"true labels": 0.0, "half of them random": 0.5, "all random": 1.0}
    curves: dict[str, list[list[float]]] = {name: [] for name in shares}
    test: dict[str, list[float]] = {name: [] for name in shares}
    needed: dict[str, list[float]] = {name: [] for name in shares}
    for seed in seeds:
        split = digits(seed)
        x, true = split.x_train[:n], split.y_train[:n]
        for name, share in shares.items():
            rng = np.random.default_rng(seed)
            labels = np.where(rng.random(n) < share, rng.integers(10, size=n), true)
            model = MLP([64, 256, 256, 10], rng)
            reached: list[float] = []
            stop = _until_perfect(model, x, labels, reached)
            fit(model, x, labels, TrainingConfig(epochs=epochs, batch_size=50, lr=0.05, decay=False, seed=seed), stop)
            curves[name].append(reached + [reached[-1]] * (epochs - len(reached)))
            needed[name].append(len(reached))
            test[name].append(accuracy(model, split.x_test, split.y_test))

    fig, ax = new_figure(7, 3.8)
    for (name, colour), y in zip(zip(shares, (OURS, GREEN, WARM), strict=True), (0.62, 0.45, 0.28), strict=True):
        mean = np.mean(curves[name], axis=0)
        ax.plot(range(1, epochs + 1), mean, color=colour)
        text = f"{name}: 100% after {np.mean(needed[name]):.0f} epochs, test {np.mean(test[name]):.0%}"
        ax.text(0.98, y, text, color=colour, ha="right", transform=ax.transAxes)
    ax.set(xlabel="epoch", ylabel="training accuracy", xscale="log", ylim=(0, 1.03), xlim=(1, epochs))
    ax.set_title("Can a network learn labels that mean nothing? (500 digits, 3 seeds)", loc="left")
    figure = save_figure(fig, figures / "random_labels.svg")
    keys = dict(zip(shares, ("true", "half", "random"), strict=True))
    metrics: dict[str, Any] = {
        f"{key}_{what}": spread(values[name])
        for name, key in keys.items()
        for what, values in (("epochs", needed), ("test", test))
    }
    last = [curve[-1] for curve in curves["all random"]]
    parameters = sum(p.size for p in MLP([64, 256, 256, 10], np.random.default_rng(0)).parameters())
    metrics |= {"random_labels_train": {**spread(last), "least": min(last)}, "parameters": parameters, "samples": n}
    return Record(
        objective="Can a network that generalises well also learn labels drawn at random?",
        setup="500 digits, three stratified splits; MLP 64-256-256-10, ReLU, He; SGD, momentum 0.9, lr 0.05, batches "
        "of 50, no regularisation, until every training label is right (at most 150 epochs). Test labels are the true "
        "ones.",
        metrics=round_metrics(metrics),
        seeds=seeds,
        ablation=[
            {
                "changed": name,
                "epochs to 100%": round_metrics(metrics[f"{key}_epochs"]["mean"], 4),
                "test accuracy": round_metrics(metrics[f"{key}_test"]["mean"], 4),
                "sd": round_metrics(metrics[f"{key}_test"]["sd"], 3),
            }
            for name, key in keys.items()
        ],
        figure=figure,
        found="Every random label is learnt ({random_labels_train[least]:.0%} on all seeds), in "
        "{random_epochs[mean]:.0f} epochs where the true ones take {true_epochs[mean]:.0f}. Test accuracy: "
        "{true_test[mean]:.3f} with true labels, {half_test[mean]:.3f} with half of them random, "
        "{random_test[mean]:.3f} with all.",
    )


def _until_perfect(model: Module, x: Array, labels: Array, reached: list[float]) -> Callable[[int, float], bool]:
    def stop(epoch: int, loss: float) -> bool:
        reached.append(accuracy(model, x, labels))
        return reached[-1] == 1.0

    return stop


def dead_relus(figures: Path) -> Record:
    """How many ReLUs die at which learning rate?"""
    seeds, rates = [0, 1, 2], [0.1, 0.3, 0.5, 0.7, 1.0]
    activations: dict[str, Callable[[Tensor], Tensor]] = {
        "ReLU": Tensor.relu,
        "leaky ReLU": functional.leaky_relu,
    }
    found: dict[str, list[list[tuple[float, float]]]] = {name: [] for name in activations}
    for name, activation in activations.items():
        for lr in rates:
            found[name].append([_train_and_count(activation, lr, seed) for seed in seeds])
    dead = np.array(found["ReLU"])[..., 0]  # (rates, seeds)
    right = {name: np.array(found[name])[..., 1] for name in activations}

    fig, panels = new_figure(7.5, 3.6, columns=2)
    panels[0].plot(rates, dead.mean(1), "o-", color=WARM)
    for lr, share in zip(rates, dead.mean(1), strict=True):
        panels[0].annotate(f"{share:.0%}", (lr, share), (0, 7), textcoords="offset points", ha="center", color=WARM)
    panels[0].set(xscale="log", xlabel="learning rate", ylabel="share of dead hidden units", ylim=(-0.03, 1.12))
    panels[0].set_title("How many hidden units die?", loc="left")
    for name, colour in (("ReLU", WARM), ("leaky ReLU", OURS)):
        panels[1].plot(rates, right[name].mean(1), "o-", color=colour)
    panels[1].text(rates[0], 0.55, "leaky ReLU", color=OURS)
    panels[1].text(rates[0], 0.47, "ReLU", color=WARM)
    panels[1].set(xscale="log", xlabel="learning rate", ylabel="test accuracy", ylim=(0, 1.03))
    panels[1].set_title("What does it cost? (3 seeds)", loc="left")
    figure = save_figure(fig, figures / "dead_relus.svg")
    metrics: dict[str, Any] = {
        "rates": rates,
        "dead_by_rate": dead.mean(1).tolist(),
        "dead_at_least_rate": spread(dead[0]),
        "dead_at_1": spread(dead[rates.index(1.0)]),
        "accuracy_relu": right["ReLU"].mean(1).tolist(),
        "accuracy_leaky": right["leaky ReLU"].mean(1).tolist(),
        "relu_at_1": spread(right["ReLU"][rates.index(1.0)]),
        "leaky_at_1": spread(right["leaky ReLU"][rates.index(1.0)]),
    }
    return Record(
        objective="How many ReLUs die at which learning rate, and does it matter?",
        setup="Digits, three stratified splits; MLP 64-128-128-10, He; plain SGD without momentum, batches of 32, 6 "
        "epochs, constant learning rate. A unit is dead when no training image activates it.",
        metrics=round_metrics(metrics),
        seeds=seeds,
        ablation=[
            {
                "changed": f"lr {lr:g}",
                "dead ReLUs": round_metrics(dead[i].mean(), 4),
                "accuracy, ReLU": round_metrics(right["ReLU"][i].mean(), 4),
                "accuracy, leaky ReLU": round_metrics(right["leaky ReLU"][i].mean(), 4),
            }
            for i, lr in enumerate(rates)
        ],
        figure=figure,
        found="At the smallest rate {dead_at_least_rate[mean]:.1%} of the units are dead, at rate one "
        "{dead_at_1[mean]:.1%} ± {dead_at_1[sd]:.1%}; there ReLU reaches {relu_at_1[mean]:.3f} and the leaky ReLU "
        "{leaky_at_1[mean]:.3f}.",
        negative="The leaky ReLU, whose units cannot die, breaks down at the same rates ({leaky_at_1[mean]:.3f} at "
        "rate one): dead units are a trace of steps that are too large and not the reason why training fails.",
    )


def _train_and_count(activation: Callable[[Tensor], Tensor], lr: float, seed: int) -> tuple[float, float]:
    """Share of hidden units that no training image activates, and the test accuracy."""
    split = digits(seed)
    model = MLP([64, 128, 128, 10], np.random.default_rng(seed), activation=activation)
    with np.errstate(over="ignore", invalid="ignore"):  # the largest rates may diverge: that is an outcome here
        fit(model, split.x_train, split.y_train, TrainingConfig(6, 32, lr, momentum=0.0, decay=False, seed=seed))
        with no_grad():
            hidden = model.activations(Tensor(split.x_train))[:-1]
        alive = np.concatenate([(layer.data > 0).any(axis=0) for layer in hidden])
        return float(np.mean(~alive)), accuracy(model, split.x_test, split.y_test)


def decision_boundary(figures: Path) -> Record:
    """Which boundary does a network draw where no line will do?"""
    seeds, n = [0, 1, 2], 400
    models = {"softmax regression": [2, 2], "8 hidden units": [2, 8, 2], "two hidden layers of 64": [2, 64, 64, 2]}
    scores: dict[str, list[float]] = {name: [] for name in models}
    kept: dict[str, MLP] = {}
    for seed in seeds:
        rng = np.random.default_rng(seed)
        (x, labels), (x_new, labels_new) = spirals(rng, n), spirals(rng, 1000)
        for name, sizes in models.items():
            model = MLP(sizes, np.random.default_rng(seed))
            fit(model, x, labels, TrainingConfig(epochs=150, batch_size=50, lr=0.05, seed=seed))
            scores[name].append(accuracy(model, x_new, labels_new))
            if seed == seeds[0]:
                kept[name] = model

    x, labels = spirals(np.random.default_rng(seeds[0]), n)
    grid = np.linspace(-3.6, 3.6, 160)
    plane = np.stack(np.meshgrid(grid, grid), axis=-1)
    fig, panels = new_figure(7.5, 3.1, columns=3)
    for ax, name in zip(panels, models, strict=True):
        with no_grad():
            p = functional.softmax(kept[name](Tensor(plane))).data[..., 1]
        ax.imshow(
            p, extent=(-3.6, 3.6, -3.6, 3.6), origin="lower", cmap="RdBu", vmin=-0.3, vmax=1.3, interpolation="bilinear"
        )
        ax.contour(grid, grid, p, levels=[0.5], colors="black", linewidths=0.8)
        ax.scatter(*x.T, c=np.where(labels, "#1a4480", "#8b2a1a"), s=2)
        ax.set(xticks=[], yticks=[], aspect="equal")
        ax.set_title(f"{name}\n{np.mean(scores[name]):.1%} of new points right", fontsize=9)
    fig.suptitle("Which boundary does a network draw where no line will do?", fontsize=10)
    figure = save_figure(fig, figures / "decision_boundary.png")
    keys = dict(zip(models, ("linear", "small", "large"), strict=True))
    metrics = {key: spread(scores[name]) for name, key in keys.items()}
    return Record(
        objective="Which decision boundary does a network draw on two interleaved spirals?",
        setup="400 points of two spirals with noise 0.12, 1,000 new ones for the test, three draws; SGD, momentum "
        "0.9, lr 0.05 falling to 0, batches of 50, 150 epochs, ReLU, He.",
        metrics=round_metrics(metrics),
        seeds=seeds,
        ablation=[
            {
                "changed": name,
                "accuracy on new points": round_metrics(metrics[key]["mean"], 4),
                "sd": round_metrics(metrics[key]["sd"], 3),
            }
            for name, key in reversed(keys.items())
        ],
        figure=figure,
        found="Without hidden units {linear[mean]:.3f} of new points are right, with eight {small[mean]:.3f}, with "
        "two layers of 64 {large[mean]:.3f}. The boundary is made of straight pieces, one kink for each ReLU that it "
        "crosses.",
    )


# --- speed -----------------------------------------------------------------------------------------------------------


def epoch_speed(figures: Path) -> Record:
    """How long does an epoch take beside torch, for the same losses?"""
    widths = [16, 64, 256]
    equal, ours, theirs, ratios = [], [], [], []
    for width in widths:
        epochs = torch_twin.epochs_of_both(width)
        losses = epochs[0](), epochs[1]()
        equal.append(bool(np.abs(np.subtract(*losses)).max() <= 1e-10))
        pairs = np.array(torch_twin.seconds_of_both(*epochs, pairs=7))
        ours.append(float(np.median(pairs[:, 0])))
        theirs.append(float(np.median(pairs[:, 1])))
        ratios.append(float(np.median(pairs[:, 0] / pairs[:, 1])))

    fig, ax = new_figure(7, 3.6)
    place = np.arange(len(widths))
    ax.bar(place - 0.2, np.multiply(ours, 1e3), 0.38, color=OURS)
    ax.bar(place + 0.2, np.multiply(theirs, 1e3), 0.38, color=BASELINE_COLOUR)
    for i, ratio in enumerate(ratios):
        ax.text(i - 0.2, ours[i] * 1e3, f"{ratio:.2f} ×", ha="center", va="bottom", weight="bold", color=OURS)
    ax.text(-0.2, ours[0] * 500, "ours", ha="center", color="white")
    ax.text(0.2, theirs[0] * 500, "torch", ha="center", color="white")
    ax.set(xticks=place, xticklabels=[f"two layers of {width}" for width in widths], ylabel="milliseconds an epoch")
    ax.set_title("How long does an epoch of the digits take beside torch? (one thread, float64)", loc="left")
    figure = save_figure(fig, figures / "epoch_speed.svg")
    return Record(
        objective="How long does a training epoch take beside torch, for the same losses?",
        setup="MLPs 64-w-w-10 on 1,347 digits, batches of 32, SGD with momentum, float64, one thread, the same "
        "weights and order in both; medians of 7 epochs taken in turns in one process. Seconds stand in the timings.",
        metrics={"widths": widths, "same_losses": equal, "all_same": all(equal)},
        seeds=[],
        ablation=[{"changed": f"width {w}", "losses equal to 1e-10": e} for w, e in zip(widths, equal, strict=True)],
        figure=figure,
        found="Both engines go through the same losses in every step of an epoch, at each width. How many times as "
        "long this one takes is a measured time and stands in the timings and on the figure.",
        timings={
            f"width_{width}": {"ours_ms": round(a * 1e3, 2), "torch_ms": round(b * 1e3, 2), "ratio": round(r, 3)}
            for width, a, b, r in zip(widths, ours, theirs, ratios, strict=True)
        },
    )
