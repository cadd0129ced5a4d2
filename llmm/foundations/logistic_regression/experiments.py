"""What the derivations predict, tried on real data. One function an experiment; the figures are drawn in plots.py."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmm.foundations.logistic_regression import plots
from llmm.foundations.logistic_regression.binary import BinaryLoss, ridge, with_intercept
from llmm.foundations.logistic_regression.calibration import (
    Reliability,
    expected_calibration_error,
    fit_temperature,
    reliability,
    tempered_loss,
)
from llmm.foundations.logistic_regression.curvature import contraction, extreme_curvatures, smoothness
from llmm.foundations.logistic_regression.data import load, split, standardise
from llmm.foundations.logistic_regression.descent import (
    gradient_descent,
    one_over_t,
    stochastic_gradient_descent,
)
from llmm.foundations.logistic_regression.finite_differences import (
    central_difference,
    forward_difference,
    relative_error,
)
from llmm.foundations.logistic_regression.iterates import at_steps, solve, steps_until
from llmm.foundations.logistic_regression.lbfgs import lbfgs
from llmm.foundations.logistic_regression.multinomial import MultinomialLoss
from llmm.foundations.logistic_regression.newton import newton
from llmm.foundations.logistic_regression.separation import max_margin, separation
from llmm.foundations.logistic_regression.stable import sigmoid, softmax
from llmm.ladder.records import Record, round_metrics, spread

Array = NDArray[np.float64]
SEEDS = [0, 1, 2, 3, 4]


def finite_differences(figures: Path) -> Record:
    """With which step does a difference quotient come closest to the gradient?"""
    X, y = load("breast_cancer")
    X = with_intercept(standardise(X)[0])
    loss = BinaryLoss(X, y, ridge(X.shape[1], 0.01))
    steps = 10.0 ** np.arange(-1, -12.5, -0.5)
    errors: dict[str, list[list[float]]] = {"central": [], "forward": []}
    for seed in SEEDS:
        w = np.random.default_rng(seed).normal(size=X.shape[1:])
        exact = loss.gradient(w)
        for name, difference in (("central", central_difference), ("forward", forward_difference)):
            errors[name].append([relative_error(difference(loss.value, w, h), exact) for h in steps])

    best = {name: [float(steps[np.argmin(row)]) for row in rows] for name, rows in errors.items()}
    least = {name: [min(row) for row in rows] for name, rows in errors.items()}
    tiny = [row[-1] for row in errors["central"]]
    slope = float(np.polyfit(np.log10(steps[2:7]), np.log10(np.mean(errors["central"], axis=0)[2:7]), 1)[0])
    metrics = {
        "best_step": _geometric(best["central"]),
        "error_at_best": spread(least["central"]),
        "best_step_forward": _geometric(best["forward"]),
        "error_at_best_forward": spread(least["forward"]),
        "slope_of_truncation": slope,
        "smallest_step": float(steps[-1]),
        "error_at_smallest_step": spread(tiny),
    }
    figure = plots.finite_differences(steps, errors, metrics, figures / "finite_differences.svg")
    return Record(
        objective="Which step h makes a difference quotient the best referee of a gradient, and how good is it?",
        setup=f"breast_cancer, 569 × 30 standardised with intercept, L2 0.01; gradient at {len(SEEDS)} random points w "
        "~ N(0, I); h from 1e-1 to 1e-12 in half decades; error ‖a - b‖ / (‖a‖ + ‖b‖). sd over the points.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {
                    "changed": f"{name} difference",
                    "best step": _geometric(best[name]),
                    "least relative error": float(np.mean(least[name])),
                }
                for name in ("central", "forward")
            ]
        ),
        figure=figure,
        found="Central differences are best near h = {best_step:.0e}, with a relative error of "
        "{error_at_best[mean]:.0e}; to the right of it the error falls with slope {slope_of_truncation:.2f} in the "
        "step, to the left rounding takes over. Forward differences end at {error_at_best_forward[mean]:.0e}.",
        negative="A smaller step is not a better one: at the smallest, {smallest_step:.0e}, the error is "
        "{error_at_smallest_step[mean]:.0e}.",
    )


def paths(figures: Path) -> Record:
    """Which way do the solvers take from the same start, and how many steps?"""
    X, y = load("breast_cancer")
    X = standardise(X)[0][:, [0, 20]]  # mean radius and worst radius: correlated (0.97), so the valley is long
    l2 = 0.003
    loss = BinaryLoss(X, y, l2)
    start, L = np.array([-6.0, 2.0]), smoothness(X, l2)
    best = solve(loss, newton(loss, start), 1e-14, 50).w
    mu, L_best = extreme_curvatures(loss, best)
    floor = loss.value(best)
    batch, epochs = 16, 60
    updates = epochs * -(-len(y) // batch)
    rates = {
        "constant": lambda t: 1.0 / L,
        "falling": one_over_t(1.0 / L, updates / 4),
        "falling too soon": one_over_t(1.0 / L, updates / 20),
    }

    def descend(lr: float) -> Iterator[Array]:
        return gradient_descent(loss, start, lr)

    def after_sgd(rate: str, seed: int) -> float:
        w = at_steps(stochastic_gradient_descent(loss, start, rates[rate], batch, seed), [updates])[0]
        return loss.value(w) - floor

    above = {rate: [after_sgd(rate, seed) for seed in SEEDS] for rate in rates}
    solvers = {
        "gradient descent, 1/L": descend(1 / L),
        "gradient descent, 2/(L+μ)": descend(2 / (L + mu)),
        "L-BFGS": lbfgs(loss, start),
        "Newton": newton(loss, start),
    }
    counts = {name: steps_until(loss, iterates, floor + 1e-8, 5000) for name, iterates in solvers.items()}
    metrics = {
        "steps_gradient_descent": counts["gradient descent, 1/L"],
        "steps_gradient_descent_best_rate": counts["gradient descent, 2/(L+μ)"],
        "steps_lbfgs": counts["L-BFGS"],
        "steps_newton": counts["Newton"],
        "flatter": L / L_best,
        "sgd_above_constant": spread(above["constant"]),
        "sgd_above_falling": spread(above["falling"]),
        "sgd_above_falling_too_soon": spread(above["falling too soon"]),
        "sgd_gain_of_falling": float(np.mean(above["constant"]) / np.mean(above["falling"])),
        "sgd_falling_wins_every_seed": all(f < c for f, c in zip(above["falling"], above["constant"], strict=True)),
    }
    walked = {
        "SGD": list(islice(stochastic_gradient_descent(loss, start, rates["constant"], batch, 0), 300)),
        "gradient descent": list(islice(descend(1 / L), 300)),
        "L-BFGS": list(islice(lbfgs(loss, start), 15)),
        "Newton": list(islice(newton(loss, start), 10)),
    }
    figure = plots.paths(loss, walked, best, metrics, figures / "paths.svg")
    return Record(
        objective="How do gradient descent, its stochastic version, L-BFGS and Newton get from one start to one "
        "minimum?",
        setup="breast_cancer, two correlated features (mean radius, worst radius) standardised, no intercept, L2 "
        f"{l2}; start (-6, 2); steps until the loss is 1e-8 above its minimum. SGD: batches of {batch}, {epochs} "
        f"epochs, rate 1/L constant or falling as 1/t with half-life {updates // 4} or {updates // 20} updates, "
        f"{len(SEEDS)} seeds, distance of the loss from the minimum at the end.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [{"changed": name, "steps to 1e-8": count, "loss above minimum": 1e-8} for name, count in counts.items()]
            + [
                {
                    "changed": f"SGD, {rate} rate",
                    "steps to 1e-8": None,
                    "loss above minimum": float(np.mean(above[rate])),
                }
                for rate in rates
            ]
        ),
        figure=figure,
        found="Gradient descent takes {steps_gradient_descent} steps, L-BFGS {steps_lbfgs}, Newton {steps_newton}. A "
        "rate that falls leaves SGD {sgd_gain_of_falling:.0f} times closer than a constant one.",
        negative="The rate 2/(L+μ) that the bound calls best only halves the steps, to "
        "{steps_gradient_descent_best_rate}: L is the curvature at w = 0, and {flatter:.0f} times that of the "
        "minimum. SGD never gets that near: with a constant rate it stays {sgd_above_constant[mean]:.0e} above the "
        "minimum, and with one that falls too soon it freezes on the way, {sgd_above_falling_too_soon[mean]:.0e} "
        "above.",
    )


def conditioning(figures: Path) -> Record:
    """What does standardising the features buy each solver, and does it change the answer?"""
    raw, y = load("breast_cancer")
    designs = {"raw": with_intercept(raw), "standardised": with_intercept(standardise(raw)[0])}
    levels, patience = (0.3, 0.2, 0.1), 10_000
    metrics: dict[str, Any] = {}
    ablation, curves = [], {}
    for name, X in designs.items():
        loss, start = BinaryLoss(X, y), np.zeros(X.shape[1])
        solvers = {
            "gradient descent": partial(gradient_descent, loss, start, 1 / smoothness(X)),
            "L-BFGS": partial(lbfgs, loss, start),
            "Newton": partial(newton, loss, start),
        }
        metrics[f"condition_number_{name}"] = float(np.linalg.cond(X) ** 2)
        for solver, iterates in solvers.items():
            steps = np.unique(np.geomspace(1, patience if solver == "gradient descent" else 200, 40).astype(int))
            if solver == "Newton":
                steps = np.arange(1, 6)
            values = [loss.value(w) for w in at_steps(iterates(), list(steps))]
            curves[solver, name] = (steps, values)
            counts = [steps_until(loss, iterates(), level, patience) for level in levels]
            ablation.append({"changed": f"{solver}, {name}"} | dict(zip(_level_names(levels), counts, strict=True)))
            metrics[f"steps_{solver.lower().replace(' ', '_').replace('-', '')}_{name}"] = counts
        metrics[f"gradient_descent_{name}_ends_at"] = curves["gradient descent", name][1][-1]

    chances = {}  # with a penalty, the same strength means something else in other units
    for name, X in designs.items():
        loss = BinaryLoss(X, y, ridge(X.shape[1], 0.1))
        chances[name] = sigmoid(X @ solve(loss, newton(loss, np.zeros(X.shape[1])), 1e-9, 100).w)
    gap = np.abs(chances["raw"] - chances["standardised"])
    metrics |= {
        "first_level": levels[0],
        "newton_needs_the_same": metrics["steps_newton_raw"] == metrics["steps_newton_standardised"],
        "largest_change_of_a_probability_under_l2": float(gap.max()),
        "decisions_changed_under_l2": int(((chances["raw"] > 0.5) != (chances["standardised"] > 0.5)).sum()),
        "gradient_descent_slowdown": metrics["steps_gradient_descent_raw"][0]
        / metrics["steps_gradient_descent_standardised"][0],
    }
    figure = plots.conditioning(curves, metrics, figures / "conditioning.svg")
    return Record(
        objective="What do the condition number of the features and their scaling do to gradient descent, L-BFGS and "
        "Newton?",
        setup="breast_cancer, all 569 samples, 30 features raw or standardised, intercept; unpenalised loss, start at "
        f"0, rate 1/L of each design; updates until the loss is below 0.3, 0.2, 0.1, at most {patience}. Condition "
        "number of XᵀX (the Hessian at 0 but for 1/4N). Then L2 of strength 0.1 on both. Nothing random.",
        metrics=round_metrics(metrics),
        seeds=[],
        ablation=ablation,
        figure=figure,
        found="Standardising lowers the condition number from {condition_number_raw:.1e} to "
        "{condition_number_standardised:.1e}. Gradient descent needs {gradient_descent_slowdown:.0f} times as many "
        "steps on raw features to get below {first_level} and is still at {gradient_descent_raw_ends_at:.2f} when it "
        "is stopped; Newton takes the same steps in both. With L2 the two fits are different models: a probability "
        "moves by up to {largest_change_of_a_probability_under_l2:.2f}, and {decisions_changed_under_l2} decisions "
        "change.",
        negative="{condition_number_standardised:.0e} is still a bad condition number: standardising does not "
        "decorrelate.",
    )


def newton_order(figures: Path) -> Record:
    """How fast do the last steps of each solver converge?"""
    X, y = load("breast_cancer")
    X = with_intercept(standardise(X)[0])
    D = X.shape[1]
    loss = BinaryLoss(X, y, ridge(D, 0.01))
    best = solve(loss, newton(loss, np.zeros(D)), 1e-15, 60).w
    mu, L = extreme_curvatures(loss, best)
    lr = 1 / smoothness(X, ridge(D, 0.01))

    def errors(iterates: Iterator[Array], steps: int) -> list[float]:
        return [float(np.linalg.norm(w - best)) for w in islice(iterates, steps)]

    starts = [0.3 * np.random.default_rng(seed).normal(size=(D,)) for seed in SEEDS]
    runs = {
        "Newton": [errors(newton(loss, w), 12) for w in starts],
        "L-BFGS": [errors(lbfgs(loss, w), 150) for w in starts],
        "gradient descent": [errors(gradient_descent(loss, w, lr), 3000) for w in starts],
    }
    orders = {name: [convergence_order(run) for run in several] for name, several in runs.items()}
    rates = [run[-1] / run[-2] for run in runs["gradient descent"]]
    metrics = {
        "order_newton": spread(orders["Newton"]),
        "lowest_order_newton": min(orders["Newton"]),
        "order_gradient_descent": spread(orders["gradient descent"]),
        "rate_gradient_descent": spread(rates),
        "rate_predicted": contraction(mu, L, lr),
        "steps_newton": spread([_first_below(run, 1e-10) for run in runs["Newton"]]),
        "steps_lbfgs": spread([_first_below(run, 1e-10) for run in runs["L-BFGS"]]),
    }
    figure = plots.newton_order(
        {name: several[0] for name, several in runs.items()}, metrics, figures / "newton_order.svg"
    )
    return Record(
        objective="Is Newton's convergence quadratic and gradient descent's linear, with the rate that the curvature "
        "says?",
        setup=f"breast_cancer standardised with intercept, L2 0.01; {len(SEEDS)} starts w ~ N(0, 0.3² I); error ‖w_k - "
        "w*‖. Order: log(e_k+1 / e_k) / log(e_k / e_k-1) of the last three errors above 1e-12. sd over the starts.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {
                    "changed": name,
                    "order": float(np.mean(orders[name])),
                    "steps to 1e-10": _mean_or_none([_first_below(run, 1e-10) for run in several]),
                }
                for name, several in runs.items()
                if name != "L-BFGS"
            ]
            + [
                {
                    "changed": "L-BFGS",
                    "order": None,
                    "steps to 1e-10": _mean_or_none([_first_below(run, 1e-10) for run in runs["L-BFGS"]]),
                }
            ]
        ),
        figure=figure,
        found="Newton's order is {order_newton[mean]:.2f}, gradient descent's {order_gradient_descent[mean]:.2f}; the "
        "latter shrinks the error by {rate_gradient_descent[mean]:.4f} a step where the curvature at the minimum "
        "predicts {rate_predicted:.4f}.",
        negative="L-BFGS has no order worth quoting: its errors fall in jumps.",
    )


def norm_growth(figures: Path) -> Record:
    """What does gradient descent do when there is no minimum?"""
    marks = [600, 6_000, 60_000]
    curve = np.unique(np.r_[np.geomspace(1, 60_000, 60).astype(int), marks])
    lr, l2 = 0.5, 0.01
    traces, verdicts, penalised, still_wrong = [], [], [], 0
    for seed in SEEDS:
        data = split("breast_cancer", seed)
        verdicts.append(separation(data.X, data.y))
        train, test = BinaryLoss(data.X, data.y), BinaryLoss(data.X_test, data.y_test)
        start = np.zeros(data.X.shape[1])
        points = at_steps(gradient_descent(train, start, lr), list(curve))
        still_wrong += bool((train.margins(points[-1]) < 0).any())
        traces.append([(float(np.linalg.norm(w)), train.value(w), test.value(w)) for w in points])
        with_l2 = BinaryLoss(data.X, data.y, ridge(len(start), l2))
        w = solve(with_l2, newton(with_l2, start), 1e-12, 50).w
        penalised.append((float(np.linalg.norm(w)), train.value(w), test.value(w)))

    trace = np.array(traces)  # (seeds, steps, 3)
    at = {mark: trace[:, int(np.searchsorted(curve, mark))] for mark in marks}  # (seeds, 3)
    shrunk = np.array(penalised)
    metrics: dict[str, Any] = {
        "separable_splits": verdicts.count("complete"),
        "splits_with_training_errors_after_60000": still_wrong,
    }
    for mark in marks:
        norm, train_loss, test_loss = at[mark].T
        metrics |= {
            f"norm_{mark}": spread(norm),
            f"train_{mark}": spread(train_loss),
            f"test_{mark}": spread(test_loss),
        }
    metrics |= {
        "norm_l2": spread(shrunk[:, 0]),
        "test_l2": spread(shrunk[:, 2]),
        "strictly_grows": bool((np.diff([at[mark][:, 0] for mark in marks], axis=0) > 0).all()),
        "train_falls": bool((np.diff([at[mark][:, 1] for mark in marks], axis=0) < 0).all()),
        "splits_whose_test_loss_rises": int((at[60_000][:, 2] > at[600][:, 2]).sum()),
        "l2_beats_60000_steps": int((shrunk[:, 2] < at[60_000][:, 2]).sum()),
    }
    figure = plots.norm_growth(curve, trace, shrunk, metrics, figures / "norm_growth.svg")
    rows = [
        {
            "changed": f"no penalty, {mark} steps",
            "norm of w": float(at[mark][:, 0].mean()),
            "train loss": float(at[mark][:, 1].mean()),
            "test loss": float(at[mark][:, 2].mean()),
        }
        for mark in marks
    ]
    norm, train_loss, test_loss = shrunk.mean(axis=0)
    rows.append({"changed": f"L2 {l2}, minimum", "norm of w": norm, "train loss": train_loss, "test loss": test_loss})
    return Record(
        objective="What happens to ‖w‖ and to the test loss when gradient descent runs on although there is no "
        "minimum?",
        setup=f"breast_cancer, 70/30 splits by {len(SEEDS)} seeds, standardised by the training part, intercept; "
        f"unpenalised, rate {lr}, 600, 6,000 and 60,000 steps from 0. Beside it the minimum with L2 {l2} (Newton). sd "
        "over the splits.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(rows),
        figure=figure,
        found="All {separable_splits} training sets are linearly separable, and ‖w‖ grows without end: "
        "{norm_600[mean]:.1f}, {norm_6000[mean]:.1f}, {norm_60000[mean]:.1f} after 600, 6,000, 60,000 steps. The "
        "training loss falls all the while; the test loss goes from {test_600[mean]:.3f} to {test_60000[mean]:.3f} "
        "and rises on {splits_whose_test_loss_rises} of 5 splits. With L2 it is {test_l2[mean]:.3f}, at a norm of "
        "{norm_l2[mean]:.1f}.",
        negative="Separable is not yet separated: after 60,000 steps {splits_with_training_errors_after_60000} of 5 "
        "training sets still have samples on the wrong side.",
    )


def implicit_bias(figures: Path) -> Record:
    """Towards which of the many separating hyperplanes does gradient descent go?"""
    marks = [20, 200, 2_000, 20_000]
    images, digits = load("digits")
    images, digits = with_intercept(images[digits < 2] / 16), digits[digits < 2]
    curve = np.unique(np.r_[np.geomspace(1, marks[-1], 40).astype(int), marks])
    fast = np.unique(np.geomspace(1, 1000, 20).astype(int))
    plain, scaled, slopes, squares, shrunk, plane = [], [], [], [], [], []
    for seed in SEEDS:
        half = np.random.default_rng(seed).permutation(len(digits))[: len(digits) // 2]
        X, y = images[half], digits[half]
        loss, start, lr = BinaryLoss(X, y), np.zeros(X.shape[1]), 1 / smoothness(X)
        widest = max_margin(X, y)
        points = at_steps(gradient_descent(loss, start, lr), list(curve))
        plain.append([degrees_between(w, widest) for w in points])
        norms = [float(np.linalg.norm(points[int(np.searchsorted(curve, mark))])) for mark in marks[-2:]]
        slopes.append((norms[1] - norms[0]) / np.log(marks[-1] / marks[-2]) / np.linalg.norm(widest))
        scaled.append([degrees_between(w, widest) for w in at_steps(_normalised_descent(loss, start, lr), list(fast))])
        squares.append(degrees_between(np.linalg.pinv(X) @ loss.signs, widest))
        penalised = BinaryLoss(X, y, 0.01)
        shrunk.append(degrees_between(solve(penalised, newton(penalised, start), 1e-10, 50).w, widest))
        plane.append(_angles_in_the_plane(seed, marks))

    angles = np.array(plain)[:, np.searchsorted(curve, marks)]  # (seeds, marks)
    planar = np.array(plane)
    metrics = {
        **{f"angle_{mark}": spread(angles[:, i]) for i, mark in enumerate(marks)},
        **{f"angle_times_log_{mark}": float(angles[:, i].mean() * np.log(mark)) for i, mark in enumerate(marks)},
        "angle_falls": bool((np.diff(angles, axis=1) < 0).all()),
        "growth_over_predicted": spread(slopes),
        "angle_normalised_1000": spread([row[-1] for row in scaled]),
        "angle_least_squares": spread(squares),
        "angle_l2": spread(shrunk),
        "plane_sets_whose_angle_rises": int((planar[:, -1] > planar[:, 0]).sum()),
    }
    figure = plots.implicit_bias(curve, plain, fast, scaled, metrics, figures / "implicit_bias.svg")
    rows: list[tuple[str, Any]] = [
        ("gradient descent, 20,000 steps", angles[:, -1]),
        ("gradient / loss, 1,000 steps", [row[-1] for row in scaled]),
        ("L2 0.01, minimum", shrunk),
        ("least squares instead of log-loss", squares),
    ]
    return Record(
        objective="Does unpenalised gradient descent turn towards the maximum-margin hyperplane, and how fast (Soudry "
        "2018)?",
        setup=f"digits 0 against 1, a random half by each of {len(SEEDS)} seeds (180 × 64, pixels in [0, 1], intercept "
        "as a feature); rate 1/L, 20 to 20,000 steps from 0; angle to the hard-margin SVM. Also: steps of size lr · "
        "gradient / loss; the same in the plane (40 points, margin at least ½). sd over the seeds.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {
                    "changed": name,
                    "degrees from maximum margin": float(np.mean(values)),
                    "sd": float(np.std(values, ddof=1)),
                }
                for name, values in rows
            ]
        ),
        figure=figure,
        found="The angle falls from {angle_20[mean]:.0f}° to {angle_20000[mean]:.0f}° in 20,000 steps, in the end as "
        "1 / log t: angle times log t is {angle_times_log_2000:.0f} after 2,000 steps and {angle_times_log_20000:.0f} "
        "after 20,000. ‖w‖ grows by {growth_over_predicted[mean]:.2f} of what ‖ŵ‖ log t predicts. Dividing the "
        "gradient by the loss gets to {angle_normalised_1000[mean]:.1f}° in 1,000.",
        negative="The approach need not be monotone: on {plane_sets_whose_angle_rises} of 5 sets in the plane the "
        "angle is larger after 20,000 steps than after 20.",
    )


def calibration(figures: Path) -> Record:
    """Can the stated probabilities be believed, and does one temperature mend them?"""
    images, digits = load("digits")
    X, K = with_intercept(images / 16), 10
    D = X.shape[1]
    strengths = [0.0, 1e-4, 1e-3, 1e-2]
    found: dict[float, list[dict[str, float]]] = {l2: [] for l2 in strengths}
    stated: dict[float, list[tuple[Array, Array, NDArray[np.intp]]]] = {l2: [] for l2 in strengths}
    for seed in SEEDS:
        order = np.random.default_rng(seed).permutation(len(digits))
        train, held_out, test = order[:400], order[400:800], order[800:]
        for l2 in strengths:
            loss = MultinomialLoss(X[train], digits[train], K, ridge(D, l2))
            W = solve(loss, lbfgs(loss, np.zeros(D * K)), 1e-5, 400).w.reshape(D, K)
            logits, y = X[test] @ W, digits[test]
            T = fit_temperature(X[held_out] @ W, digits[held_out])
            before, after = softmax(logits), softmax(logits / T)
            found[l2].append(
                {
                    "accuracy": float((before.argmax(axis=1) == y).mean()),
                    "temperature": T,
                    "ece_before": _ece(before, y),
                    "ece_after": _ece(after, y),
                    "loss_before": tempered_loss(logits, y, 1.0),
                    "loss_after": tempered_loss(logits, y, T),
                    "ece_if_calibrated": _ece_of_a_calibrated_model(after, seed),
                    "decisions_changed": int((before.argmax(axis=1) != after.argmax(axis=1)).sum()),
                }
            )
            stated[l2].append((before, after, y))

    base = found[0.0]
    metrics: dict[str, Any] = {key: spread([row[key] for row in base]) for key in base[0] if key != "decisions_changed"}
    metrics |= {
        "decisions_changed": int(sum(row["decisions_changed"] for rows in found.values() for row in rows)),
        "ece_falls_every_seed": all(row["ece_after"] < row["ece_before"] for row in base),
        "loss_falls_every_seed": all(row["loss_after"] < row["loss_before"] for row in base),
        "temperature_strong_l2": spread([row["temperature"] for row in found[1e-2]]),
        "ece_before_strong_l2": spread([row["ece_before"] for row in found[1e-2]]),
        "ece_after_strong_l2": spread([row["ece_after"] for row in found[1e-2]]),
        "ece_before_mild_l2": spread([row["ece_before"] for row in found[1e-4]]),
        "ece_after_mild_l2": spread([row["ece_after"] for row in found[1e-4]]),
    }
    tables = {name: _pooled(stated[l2]) for name, l2 in (("no penalty", 0.0), ("L2 0.01", 1e-2))}
    figure = plots.calibration(tables, metrics, figures / "calibration.svg")
    columns = ("accuracy", "temperature", "ece_before", "ece_after", "loss_before", "loss_after")
    return Record(
        objective="How far are softmax regression's confidences from its accuracy, and what does temperature scaling "
        "mend?",
        setup=f"digits, {len(SEEDS)} random splits: 400 to train, 400 to fit the temperature, 997 to test; softmax "
        "regression by L-BFGS to gradient norm 1e-5; L2 0, 1e-4, 1e-3, 1e-2; ECE over 15 equal bins. Beside it the "
        "ECE of the same confidences with labels drawn from them: what a perfectly calibrated model scores at this "
        "size. sd over the splits.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {"changed": f"L2 {l2:g}" if l2 else "no penalty"}
                | {column: float(np.mean([row[column] for row in rows])) for column in columns}
                for l2, rows in found.items()
            ]
        ),
        figure=figure,
        found="Without a penalty the model is overconfident: ECE {ece_before[mean]:.3f}, and a temperature of "
        "{temperature[mean]:.1f} brings it to {ece_after[mean]:.3f}, close to the {ece_if_calibrated[mean]:.3f} of a "
        "perfectly calibrated model at this sample size, without changing one decision. With the strongest L2 it is "
        "underconfident instead (ECE {ece_before_strong_l2[mean]:.2f}, temperature "
        "{temperature_strong_l2[mean]:.2f}).",
        negative="With the mildest penalty the model is calibrated from the start ({ece_before_mild_l2[mean]:.3f}) "
        "and temperature scaling has nothing to mend ({ece_after_mild_l2[mean]:.3f}).",
    )


def convergence_order(errors: Sequence[float], floor: float = 1e-12) -> float:
    """log(e_k+1 / e_k) / log(e_k / e_k-1) from the last three errors above `floor`, below which rounding rules."""
    a, b, c = [e for e in errors if e > floor][-3:]
    return float(np.log(c / b) / np.log(b / a))


def degrees_between(a: Array, b: Array) -> float:
    """The angle between two vectors."""
    return float(np.degrees(np.arccos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1, 1))))


def _normalised_descent(loss: BinaryLoss, w: Array, lr: float) -> Iterator[Array]:
    """Steps that do not shrink with the loss: w ← w - lr ∇loss(w) / loss(w)."""
    while True:
        yield w
        w = w - lr / loss.value(w) * loss.gradient(w)


def _angles_in_the_plane(seed: int, marks: list[int]) -> list[float]:
    """Angle of gradient descent to the maximum margin on 40 correlated points, moved apart to a margin of at least "
    "½."""
    generator = np.random.default_rng(seed)
    y = np.arange(40) % 2
    signs = 2 * y - 1
    X = generator.normal(size=(40, 2)) @ np.array([[1.5, 0.0], [0.6, 0.5]])
    normal = generator.normal(size=2)
    normal /= np.linalg.norm(normal)
    along = signs * (X @ normal)
    X += np.outer(signs * (np.abs(along) - along + 0.5), normal)
    points = at_steps(gradient_descent(BinaryLoss(X, y), np.zeros(2), 1 / smoothness(X)), marks)
    return [degrees_between(w, max_margin(X, y)) for w in points]


