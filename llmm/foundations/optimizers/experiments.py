"""The experiments of this milestone: each asks one question of the optimizers and draws the answer."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from llmm.figures import save_figure
from llmm.foundations.optimizers import AdamW, Muon, drawings, plain, seconds
from llmm.foundations.optimizers.foreach import SGD
from llmm.foundations.optimizers.muon import NEWTON_SCHULZ, orthogonalise
from llmm.foundations.optimizers.oracles import Make, by_rule
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
from llmm.ladder.records import Record, round_metrics, spread

SEEDS = [0, 1, 2]


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
    paths = {
        name: {degrees: _descend(rule, *_valley(condition, degrees), share, settings) for degrees in (0, 45)}
        for name, (rule, settings) in rules.items()
    }
    steps = {
        name: {f"turned_{degrees}": len(path) - 1 for degrees, path in both.items()} for name, both in paths.items()
    }
    # both in the valley's own axes, so that they can be drawn in one
    in_valley = {name: {d: path @ _rotation(d) for d, path in both.items()} for name, both in paths.items()}
    ratio = {name: counts["turned_45"] / counts["turned_0"] for name, counts in steps.items()}
    return Record(
        objective="See what a rule that scales every coordinate does in a valley that lies across the coordinates.",
        setup=f"Quadratic in two dimensions, curvatures 1 and 1/{condition:.0f}, from (-3, 1) in the valley's axes; "
        f"the same valley along the axes and turned by 45 degrees; steps until the loss is {share:.0e} of the first; "
        "float64; SGD with lr 1.9, momentum 0.8 with 0.5, Adam with 0.2 and β₂ 0.99, Lion with 0.05.",
        metrics=round_metrics({"steps": steps, "turned_over_straight": ratio}),
        seeds=[],
        ablation=[
            {"changed": f"{name}, valley turned by {degrees}°", "steps": steps[name][f"turned_{degrees}"]}
            for name in rules
            for degrees in (0, 45)
        ],
        figure=save_figure(drawings.trajectories(in_valley, condition, share), figures / "trajectories.svg"),
        found="SGD and momentum take the same path however the valley lies. Turning it costs Adam "
        "{turned_over_straight[Adam]:.1f} times the steps ({steps[Adam][turned_0]} became {steps[Adam][turned_45]}): "
        "its scales belong to the coordinates, and in the turned valley both coordinates look alike.",
        negative="Adam's lead over SGD ({steps[SGD][turned_0]} steps) is a lead along the axes only; turned by 45 "
        "degrees it is the slowest of the four.",
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

    keys = {
        "gradient descent": "gradient_descent",
        "heavy ball": "heavy_ball",
        "Nesterov": "nesterov",
        "momentum 0.9 for all": "fixed_momentum",
    }
    return Record(
        objective="Measure the exponents of README (5) and (9): steps ∝ κ for gradient descent, √κ for the heavy ball.",
        setup="Quadratic in 32 dimensions, eigenvalues log-spaced from 1/κ to 1, float64, from (1, ..., 1); gradient "
        "descent and heavy ball at their best for each κ, README (4) and (8), Nesterov with lr 1 and the root of the "
        f"heavy ball's μ; steps until the distance is {tolerance:.0e} of the first. Slopes: least squares in "
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
        figure=save_figure(drawings.conditioning(conditions, steps, slopes, tolerance), figures / "conditioning.svg"),
        found="Steps grow with κ to the power {slope[gradient_descent]:.3f} for gradient descent, "
        "{slope[heavy_ball]:.3f} for the heavy ball and {slope[nesterov]:.3f} for Nesterov; at κ of ten thousand the "
        "heavy ball takes {saved_at_10000:.0f} times fewer.",
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
    ends = {name: found[-1] for name, found in places.items()}
    drift = {f"C_{c}": counterexample_drifts(c) for c in (3, 5, 10)}
    return Record(
        objective="Show the sign of README (18) and (19): Adam climbs on a problem that AMSGrad solves.",
        setup=f"Losses {C:.0f}w, -w, -w in turn on [-1, 1], so that each cycle's sum is least at -1; β₁ = 0, β₂ = "
        f"1/(1 + C²) = {short:g}, ε = 0, lr 0.5/√t, from w = 0, {cycles} cycles, float64.",
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
        figure=save_figure(drawings.counterexample(places, C), figures / "counterexample.svg"),
        found="Adam ends at {adam_end:.2f}, the worst point there is, AMSGrad at {amsgrad_end:.2f}. The drifts over a "
        "cycle that README (18) and (19) predict have opposite signs for every slope tried.",
        negative="It takes a memory of about one step. With β₂ as everybody sets it Adam ends at "
        "{long_memory_end:.2f}, so the example says that no β₂ is safe for all problems, not that Adam fails on those "
        "that people have.",
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
    converging = quintic(
        s, 5, (15 / 8, -10 / 8, 3 / 8)
    )  # the classical one: slope 0 and curvature 0 at 1, so it converges

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
            "smallest_input": spread([float(i.min()) for i, _ in pairs]),
            "smallest": spread([float(o.min()) for _, o in pairs]),
            "largest": spread([float(o.max()) for _, o in pairs]),
            "share_in_band": spread([float(((o >= 0.68) & (o <= 1.135)).double().mean()) for _, o in pairs]),
            # how far above the largest singular value each norm is, and what is lifted with its help
            "frobenius_over_largest": spread([1 / float(i.max()) for i, _ in pairs]),
            "schatten4_over_largest": spread([float(i.norm(p=4) / i.max()) for i, _ in pairs]),
            "above_0_68": {
                "3_steps_frobenius": spread([_share_above(quintic(i, 3)) for i, _ in pairs]),
                "2_steps_frobenius": spread([_share_above(quintic(i, 2)) for i, _ in pairs]),
                "2_steps_schatten4": spread([_share_above(quintic(i / i.norm(p=4), 2)) for i, _ in pairs]),
            },
        }
        for name, pairs in matrices.items()
    }
    low, high = band(lifted[5], 0.01)
    drawn = drawings.newton_schulz(s, lifted, converging, [pairs[0] for pairs in matrices.values()], low, high)
    return Record(
        objective="Find the band that Newton-Schulz brings singular values into, and from where.",
        setup="The polynomial on 40,001 singular values from 1e-4 to 1 in float64; and `orthogonalise` on products of "
        "Gaussian matrices of 256 samples, shaped like gradients of the pretraining (192 × 192, 512 × 192), float64, "
        "three seeds.",
        metrics=round_metrics(
            {
                "low_above_0_01": low,
                "high_above_0_01": high,
                "high_above_0_002": band(lifted[5], 0.002)[1],
                "low_above_0_001": band(lifted[5], 0.001)[0],
                "reaches_band_from": {f"{k}_steps": first_above(lifted[k]) for k in (3, 5, 8)},
                "converging_reaches_band_from": first_above(converging),
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
                    "all above 0.68 from s =": first_above(converging),
                    "of s >= 0.01": band(converging, 0.01),
                }
            ]
        ),
        figure=save_figure(drawn, figures / "newton_schulz.svg"),
        found="What began above a hundredth of the norm ends in [{low_above_0_01:.4f}, {high_above_0_01:.4f}], after "
        "five steps as after eight. Coefficients that converge to exactly one reach the band only from "
        "{converging_reaches_band_from:.3f} on, the tuned ones from {reaches_band_from[5_steps]:.4f}.",
        negative="Below that the iteration runs out of steps: the smallest singular value of a square gradient (mean "
        "over seeds {gradients[192x192][smallest_input][mean]:.1e} of the norm) ends at "
        "{gradients[192x192][smallest][mean]:.3f}. And just under a hundredth some are caught at the peak of the "
        "polynomial, {high_above_0_002:.3f}.",
    )


def _share_above(values: Tensor, low: float = 0.68) -> float:
    return float((values >= low).double().mean())


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
        name: spread([float(np.median(curve[-last:])) * settings[name][0] / 2 for curve, _ in runs])
        for name, runs in curves.items()
    }
    final = {name: spread([loss for _, loss in runs]) for name, runs in curves.items()}
    entropy_lr = 0.4
    with_entropy = [_sharpness_curve(entropy_lr, 0.0, seed, steps, every, entropy=True) for seed in SEEDS]

    return Record(
        objective="Watch the largest curvature during full-batch training beside the limit of README (36), 2(1 + "
        "μ)/lr.",
        setup="Network 64-32-32-10 with tanh on 300 digits (each pixel centred, divided by twice the standard "
        f"deviation), squared error, {steps} full-batch steps in float32; sharpness every {every} steps by power "
        "iteration on Hessian-vector products; three seeds of the weights. Ratio: median over the last third. The same "
        "with cross-entropy at one rate, whose sharpness is given at the first and the last step.",
        metrics=round_metrics(
            {
                "times_half_lr": {_key(name): r for name, r in ratio.items()},
                "loss": {_key(name): r for name, r in final.items()},
                "sharpness_with_cross_entropy": {
                    "first": spread([curve[0] for curve, _ in with_entropy]),
                    "last": spread([curve[-1] for curve, _ in with_entropy]),
                },
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
            ]
            + [
                {
                    "changed": f"lr {entropy_lr}, cross-entropy",
                    "sharpness · lr / 2": spread([curve[-1] for curve, _ in with_entropy])["mean"] * entropy_lr / 2,
                    "final loss": spread([loss for _, loss in with_entropy])["mean"],
                }
            ],
            4,
        ),
        figure=save_figure(
            drawings.edge_of_stability(
                {name: [curve for curve, _ in runs] for name, runs in curves.items()}, settings, every, last
            ),
            figures / "edge_of_stability.svg",
        ),
        found="With three learning rates the sharpness rises to 2/lr and hovers there (times lr/2: "
        "{times_half_lr[lr_0_3][mean]:.3f}, {times_half_lr[lr_0_4][mean]:.3f}, {times_half_lr[lr_0_6][mean]:.3f}). "
        "Momentum of one half moves the limit to {times_half_lr[lr_0_5_momentum_0_5][mean]:.2f} times 2/lr, as the "
        "heavy ball's stability condition says.",
        negative="The smallest rate has not arrived within these steps ({times_half_lr[lr_0_1][mean]:.2f} of its "
        "limit). With cross-entropy the sharpness falls instead, from "
        "{sharpness_with_cross_entropy[first][mean]:.2f} to {sharpness_with_cross_entropy[last][mean]:.2f}, as the fit "
        "becomes certain.",
    )


def _key(name: str) -> str:
    return name.replace(",", "").replace(" ", "_").replace(".", "_")


def _sharpness_curve(
    lr: float, mu: float, seed: int, steps: int, every: int, entropy: bool = False
) -> tuple[list[float], float]:
    """Sharpness every so many steps of a full-batch training, and the last loss: squared error or cross-entropy."""
    data, model = digits(), Perceptron((64, 32, 32, 10), seed)
    x = data.train_images[:300]
    x = (x - x.mean(0)) / 2
    labels = data.train_labels[:300]
    y = F.one_hot(labels, 10).float()

    def loss() -> Tensor:
        return F.cross_entropy(model(x), labels) if entropy else (model(x) - y).square().sum(1).mean() / 2

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
                {"lr": lr, "loss": spread([x for x, _ in judged]), "accuracy": spread([a for _, a in judged])}
            )
    best = {name: min(bowl, key=lambda row: row["loss"]["mean"]) for name, bowl in bowls.items()}
    least = min(row["loss"]["mean"] for row in best.values())
    width = {name: sum(row["loss"]["mean"] <= 1.5 * least for row in bowl) for name, bowl in bowls.items()}

    return Record(
        objective="Compare optimizers each at its own best learning rate, and how wide the bowl around it is.",
        setup="Network 64-48-48-10 with tanh, digits (1,347 to train on, 450 to judge by), batches of 64, 200 steps, "
        "10 of warm-up, cosine to zero (Schedule-Free: warm-up only, averaged weights); six peak rates half a decade "
        "apart, three seeds. Muon and SOAP move the matrices, AdamW at 0.003 the biases. The judged digits chose the "
        "rates too, so the best values are optimistic, equally for all.",
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
        figure=save_figure(drawings.learning_rates(bowls), figures / "learning_rates.svg"),
        found="At their best rates all of them read the digits: the best means lie between {best_of_all:.3f} and "
        "{best_of_the_last:.3f} nats. The rate decides far more than the optimizer: within a bowl the loss changes by "
        "at least {worst_over_best_in_a_bowl:.1f} times over two and a half decades.",
        negative="On this problem three seeds do not settle an order: most best means differ by less than their "
        "standard deviations. Nothing here says that Muon or SOAP are worth their price; on 48 × 48 matrices they are "
        "not.",
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

    middle = slice(50, 150)
    summary = {
        name: {
            "ratio": spread([float(np.median(run[middle])) for run in ratios[name]]),
            "stable_rank": spread([float(np.median(run[middle])) for run in ranks[name]]),
        }
        for name in rates
    }
    return Record(
        objective="Compare what optimizers do to a weight matrix in a step: its relative size and its stable rank.",
        setup="The network and training of `learning_rates`, each at a good rate; the 48 × 48 matrix in the middle; "
        "three seeds, median over seeds in the figure; summary: median over steps 50 to 150. Stable rank: squared "
        "Frobenius over squared spectral norm.",
        metrics=round_metrics({"updates": summary}, 4),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {"changed": name, "‖ΔW‖/‖W‖": row["ratio"]["mean"], "stable rank": row["stable_rank"]["mean"]}
                for name, row in summary.items()
            ],
            4,
        ),
        figure=save_figure(drawings.update_ratios(ratios, ranks, summary, middle), figures / "update_ratios.svg"),
        found="Steps of momentum have a stable rank of {updates[momentum][stable_rank][mean]:.1f} out of 48, of AdamW "
        "{updates[AdamW][stable_rank][mean]:.1f}, of Muon {updates[Muon][stable_rank][mean]:.1f}. At good rates the "
        "relative sizes lie between {updates[momentum][ratio][mean]:.4f} (momentum) and "
        "{updates[Muon][ratio][mean]:.4f} (Muon).",
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

    flops = {steps: sum(_newton_schulz_flops(shape, steps) for shape in MUON_SHAPES) for steps in (2, 3, 5)}
    tokens = 2048
    model_flops = 6 * tokens * sum(math.prod(shape) for shape in [*MUON_SHAPES, ADAMW_SHAPES[0]])
    return Record(
        objective="Show why the fast versions are fast, and what Muon costs beside the training step that it serves.",
        setup="Operations: counted below Python for parameters of 8 × 8, at the third step. Muon's share: "
        "multiplications and additions of its products at the shapes of the default pretraining (shapes.py), beside 6 "
        "a parameter and token for 2,048 tokens, attention left out. Seconds, all in float32 on this machine, are in "
        "the timings.",
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
        figure=save_figure(drawings.speed(counts, started), figures / "speed.svg"),
        found="For 200 parameters the plain AdamW starts {operations_saved_at_200:.0f} times as many operations as "
        "the fast one, whose number does not depend on how many parameters there are. Muon's products are "
        "{muon_flop_share[2_steps]:.1%} of a pretraining step's with two Newton-Schulz steps, as it takes them, "
        "{muon_flop_share[3_steps]:.1%} with three and {muon_flop_share[5_steps]:.1%} with five.",
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
    optimizer = make(seconds.with_gradients(shapes))
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

    def as_in_pretraining(params: list[Tensor]) -> Muon:
        return Muon(params, newton_schulz_steps=2, norm="schatten4")

    products = seconds.seconds_ratio(lambda params: _Products(tokens), as_in_pretraining, MUON_SHAPES, repeats=5)
    return {
        "plain_over_fast_200_small": seconds.fast_over_plain(),
        "torch_foreach_over_adamw": seconds.torch_over_adamw(),
        "torch_fused_over_adamw": seconds.seconds_ratio(
            lambda p: torch.optim.AdamW(p, fused=True), AdamW, ADAMW_SHAPES
        ),
        "torch_fused_over_fused_adamw": seconds.torch_over_fused_adamw(),
        "torch_float32_over_muon": seconds.torch_over_muon(),
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
