"""The experiments of this milestone: each asks one question of the optimizers and draws the answer."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from llmm.figures import BASELINE_COLOUR, OURS, new_figure, save_figure
from llmm.foundations.optimizers import AdamW, Muon, checks, plain
from llmm.foundations.optimizers.foreach import SGD
from llmm.foundations.optimizers.muon import NEWTON_SCHULZ, orthogonalise
from llmm.foundations.optimizers.oracles import Make, by_rule, torch_muon_without_rounding
from llmm.foundations.optimizers.problems import (
    Perceptron,
    curvatures,
    digits,
    steps_to_reach,
)
from llmm.foundations.optimizers.problems import (
    counterexample as places_on_counterexample,
)
from llmm.foundations.optimizers.shapes import ADAMW_SHAPES, MUON_SHAPES
from llmm.foundations.optimizers.sharpness import sharpness
from llmm.foundations.optimizers.training import CANDIDATES, judge, train
from llmm.ladder.records import Record, round_metrics

SEEDS = [0, 1, 2]
SHADES = ("#1a365d", "#2b6cb0", "#dd6b20", "#718096")  # told apart in grey too


def mean_and_sd(values: list[float]) -> dict[str, float]:
    """Of one number a seed: mean, sample standard deviation, how many."""
    return {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1)), "n": len(values)}


# --- trajectories ---------------------------------------------------------------------------------------------------


def trajectories(figures: Path) -> Record:
    """How do the rules go down one and the same valley, and does it matter which way the valley lies?"""
    condition, share = 100.0, 1e-3
    rules: dict[str, tuple[Any, dict[str, float]]] = {
        "SGD": (plain.sgd, {"lr": 1.9}),
        "momentum": (plain.momentum, {"lr": 0.5, "mu": 0.8}),
        "Adam": (plain.adam, {"lr": 0.2, "beta2": 0.99}),
        "Lion": (plain.lion, {"lr": 0.05}),
    }
    steps: dict[str, dict[str, int]] = {}
    figure, axes = new_figure(7.0, 2.7, columns=len(rules))
    for ax, (name, (rule, settings)) in zip(axes, rules.items(), strict=True):
        steps[name] = {}
        for degrees, colour, height in ((0, "0.35", 0.12), (45, OURS, 0.03)):
            H, start = _valley(condition, degrees)
            path = _descend(rule, H, start, share, settings)
            steps[name][f"turned_{degrees}"] = len(path) - 1
            in_valley = path @ _rotation(degrees)  # in the valley's own axes, so that both can be drawn in one
            ax.plot(in_valley[:, 0], in_valley[:, 1], "-o", color=colour, markersize=1.6, linewidth=0.7)
            text = f"turned by 45°: {len(path) - 1}" if degrees else f"along the axes: {len(path) - 1}"
            ax.text(0.1, height, text, transform=ax.transAxes, color=colour, fontsize=7.5)
        _contours(ax, condition)
        ax.set_title(name, loc="left", fontsize="medium")
        if ax is not axes[0]:
            ax.set_yticklabels([])
    axes[0].set_ylabel("across the valley")
    axes[0].set_xlabel("along the valley")
    figure.suptitle(
        f"Does it matter how the valley lies? Steps to {share:.0e} of the first loss, κ = {condition:.0f}",
        x=0.01,
        ha="left",
        fontsize="medium",
    )
    ratio = {name: counts["turned_45"] / counts["turned_0"] for name, counts in steps.items()}
    return Record(
        objective="See what a rule that scales every coordinate does in a valley that lies across the coordinates.",
        setup=f"Quadratic in two dimensions, curvatures 1 and 1/{condition:.0f}, from (-3, 1) in the valley's axes; "
        f"the "
        f"same valley along the axes and turned by 45 degrees; steps until the loss is {share:.0e} of the first; "
        f"float64; "
        "SGD with lr 1.9, momentum 0.8 with 0.5, Adam with 0.2 and β₂ 0.99, Lion with 0.05.",
        metrics=round_metrics({"steps": steps, "turned_over_straight": ratio}),
        seeds=[],
        ablation=[
            {"changed": f"{name}, valley turned by {degrees}°", "steps": steps[name][f"turned_{degrees}"]}
            for name in rules
            for degrees in (0, 45)
        ],
        figure=save_figure(figure, figures / "trajectories.svg"),
        found="SGD and momentum take the same path however the valley lies. Turning it costs Adam "
        "{turned_over_straight[Adam]:.1f} times the steps ({steps[Adam][turned_0]} became {steps[Adam][turned_45]}): "
        "its "
        "scales belong to the coordinates, and in the turned valley both coordinates look alike.",
        negative="Adam's lead over SGD ({steps[SGD][turned_0]} steps) is a lead along the axes only; turned by 45 "
        "degrees "
        "it is the slowest of the four.",
    )


def _rotation(degrees: float) -> Tensor:
    a = math.radians(degrees)
    return torch.tensor([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]], dtype=torch.float64)


def _valley(condition: float, degrees: float) -> tuple[Tensor, Tensor]:
    """Hessian and starting point of the valley, turned."""
    Q = _rotation(degrees)
    h = torch.tensor([1 / condition, 1.0], dtype=torch.float64)
    return Q @ h.diag() @ Q.T, Q @ torch.tensor([-3.0, 1.0], dtype=torch.float64)


def _descend(rule: Any, H: Tensor, w: Tensor, share: float, settings: dict[str, float], most: int = 1000) -> Tensor:
    """The places (T + 1, 2) on ½ wᵀHw until the loss is `share` of the first."""
    s: dict[str, Any] = {}
    path, enough = [w], share * float(w @ H @ w)
    for t in range(1, most + 1):
        s["t"] = t
        w = rule(w, H @ w, s, **settings)
        path.append(w)
        if float(w @ H @ w) <= enough:
            break
    return torch.stack(path)


def _contours(ax: Any, condition: float) -> None:
    x, y = np.meshgrid(np.linspace(-3.4, 1.6, 80), np.linspace(-1.3, 1.3, 80))
    ax.contour(x, y, x**2 / condition + y**2, levels=8, colors="0.88", linewidths=0.7, zorder=0)
    ax.set_xlim(-3.4, 1.6)
    ax.set_ylim(-1.3, 1.3)
    ax.tick_params(labelsize=7)


# --- conditioning ---------------------------------------------------------------------------------------------------


def conditioning(figures: Path) -> Record:
    """How do the steps to a solution grow with the condition number?"""
    conditions = [30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0]
    tolerance = 1e-6

    def settings(name: str, k: float) -> dict[str, Any]:
        root = math.sqrt(k)
        return {
            "gradient descent": {"lr": 2 / (1 + 1 / k)},
            "heavy ball": {"lr": 4 / (1 + 1 / root) ** 2, "mu": ((root - 1) / (root + 1)) ** 2},
            "Nesterov": {"lr": 1.0, "mu": (root - 1) / (root + 1)},
            "momentum 0.9 for all": {"lr": 2 * 1.9 / (1 + 1 / k) * 0.99, "mu": 0.9},
        }[name]

    rules = {
        "gradient descent": plain.sgd,
        "heavy ball": plain.momentum,
        "Nesterov": plain.nesterov,
        "momentum 0.9 for all": plain.momentum,
    }
    steps = {
        name: [steps_to_reach(tolerance, curvatures(k), rule, **settings(name, k)) for k in conditions]
        for name, rule in rules.items()
    }
    slopes = {name: float(np.polyfit(np.log(conditions), np.log(counts), 1)[0]) for name, counts in steps.items()}
    # with a fixed μ there are two regimes; the exponent that counts is the last one
    counts = steps["momentum 0.9 for all"]
    slopes["momentum 0.9 for all"] = math.log(counts[-1] / counts[-2]) / math.log(conditions[-1] / conditions[-2])

    figure, ax = new_figure(7.0, 3.6)
    for (name, counts), colour, marker in zip(steps.items(), SHADES, "osD^", strict=True):
        ax.loglog(conditions, counts, f"-{marker}", color=colour, markersize=4)
        ax.annotate(
            f"{name}: slope {slopes[name]:.2f}",
            (conditions[-1], counts[-1]),
            (6, 0),
            textcoords="offset points",
            va="center",
            color=colour,
        )
    ax.set_xlim(25, 2e5)
    ax.set_xticks([1e2, 1e3, 1e4])
    ax.set_title(
        f"How do the steps to {tolerance:.0e} of the distance grow with the condition number?",
        loc="left",
        fontsize="medium",
    )
    ax.set_xlabel("condition number κ")
    ax.set_ylabel("steps")
    keys = {
        "gradient descent": "gradient_descent",
        "heavy ball": "heavy_ball",
        "Nesterov": "nesterov",
        "momentum 0.9 for all": "fixed_momentum",
    }
    return Record(
        objective="Measure the exponents of README (5) and (9): steps ∝ κ for gradient descent, √κ for the heavy ball.",
        setup="Quadratic in 32 dimensions, eigenvalues log-spaced from 1/κ to 1, float64, from (1, ..., 1), each rule "
        "with the "
        f"best rate and momentum for its κ; steps until the distance is {tolerance:.0e} of the first. Slopes: least "
        f"squares in "
        "log-log over six condition numbers; for the fixed momentum over the last two.",
        metrics=round_metrics(
            {
                "conditions": conditions,
                "steps": {keys[name]: counts for name, counts in steps.items()},
                "slope": {keys[name]: slope for name, slope in slopes.items()},
                "saved_at_10000": steps["gradient descent"][-1] / steps["heavy ball"][-1],
            }
        ),
        seeds=[],
        ablation=round_metrics(
            [{"changed": name, "slope": slopes[name], "steps at κ = 10,000": steps[name][-1]} for name in rules]
        ),
        figure=save_figure(figure, figures / "conditioning.svg"),
        found="Steps grow with κ to the power {slope[gradient_descent]:.3f} for gradient descent, "
        "{slope[heavy_ball]:.3f} for the "
        "heavy ball and {slope[nesterov]:.3f} for Nesterov; at κ of ten thousand the heavy ball takes "
        "{saved_at_10000:.0f} times fewer.",
        negative="The square root is the reward for knowing κ. With μ left at its usual value the exponent becomes "
        "{slope[fixed_momentum]:.2f} once κ is large: a constant factor is won, no exponent.",
    )


# --- Reddi's counterexample -----------------------------------------------------------------------------------------


def counterexample(figures: Path) -> Record:
    """Does Adam go to the wrong end of a convex problem, and does AMSGrad not?"""
    C, cycles = 3.0, 400
    short = 1 / (1 + C**2)
    tried: list[tuple[str, Any, float, float]] = [
        ("Adam", plain.adam, short, 0.0),
        ("AMSGrad", plain.amsgrad, short, 0.0),
        ("Adam, β₂ = 0.9", plain.adam, 0.9, 0.0),
        ("Adam, β₂ = 0.999", plain.adam, 0.999, 0.0),
        ("Adam, β₁ = 0.3", plain.adam, short, 0.3),
        ("Adam, β₁ = 0.9", plain.adam, short, 0.9),
    ]
    places = {
        name: places_on_counterexample(rule, C, cycles, beta1=beta1, beta2=beta2, eps=0.0)
        for name, rule, beta2, beta1 in tried
    }
    figure, ax = new_figure(7.0, 3.4)
    shown = [("Adam", "#dd6b20", "-"), ("AMSGrad", OURS, "-"), ("Adam, β₂ = 0.999", BASELINE_COLOUR, "--")]
    for name, colour, line in shown:
        ax.plot(range(1, cycles + 1), places[name], line, color=colour)
    for text, y, colour in (
        ("Adam ends at the worst point", 0.9, "#dd6b20"),
        ("AMSGrad", -0.9, OURS),
        ("Adam with β₂ = 0.999", -0.62, BASELINE_COLOUR),
    ):
        ax.annotate(text, (cycles, y), (0, 0), textcoords="offset points", ha="right", va="center", color=colour)
    ax.axhline(0, color="0.85", linewidth=0.8)
    ax.set_title(
        f"Which end do they find? Slopes {C:.0f}, -1, -1 in turn; the best point is -1", loc="left", fontsize="medium"
    )
    ax.set_xlabel("cycles of three steps")
    ax.set_ylabel("w")
    ends = {name: found[-1] for name, found in places.items()}
    drift = {str(c): counterexample_drifts(c) for c in (2.5, 3.0, 5.0, 10.0)}
    return Record(
        objective="Show the sign of README (18) and (19): Adam climbs on a problem that AMSGrad solves.",
        setup=f"Losses {C:.0f}w, -w, -w in turn on [-1, 1], so that each cycle's sum is least at -1; β₁ = 0, β₂ = 1/(1 "
        f"+ C²) = "
        f"{short:g}, ε = 0, lr 0.5/√t, from w = 0, {cycles} cycles, float64.",
        metrics=round_metrics(
            {
                "adam_end": ends["Adam"],
                "amsgrad_end": ends["AMSGrad"],
                "long_memory_end": ends["Adam, β₂ = 0.999"],
                "momentum_end": ends["Adam, β₁ = 0.3"],
                "more_momentum_end": ends["Adam, β₁ = 0.9"],
                "adam_goes_wrong": ends["Adam"] > 0.9,
                "amsgrad_goes_right": ends["AMSGrad"] < -0.9,
                "drift": drift,
            }
        ),
        seeds=[],
        ablation=round_metrics([{"changed": name, "end": end} for name, end in ends.items()]),
        figure=save_figure(figure, figures / "counterexample.svg"),
        found="Adam ends at {adam_end:.2f}, the worst point there is, AMSGrad at {amsgrad_end:.2f}. The drifts over a "
        "cycle that "
        "README (18) and (19) predict have opposite signs for every slope tried.",
        negative="It takes a memory of about one step. With β₂ as everybody sets it Adam ends at "
        "{long_memory_end:.2f}, so "
        "the example says that no β₂ is safe for all problems, not that Adam fails on those that people have.",
    )


def counterexample_drifts(C: float) -> dict[str, float]:
    """Change of w over a cycle for lr = 1, far from the ends, by README (18) and (19), for β₂ = 1/(1 + C²)."""
    b = 1 / (1 + C**2)
    v = [(1 - b) / (1 - b**3) * x for x in (C**2 + b + b**2, 1 + b * C**2 + b**2, 1 + b + b**2 * C**2)]
    return {
        "adam": -C / math.sqrt(v[0]) + 1 / math.sqrt(v[1]) + 1 / math.sqrt(v[2]),
        "amsgrad": (2 - C) / math.sqrt(max(v)),
    }


# --- Newton-Schulz --------------------------------------------------------------------------------------------------


def quintic(s: Tensor, steps: int, coefficients: tuple[float, float, float] = NEWTON_SCHULZ) -> Tensor:
    """What `steps` steps of the iteration do to singular values s."""
    a, b, c = coefficients
    for _ in range(steps):
        s = a * s + b * s**3 + c * s**5
    return s


def newton_schulz(figures: Path) -> Record:
    """Where do the singular values go?"""
    s = torch.logspace(-4, 0, 40001, dtype=torch.float64)
    lifted = {k: quintic(s, k) for k in (1, 3, 5, 8)}
    cubic = quintic(s, 5, (15 / 8, -10 / 8, 3 / 8))  # the classical one: slope 0 and curvature 0 at 1, so it converges

    def band(values: Tensor, above: float) -> list[float]:
        kept = values[s >= above]
        return [float(kept.min()), float(kept.max())]

    def first_above(values: Tensor, low: float = 0.68) -> float:
        """The smallest s above which every value is at least `low`."""
        below = (values < low).nonzero()
        return float(s[below.max() + 1]) if len(below) else float(s[0])

    matrices = {f"{m}x{n}": _singular_values_of_gradients((m, n)) for m, n in ((192, 192), (512, 192))}
    measured = {
        name: {
            "smallest_input": mean_and_sd([float(i.min()) for i, _ in pairs]),
            "smallest": mean_and_sd([float(o.min()) for _, o in pairs]),
            "largest": mean_and_sd([float(o.max()) for _, o in pairs]),
            "share_in_band": mean_and_sd([float(((o >= 0.68) & (o <= 1.135)).double().mean()) for _, o in pairs]),
        }
        for name, pairs in matrices.items()
    }

    figure, ax = new_figure(7.0, 3.8)
    ax.axhspan(*band(lifted[5], 0.01), color="0.92", zorder=0)
    for k, colour, line in ((1, BASELINE_COLOUR, ":"), (3, "#63b3ed", "-"), (5, OURS, "-")):
        ax.semilogx(s, lifted[k], line, color=colour, linewidth=1.2)
    ax.semilogx(s, cubic, "--", color="#dd6b20", linewidth=1)
    for (i, o), marker, shade in zip(
        (matrices["192x192"][0], matrices["512x192"][0]), "o^", ("0.2", "#1a365d"), strict=True
    ):
        ax.semilogx(i[::6], o[::6], marker, color=shade, markersize=3, markerfacecolor="none", markeredgewidth=0.7)
    for text, x, y, colour in (
        ("1 step", 0.0107, 0.09, "0.35"),
        ("3 steps", 0.0075, 0.36, "#3182ce"),
        ("5 steps", 5.2e-4, 0.42, OURS),
        ("5 steps that converge to 1", 0.02, 0.24, "#dd6b20"),
    ):
        ax.text(x, y, text, color=colour)
    low, high = band(lifted[5], 0.01)
    ax.text(1.05e-4, high + 0.015, f"[{low:.3f}, {high:.3f}]: all that began above 0.01", fontsize=8, color="0.35")
    ax.text(1.15e-4, 1.03, "○ 192 × 192 gradient", fontsize=8)
    ax.text(1.15e-4, 0.96, "△ 512 × 192 gradient", fontsize=8)
    ax.set_ylim(0, 1.3)
    ax.set_xlim(1e-4, 1)
    ax.set_title(
        "Where do singular values go? They are lifted fast, and do not settle at 1", loc="left", fontsize="medium"
    )
    ax.set_xlabel("singular value before, as a share of the Frobenius norm")
    ax.set_ylabel("singular value after")
    return Record(
        objective="Find the band that Newton-Schulz brings singular values into, and from where.",
        setup="The polynomial on 40,001 singular values from 1e-4 to 1 in float64; and `orthogonalise` on products of "
        "Gaussian "
        "matrices of 256 samples, shaped like gradients of the pretraining (192 × 192, 512 × 192), float64, three "
        "seeds.",
        metrics=round_metrics(
            {
                "low_above_0_01": low,
                "high_above_0_01": high,
                "high_above_0_002": band(lifted[5], 0.002)[1],
                "low_above_0_001": band(lifted[5], 0.001)[0],
                "reaches_band_from": {f"{k}_steps": first_above(lifted[k]) for k in (3, 5, 8)},
                "converging_reaches_band_from": first_above(cubic),
                "gradients": measured,
            }
        ),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {
                    "changed": f"{k} steps",
                    "all above 0.68 from s =": first_above(lifted[k]),
                    "of s >= 0.01": band(lifted[k], 0.01),
                }
                for k in (3, 5, 8)
            ]
            + [
                {
                    "changed": "5 steps, coefficients 15/8, -10/8, 3/8",
                    "all above 0.68 from s =": first_above(cubic),
                    "of s >= 0.01": band(cubic, 0.01),
                }
            ]
        ),
        figure=save_figure(figure, figures / "newton_schulz.svg"),
        found="What began above a hundredth of the norm ends in [{low_above_0_01:.4f}, {high_above_0_01:.4f}], after "
        "five steps as after "
        "eight. Coefficients that converge to exactly one reach the band only from {converging_reaches_band_from:.3f} "
        "on, the "
        "tuned ones from {reaches_band_from[5_steps]:.4f}.",
        negative="Below that the iteration runs out of steps: the smallest singular value of a square gradient (mean "
        "over seeds "
        "{gradients[192x192][smallest_input][mean]:.1e} of the norm) ends at {gradients[192x192][smallest][mean]:.3f}. "
        "And "
        "just under a hundredth some are caught at the peak of the polynomial, {high_above_0_002:.3f}.",
    )


def _singular_values_of_gradients(shape: tuple[int, int]) -> list[tuple[Tensor, Tensor]]:
    """Singular values before (as a share of the Frobenius norm) and after, each descending, for every seed."""
    pairs = []
    for seed in SEEDS:
        generator = torch.Generator().manual_seed(seed)
        # a linear layer's gradient is a sum over samples of (error ⊗ input)
        errors, inputs = (torch.randn(n, 256, dtype=torch.float64, generator=generator) for n in shape)
        G = errors @ inputs.T
        before, after = torch.linalg.svd(G / G.norm()), orthogonalise(G[None])[0]
        # O = U p(S) Vᵀ: uᵢᵀ O vᵢ keeps the order that a second decomposition would lose
        pairs.append(
            (before.S, torch.einsum("mi,mn,in->i", before.U[:, : len(before.S)], after, before.Vh[: len(before.S)]))
        )
    return pairs


# --- edge of stability ----------------------------------------------------------------------------------------------


def edge_of_stability(figures: Path) -> Record:
    """Does the sharpness rise to 2 / lr and stay there?"""
    steps, every = 1200, 20
    settings: dict[str, tuple[float, float]] = {
        "lr 0.1": (0.1, 0.0),
        "lr 0.3": (0.3, 0.0),
        "lr 0.4": (0.4, 0.0),
        "lr 0.6": (0.6, 0.0),
        "lr 0.5, momentum 0.5": (0.5, 0.5),
    }
    curves = {
        name: [_sharpness_curve(lr, mu, seed, steps, every) for seed in SEEDS] for name, (lr, mu) in settings.items()
    }
    last = steps // every // 3
    ratio = {
        name: mean_and_sd([float(np.median(curve[-last:])) * settings[name][0] / 2 for curve, _ in runs])
        for name, runs in curves.items()
    }
    final = {name: mean_and_sd([loss for _, loss in runs]) for name, runs in curves.items()}

    figure, ax = new_figure(7.0, 3.8)
    for (name, runs), colour in zip(curves.items(), ("0.6", "#1a365d", OURS, "#63b3ed", "#dd6b20"), strict=True):
        for curve, _ in runs:
            ax.plot(np.arange(len(curve)) * every, curve, color=colour, linewidth=0.9, alpha=0.9)
        lr, mu = settings[name]
        limit = 2 * (1 + mu) / lr
        end = float(np.mean([np.median(curve[-last:]) for curve, _ in runs]))
        if limit < 10:  # that of the smallest rate is far above the figure
            ax.plot([0, steps], [limit, limit], color=colour, linewidth=0.8, linestyle=":")
        text = f"{name}: {'2(1+μ)/lr' if mu else '2/lr'} = {limit:.1f}"
        ax.annotate(text, (steps, end), (5, 0), textcoords="offset points", va="center", color=colour, fontsize=8)
    ax.set_xlim(0, steps * 1.42)
    ax.set_xticks(range(0, steps + 1, 300))
    ax.set_ylim(0)
    ax.set_title("Does the sharpness stop at the largest that the learning rate allows?", loc="left", fontsize="medium")
    ax.set_xlabel("steps of full-batch descent")
    ax.set_ylabel("sharpness (largest eigenvalue of the Hessian)")
    return Record(
        objective="Watch the largest curvature during full-batch training beside the limit of README (36), 2(1 + "
        "μ)/lr.",
        setup="Network 64-32-32-10 with tanh on 300 digits (each pixel centred, divided by twice the standard "
        "deviation), squared error, "
        f"{steps} full-batch steps in float32; sharpness every {every} steps by power iteration on Hessian-vector "
        f"products; "
        "three seeds of the weights. Ratio: median over the last third.",
        metrics=round_metrics(
            {
                "times_half_lr": {_key(name): r for name, r in ratio.items()},
                "loss": {_key(name): r for name, r in final.items()},
            },
            4,
        ),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {
                    "changed": name,
                    "sharpness · lr / 2": ratio[name]["mean"],
                    "sd": ratio[name]["sd"],
                    "final loss": final[name]["mean"],
                }
                for name in settings
            ],
            4,
        ),
        figure=save_figure(figure, figures / "edge_of_stability.svg"),
        found="With three learning rates the sharpness rises to 2/lr and hovers there (times lr/2: "
        "{times_half_lr[lr_0_3][mean]:.3f}, "
        "{times_half_lr[lr_0_4][mean]:.3f}, {times_half_lr[lr_0_6][mean]:.3f}). Momentum of one half moves the limit "
        "to "
        "{times_half_lr[lr_0_5_momentum_0_5][mean]:.2f} times 2/lr, as the heavy ball's stability condition says.",
        negative="The smallest rate has not arrived within these steps ({times_half_lr[lr_0_1][mean]:.2f} of its "
        "limit), and with "
        "cross-entropy, tried while choosing this set-up, the sharpness fell instead as the fit became certain.",
    )


def _key(name: str) -> str:
    return name.replace(",", "").replace(" ", "_").replace(".", "_")


def _sharpness_curve(lr: float, mu: float, seed: int, steps: int, every: int) -> tuple[list[float], float]:
    data, model = digits(), Perceptron((64, 32, 32, 10), seed)
    x = data.train_images[:300]
    x = (x - x.mean(0)) / 2
    y = F.one_hot(data.train_labels[:300], 10).float()

    def loss() -> Tensor:
        return (model(x) - y).square().sum(1).mean() / 2

    optimizer = SGD(model.params, lr, momentum=mu)
    generator = torch.Generator().manual_seed(seed)
    directions = [torch.randn(p.shape, generator=generator) for p in model.params]
    curve = []
    for step in range(steps + 1):
        if step % every == 0:
            curve.append(sharpness(loss, model.params, directions, most=60, tolerance=1e-3))
        value = loss()
        for p, g in zip(model.params, torch.autograd.grad(value, model.params), strict=True):
            p.grad = g
        optimizer.step()
    return curve, float(value.detach())


# --- learning rates -------------------------------------------------------------------------------------------------


def learning_rates(figures: Path) -> Record:
    """How much does the learning rate matter to each optimizer, judged at the end of its schedule?"""
    exponents = [-1.0, -0.5, 0.0, 0.5, 1.0, 1.5]
    bowls: dict[str, list[dict[str, Any]]] = {}
    for name, candidate in CANDIDATES.items():
        bowls[name] = []
        for exponent in exponents:
            lr = candidate.middle * 10**exponent
            judged = [_judged_at_the_end(name, lr, seed) for seed in SEEDS]
            bowls[name].append(
                {"lr": lr, "loss": mean_and_sd([x for x, _ in judged]), "accuracy": mean_and_sd([a for _, a in judged])}
            )
    best = {name: min(bowl, key=lambda row: row["loss"]["mean"]) for name, bowl in bowls.items()}
    least = min(row["loss"]["mean"] for row in best.values())
    width = {name: sum(row["loss"]["mean"] <= 1.5 * least for row in bowl) for name, bowl in bowls.items()}

    figure, axes = new_figure(7.0, 4.0, columns=2)
    groups = (
        ("SGD", "momentum", "Nesterov", "RMSProp", "Adam", "AMSGrad"),
        ("AdamW", "Lion", "Muon", "SOAP", "Schedule-Free"),
    )
    colours = ("#1a365d", "#2b6cb0", "#63b3ed", "#dd6b20", "#718096", "0.1")
    for ax, names in zip(axes, groups, strict=True):
        for name, colour, marker in zip(names, colours, "osD^vP", strict=False):
            rows = bowls[name]
            means, spread = [row["loss"]["mean"] for row in rows], [row["loss"]["sd"] for row in rows]
            ax.errorbar(
                [row["lr"] for row in rows],
                means,
                spread,
                fmt=f"-{marker}",
                color=colour,
                markersize=3.5,
                linewidth=1,
                label=f"{name} {best[name]['loss']['mean']:.3f}",
            )
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_ylim(0.055, 20)
        ax.legend(
            frameon=False, fontsize=7.5, loc="upper left", ncols=2, title="best mean of three seeds", title_fontsize=7.5
        )
        ax.set_xlabel("peak learning rate")
    axes[0].set_ylabel("cross-entropy on held-out digits, nats")
    figure.suptitle(
        "How much does the learning rate matter, at the end of the schedule?", x=0.01, ha="left", fontsize="medium"
    )
    return Record(
        objective="Compare optimizers each at its own best learning rate, and how wide the bowl around it is.",
        setup="Network 64-48-48-10 with tanh, digits (1,347 to train on, 450 to judge by), batches of 64, 200 steps, "
        "10 of warm-up, "
        "cosine to zero (Schedule-Free: warm-up only, averaged weights); six peak rates half a decade apart, three "
        "seeds. Muon "
        "and SOAP move the matrices, AdamW at 0.003 the biases. The judged digits chose the rates too, so the best "
        "values are "
        "optimistic, equally for all.",
        metrics=round_metrics(
            {
                "bowls": bowls,
                "best": {name: {"lr": row["lr"], **row["loss"]} for name, row in best.items()},
                "accuracy": {name: row["accuracy"] for name, row in best.items()},
                "best_of_all": least,
                "best_of_the_last": max(row["loss"]["mean"] for row in best.values()),
                "worst_over_best_in_a_bowl": min(
                    max(row["loss"]["mean"] for row in bowls[name]) / best[name]["loss"]["mean"] for name in bowls
                ),
                "rates_within_half_of_best": width,
            },
            4,
        ),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {
                    "changed": name,
                    "best lr": row["lr"],
                    "loss": row["loss"]["mean"],
                    "sd": row["loss"]["sd"],
                    "accuracy": row["accuracy"]["mean"],
                    "rates within 50% of the best loss": width[name],
                }
                for name, row in best.items()
            ],
            4,
        ),
        figure=save_figure(figure, figures / "learning_rates.svg"),
        found="At their best rates all of them read the digits: the best means lie between {best_of_all:.3f} and "
        "{best_of_the_last:.3f} nats. The rate decides far more than the optimizer: within a bowl the loss changes by "
        "at least {worst_over_best_in_a_bowl:.1f} times over two and a half decades.",
        negative="On this problem three seeds do not settle an order: most best means differ by less than their "
        "standard deviations. Nothing here says that Muon or SOAP are worth their price; on 48 × 48 matrices they are not.",
    )


def _judged_at_the_end(name: str, lr: float, seed: int) -> tuple[float, float]:
    *_, (model, _) = train(CANDIDATES[name], lr, seed)
    loss, accuracy = judge(model)
    return min(loss, 10.0) if math.isfinite(loss) else 10.0, accuracy  # a run that diverged counts as 10 nats


# --- update ratios --------------------------------------------------------------------------------------------------


def update_ratios(figures: Path) -> Record:
    """How large is a step beside the weights, and how many directions does it have?"""
    rates = {"momentum": 0.1, "AdamW": 1e-2, "Lion": 3e-3, "Muon": 3e-2, "SOAP": 1e-2}
    ratios: dict[str, list[list[float]]] = {}
    ranks: dict[str, list[list[float]]] = {}
    for name, lr in rates.items():
        pairs = [_updates(name, lr, seed) for seed in SEEDS]
        ratios[name], ranks[name] = [ratio for ratio, _ in pairs], [rank for _, rank in pairs]

    figure, axes = new_figure(7.0, 3.4, columns=2)
    colours = dict(zip(rates, ("0.55", OURS, "#dd6b20", "#1a365d", "#63b3ed"), strict=True))
    for values, ax in ((ratios, axes[0]), (ranks, axes[1])):
        for name, runs in values.items():
            curve = np.median(runs, axis=0)
            ax.plot(np.arange(1, len(curve) + 1), curve, color=colours[name], linewidth=1.1)
            if ax is axes[1]:
                height = float(curve[-40:].mean()) + {"AdamW": 0.5, "momentum": -0.6}.get(name, 0.0)
                ax.text(len(curve) + 4, height, name, va="center", color=colours[name], fontsize=8)
        ax.set_xlabel("step")
    axes[0].set_yscale("log")
    axes[0].set_ylim(1e-4, 0.3)
    axes[1].set_xlim(0, 250)
    axes[1].set_ylim(0)
    axes[0].text(
        0.97,
        0.95,
        "Muon and Lion on top,\nmomentum at the bottom",
        transform=axes[0].transAxes,
        ha="right",
        va="top",
        fontsize=8,
    )
    axes[0].set_title("How large is a step? ‖ΔW‖ / ‖W‖", loc="left", fontsize="medium")
    axes[1].set_title("In how many directions? ‖ΔW‖² / ‖ΔW‖₂²", loc="left", fontsize="medium")
    middle = slice(50, 150)
    summary = {
        name: {
            "ratio": mean_and_sd([float(np.median(run[middle])) for run in ratios[name]]),
            "stable_rank": mean_and_sd([float(np.median(run[middle])) for run in ranks[name]]),
        }
        for name in rates
    }
    return Record(
        objective="Compare what optimizers do to a weight matrix in a step: its relative size and its stable rank.",
        setup="The network and training of `learning_rates`, each at a good rate; the 48 × 48 matrix in the middle; "
        "three seeds, median "
        "over seeds in the figure; summary: median over steps 50 to 150. Stable rank: squared Frobenius over squared "
        "spectral norm.",
        metrics=round_metrics({"updates": summary}, 4),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {"changed": name, "‖ΔW‖/‖W‖": row["ratio"]["mean"], "stable rank": row["stable_rank"]["mean"]}
                for name, row in summary.items()
            ],
            4,
        ),
        figure=save_figure(figure, figures / "update_ratios.svg"),
        found="Steps of momentum have a stable rank of {updates[momentum][stable_rank][mean]:.1f} out of 48, of AdamW "
        "{updates[AdamW][stable_rank][mean]:.1f}, of Muon {updates[Muon][stable_rank][mean]:.1f}. At good rates the "
        "relative sizes lie "
        "between {updates[momentum][ratio][mean]:.4f} (momentum) and {updates[Muon][ratio][mean]:.4f} (Muon).",
        negative="The often quoted ratio of one thousandth is no law: good rates of different optimizers give ratios "
        "that differ several times.",
    )


def _updates(name: str, lr: float, seed: int) -> tuple[list[float], list[float]]:
    """‖ΔW‖/‖W‖ and the stable rank of ΔW at every step, for the matrix in the middle."""
    ratios, ranks, before = [], [], Perceptron((64, 48, 48, 10), seed).matrices[1].detach()
    for model, _ in train(CANDIDATES[name], lr, seed):
        after = model.matrices[1].detach().clone()
        change, before = after - before, after
        size = float(change.norm())
        ratios.append(size / float(after.norm()))
        ranks.append((size / float(torch.linalg.matrix_norm(change, 2))) ** 2 if size else 0.0)
    return ratios, ranks


# --- speed ----------------------------------------------------------------------------------------------------------


def speed(figures: Path) -> Record:
    """What does a step start, and what does it cost?"""
    counts = [1, 10, 50, 100, 200, 400]
    makers: dict[str, Make] = {"plain": by_rule(plain.adamw), "fast": AdamW}
    started = {name: [_operations(make, [(8, 8)] * count) for count in counts] for name, make in makers.items()}

    figure, ax = new_figure(7.0, 3.2)
    for (name, numbers), colour in zip(started.items(), (BASELINE_COLOUR, OURS), strict=True):
        ax.loglog(counts, numbers, "-o", color=colour, markersize=4)
        ax.annotate(
            f"{name}: {numbers[-2]:,} for 200",
            (counts[-1], numbers[-1]),
            (6, 0),
            textcoords="offset points",
            va="center",
            color=colour,
        )
    ax.set_xlim(0.9, 3000)
    ax.set_xticks([1, 10, 100])
    ax.set_title("How many operations does a step of AdamW start?", loc="left", fontsize="medium")
    ax.set_xlabel("parameters (tensors)")
    ax.set_ylabel("operations a step")

    flops = {steps: sum(_newton_schulz_flops(shape, steps) for shape in MUON_SHAPES) for steps in (3, 5)}
    tokens = 2048
    model_flops = 6 * tokens * sum(math.prod(shape) for shape in [*MUON_SHAPES, ADAMW_SHAPES[0]])
    return Record(
        objective="Show why the fast versions are fast, and what Muon costs beside the training step that it serves.",
        setup="Operations: counted below Python for parameters of 8 × 8, at the third step. Muon's share: "
        "multiplications and additions of its "
        "products at the shapes of the default pretraining (shapes.py), beside 6 a parameter and token for 2,048 "
        "tokens, attention "
        "left out. Seconds, all in float32 on this machine, are in the timings.",
        metrics=round_metrics(
            {
                "parameters": counts,
                "operations": started,
                "operations_saved_at_200": started["plain"][4] / started["fast"][4],
                "muon_flop_share": {f"{steps}_steps": f / (f + model_flops) for steps, f in flops.items()},
            }
        ),
        seeds=[],
        ablation=round_metrics(
            [
                {"changed": f"{name}, {count} parameters", "operations": number}
                for name, numbers in started.items()
                for count, number in zip(counts, numbers, strict=True)
                if count in (1, 200)
            ]
        ),
        figure=save_figure(figure, figures / "speed.svg"),
        found="For 200 parameters the plain AdamW starts {operations_saved_at_200:.0f} times as many operations as the "
        "fast one, whose number "
        "does not depend on how many parameters there are. Muon's products are {muon_flop_share[3_steps]:.1%} of a "
        "pretraining step's with "
        "three Newton-Schulz steps, {muon_flop_share[5_steps]:.1%} with five.",
        negative="Shares of arithmetic are not shares of time; the share of a real pretraining step is measured where "
        "that step is.",
        timings=_timings(tokens),
    )


class _Counter(TorchDispatchMode):
    """Counts what reaches torch's dispatcher."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations += 1
        return func(*args, **(kwargs or {}))