def _ece(P: Array, y: NDArray[np.intp]) -> float:
    return expected_calibration_error(P.max(axis=1), P.argmax(axis=1) == y)


def _pooled(stated: list[tuple[Array, Array, NDArray[np.intp]]]) -> list[Reliability]:
    """Reliability before and after temperature scaling, over the test samples of all splits, in 10 bins."""
    y = np.concatenate([labels for _, _, labels in stated])
    stages = (np.concatenate([split[stage] for split in stated]) for stage in (0, 1))
    return [reliability(P.max(axis=1), P.argmax(axis=1) == y, 10) for P in stages]


def _ece_of_a_calibrated_model(P: Array, seed: int, draws: int = 20) -> float:
    """The mean ECE where each prediction is right with exactly the probability it states: the floor of the estimate."""
    confidence, generator = P.max(axis=1), np.random.default_rng(seed)
    return float(
        np.mean([expected_calibration_error(confidence, generator.random(len(P)) < confidence) for _ in range(draws)])
    )


def _geometric(values: list[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


def _first_below(errors: list[float], target: float) -> int | None:
    return next((step for step, error in enumerate(errors) if error < target), None)


def _mean_or_none(counts: Sequence[int | None]) -> float | None:
    reached = [count for count in counts if count is not None]
    return float(np.mean(reached)) if len(reached) == len(counts) else None


def _level_names(levels: Sequence[float]) -> list[str]:
    return [f"steps to {level}" for level in levels]