def _operations(make: Make, shapes: list[tuple[int, ...]]) -> int:
    optimizer = make(checks.with_gradients(shapes))
    optimizer.step()
    optimizer.step()
    with _Counter() as counter:
        optimizer.step()
    return counter.operations


def _newton_schulz_flops(shape: tuple[int, ...], steps: int) -> int:
    """Of muon.py: 2mn·m a product with the long side n, 2m³ one without; README (27)."""
    m, n = min(shape), max(shape)
    if n > 1.5 * m:
        return 2 * 2 * m * m * n + 2 * m**3 * (steps + (steps - 1) + 2 * (steps - 1))
    return steps * (2 * 2 * m * m * n + 2 * m**3)


def _timings(tokens: int) -> dict[str, float]:
    """Ratios of seconds, each measured in alternation, and the share of Muon beside the matrix products alone."""
    with torch_muon_without_rounding():
        torch_over_muon = checks.seconds_ratio(torch.optim.Muon, Muon, MUON_SHAPES, repeats=7)

    def three(params: list[Tensor]) -> Muon:
        return Muon(params, newton_schulz_steps=3)

    products = checks.seconds_ratio(lambda params: _Products(tokens), three, MUON_SHAPES, repeats=5)
    return {
        "plain_over_fast_200_small": checks.fast_over_plain(),
        "torch_foreach_over_adamw": checks.torch_over_adamw(),
        "torch_fused_over_adamw": checks.seconds_ratio(lambda p: torch.optim.AdamW(p, fused=True), AdamW, ADAMW_SHAPES),
        "torch_float32_over_muon": torch_over_muon,
        "muon_share_beside_products_alone": 1 / (1 + products),
    }


class _Products:
    """The matrix products of a forward and a backward pass of the default pretraining, attention left out."""

    def __init__(self, tokens: int) -> None:
        generator = torch.Generator().manual_seed(0)
        shapes = [*MUON_SHAPES, ADAMW_SHAPES[0]]
        self.weights = [torch.randn(shape, generator=generator) for shape in shapes]
        self.inputs = [torch.randn(tokens, n, generator=generator) for _, n in shapes]
        self.errors = [torch.randn(tokens, m, generator=generator) for m, _ in shapes]

    def step(self) -> None:
        for W, x, e in zip(self.weights, self.inputs, self.errors, strict=True):
            x @ W.T, e @ W, e.T @ x
