"""What small runs tell about large ones: scaling, learning rates by width, batches, repetition, recipes."""

import functools
import math
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from llmm.foundations.optimizers import AdamW
from llmm.ladder.records import Record, round_metrics, spread
from llmm.params import PretrainParams, load_params
from llmm.training.pretraining import plots
from llmm.training.pretraining.compute import training_flops
from llmm.training.pretraining.coordinate_check import movements, slopes
from llmm.training.pretraining.mup import parameter_groups, scale_init
from llmm.training.pretraining.noise_scale import NoiseScale, fit_trade_off, gradient_of, squares
from llmm.training.pretraining.recipe import build_model, build_optimizers, learning_rate_share, next_token_loss
from llmm.training.pretraining.scaling_law import ScalingLaw, bootstrap, fit, weakest_direction
from llmm.training.pretraining.small_runs import (
    fresh,
    optimizers_of,
    training,
    training_ids,
    validation_ids,
    validation_nats,
    vertex,
)
from llmm.training.pretraining.windows import Windows
from llmm.transformers.gpt import GPT, GPTConfig
from llmm.transformers.gpt.small_models import T, V, config

SEEDS = [0, 1, 2]
BATCH = 8  # windows
TEXT = "bytes of the standard library's modules, three of them held out"


# --- scaling ----------------------------------------------------------------------------------------------------------

FITTED = ((1, 16), (2, 16), (3, 16), (1, 32), (2, 32))  # layers, width
HELD_OUT = (2, 64)
TOKENS_PER_PARAMETER = 5


def scaling(figures: Path) -> Record:
    """Do five small models predict a larger one, trained at the same ratio of tokens to parameters?"""
    sizes = [config(*size).n_matmul_params for size in (*FITTED, HELD_OUT)]
    losses = [[_scaled_run(size, seed) for seed in SEEDS] for size in (*FITTED, HELD_OUT)]
    parameters = np.repeat(sizes[:-1], len(SEEDS)).astype(float)[:, None]
    known = np.array(losses[:-1]).ravel()
    law = fit(parameters, known)
    predicted, measured = law.loss(sizes[-1]), statistics.fmean(losses[-1])
    again = bootstrap(parameters, known, 40, 0)
    line = np.polyfit(np.log(parameters[:, 0]), np.log(known), 1).tolist()
    straight = float(np.exp(np.polyval(line, math.log(sizes[-1]))))
    by_seed = [
        fit(np.array(sizes[:-1], float)[:, None], np.array([row[i] for row in losses[:-1]])).loss(sizes[-1])
        / losses[-1][i]
        - 1
        for i in range(len(SEEDS))
    ]
    both = ScalingLaw(law.irreducible, law.coefficients * 2, law.exponents * 2)
    metrics = {
        "parameters": sizes,
        "loss": {f"of_{n}": spread(row) for n, row in zip(sizes, losses, strict=True)},
        "irreducible": law.irreducible,
        "coefficient": law.coefficients[0],
        "exponent": law.exponents[0],
        "irreducible_interval": _interval([other.irreducible for other in again]),
        "exponent_interval": _interval([other.exponents[0] for other in again]),
        "predicted": predicted,
        "predicted_interval": _interval([other.loss(sizes[-1]) for other in again]),
        "measured": measured,
        "error": abs(predicted / measured - 1),
        "error_by_seed": spread(by_seed),
        "error_without_irreducible": abs(straight / measured - 1),
        "weakest_direction": weakest_direction(law, parameters),
        "weakest_direction_of_both": weakest_direction(
            both, np.column_stack([parameters, TOKENS_PER_PARAMETER * parameters])
        ),
        "larger_than_fitted": sizes[-1] / sizes[-2],
        "flops_of_largest_over_all_fitted": _flops(HELD_OUT) / sum(map(_flops, FITTED)),
    }
    figure = plots.scaling(sizes, losses, law, line, metrics, figures / "scaling.svg")
    return Record(
        objective="Do five small models predict the loss of a larger one at the same ratio of tokens to parameters?",
        setup=f"Models of {', '.join(f'{n:,}' for n in sizes)} parameters in matrix products, {TOKENS_PER_PARAMETER} "
        f"tokens a parameter, {BATCH} windows of {T} tokens a step, {TEXT}; loss on the whole of those. "
        "L = E + A / N^α fitted to the five smaller ones, three seeds each, by Huber loss on logarithms; intervals "
        "are 95% of 40 resamples of the residuals.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {"changed": f"fitted, {n:,} parameters", "nats": statistics.fmean(row), "by the law": law.loss(n)}
                for n, row in zip(sizes[:-1], losses[:-1], strict=True)
            ]
            + [
                {"changed": f"held out, {sizes[-1]:,} parameters", "nats": measured, "by the law": predicted},
                {"changed": "held out, a power by least squares", "nats": measured, "by the law": straight},
            ]
        ),
        figure=figure,
        found="The law predicts {predicted:.3f} nats for a model {larger_than_fitted:.1f} times as large as the "
        "largest one that it was fitted to, which reaches {measured:.3f}: an error of {error:.1%}. The E that fits "
        "best is {irreducible:.2f}, so at these sizes the law is a pure power; one by least squares is off by "
        "{error_without_irreducible:.1%}.",
        negative="E is not identified: its interval is {irreducible_interval[0]:.2f} to "
        "{irreducible_interval[1]:.2f} nats, that of the exponent {exponent_interval[0]:.2f} to "
        "{exponent_interval[1]:.2f}. Along a fixed ratio α and β cannot be told apart at all.",
    )


def _scaled_run(size: tuple[int, int], seed: int) -> float:
    model = fresh(config(*size), seed)
    windows = Windows(training_ids(), T, BATCH, seed)
    for _ in training(model, optimizers_of(model), windows, _steps(size)):
        pass
    return validation_nats(model)


def _steps(size: tuple[int, int]) -> int:
    return round(TOKENS_PER_PARAMETER * config(*size).n_matmul_params / (BATCH * T))


def _flops(size: tuple[int, int]) -> float:
    return training_flops(config(*size), _steps(size) * BATCH * T, T)


def _interval(values: Sequence[float]) -> list[float]:
    return [float(value) for value in np.quantile(values, [0.025, 0.975])]


# --- learning rate and width ------------------------------------------------------------------------------------------

WIDTHS = (32, 64, 128)
RATES = tuple(0.0005 * 2**k for k in range(7))
SWEEP_STEPS = 80
SWEEP_BATCH = 4
GLANCE = 192  # windows of the validation text


def lr_width(figures: Path) -> Record:
    """Does the best learning rate move with the width, under the standard parametrisation and under μP?"""
    losses: dict[str, dict[int, list[list[float]]]] = {"SP": {}, "μP": {}}  # by width, seed, rate
    for width in WIDTHS:
        for name, base in (("SP", width), ("μP", WIDTHS[0])):
            if name == "μP" and width == WIDTHS[0]:
                losses[name][width] = losses["SP"][width]  # the same model there
            else:
                losses[name][width] = [[_swept(width, base, rate, seed) for rate in RATES] for seed in SEEDS]
    best = {
        name: {width: [vertex(RATES, row) for row in rows] for width, rows in by_width.items()}
        for name, by_width in losses.items()
    }
    shift = {
        name: [
            float(np.polyfit(np.log2(WIDTHS), [by_width[width][i] for width in WIDTHS], 1)[0])
            for i in range(len(SEEDS))
        ]
        for name, by_width in best.items()
    }
    last = WIDTHS[-1]
    means = {name: {w: [statistics.fmean(c) for c in zip(*rows, strict=True)] for w, rows in by_width.items()}
             for name, by_width in losses.items()}  # fmt: skip
    tuned = min(range(len(RATES)), key=means["SP"][WIDTHS[0]].__getitem__)
    taken = {name: [row[tuned] - min(row) for row in losses[name][last]] for name in losses}
    keys = {"SP": "sp", "μP": "mup"}
    metrics = {
        "best_rate": {
            keys[name]: {f"at_{width}": spread([2.0**value for value in values]) for width, values in by_width.items()}
            for name, by_width in best.items()
        },
        "shift_per_doubling": {keys[name]: spread(values) for name, values in shift.items()},
        "loss": {
            keys[name]: {f"at_{width}": spread([min(row) for row in rows]) for width, rows in by_width.items()}
            for name, by_width in losses.items()
        },
        "price_of_the_narrow_rate": {keys[name]: spread(values) for name, values in taken.items()},
        "tuned_at_base": RATES[tuned],
    }
    figure = plots.lr_width(RATES, means, tuned, figures / "lr_width.svg")
    return Record(
        objective="Does the best learning rate of AdamW move with the width, and does μP hold it where it is?",
        setup=f"1 block, widths {', '.join(map(str, WIDTHS))}, heads of 16 channels; {SWEEP_STEPS} steps of "
        f"{SWEEP_BATCH} windows of {T} tokens, AdamW for all parameters, rates {RATES[0]} to {RATES[-1]} by factors "
        f"of 2, {TEXT} ({GLANCE} windows). μP from width {WIDTHS[0]}. A best rate is the vertex of the parabola "
        "through the lowest three.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {"changed": f"{name}, width {width}"}
                | {f"nats at {rate:g}": loss for rate, loss in zip(RATES, row, strict=True)}
                for name, by_width in means.items()
                for width, row in by_width.items()
            ]
        ),
        figure=figure,
        found="From width 32 to 128 the best rate goes from {best_rate[sp][at_32][mean]:.4f} to "
        "{best_rate[sp][at_128][mean]:.4f} under SP and to {best_rate[mup][at_128][mean]:.4f} under μP: "
        "{shift_per_doubling[sp][mean]:.2f} and {shift_per_doubling[mup][mean]:.2f} octaves for each doubling of the "
        "width. Taking the rate of the narrow model costs the wide one {price_of_the_narrow_rate[sp][mean]:.3f} nats "
        "under SP, {price_of_the_narrow_rate[mup][mean]:.3f} under μP.",
        negative="μP is about which rate is best, and not about the best loss: at width 128 the best losses are "
        "{loss[sp][at_128][mean]:.3f} under SP and {loss[mup][at_128][mean]:.3f} under μP.",
    )


def _swept(width: int, base: int, rate: float, seed: int) -> float:
    model = fresh(config(1, width), seed)
    scale_init(model, config(1, base))
    optimizer = AdamW(parameter_groups(model, rate, config(1, base)))
    windows = Windows(training_ids(), T, SWEEP_BATCH, seed)
    for _ in training(model, [optimizer], windows, SWEEP_STEPS):
        pass
    return validation_nats(model, windows=GLANCE)


# --- coordinate check -------------------------------------------------------------------------------------------------

CHECKED_WIDTHS = (32, 64, 128, 256)
CHECKED_STEPS = 4
CHECKED_RATE = 0.005


def coordinate_check(figures: Path) -> Record:
    """Do activations move as far in a wide model as in a narrow one?"""
    ids = validation_ids()[: 8 * (T + 1)].view(8, T + 1)
    found = {
        name: [
            [
                movements(config(2, width), config(2, base or width), ids, CHECKED_RATE, CHECKED_STEPS, seed)
                for width in CHECKED_WIDTHS
            ]
            for seed in SEEDS
        ]
        for name, base in (("SP", 0), ("μP", CHECKED_WIDTHS[0]))
    }
    steep = {name: [slopes(CHECKED_WIDTHS, run) for run in runs] for name, runs in found.items()}
    keys = {"SP": "sp", "μP": "mup"}
    metrics = {
        keys[name]: {place.replace(".", "_"): spread([run[place] for run in runs]) for place in runs[0]}
        | {"largest": spread([max(map(abs, run.values())) for run in runs])}
        for name, runs in steep.items()
    }
    figure = plots.coordinate_check(CHECKED_WIDTHS, found, metrics, figures / "coordinate_check.svg")
    return Record(
        objective="Do activations move equally far at every width in the first steps, under SP and under μP?",
        setup=f"2 blocks, widths {', '.join(map(str, CHECKED_WIDTHS))}, {CHECKED_STEPS} steps of AdamW at "
        f"{CHECKED_RATE} on 8 windows of {T} tokens; root mean square change of what each branch adds and of the "
        f"logits, slope of its logarithm against that of the width. μP from width {CHECKED_WIDTHS[0]}.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {"changed": f"{name}, {place}", "slope": statistics.fmean(run[place] for run in runs)}
                for name, runs in steep.items()
                for place in runs[0]
            ]
        ),
        figure=figure,
        found="Under SP the change of the logits grows with the width to the power {sp[logits][mean]:.2f}, under μP "
        "with {mup[logits][mean]:.2f}. The steepest place has {sp[largest][mean]:.2f} and {mup[largest][mean]:.2f}.",
        negative="Four steps are the beginning only, and zero initial branches make it a clean one: what holds there "
        "is necessary for a rate to transfer, and not sufficient.",
    )


# --- critical batch ---------------------------------------------------------------------------------------------------

BATCHES = (1, 4, 16, 64, 256)  # windows
SHORT = 32  # tokens in a window
TARGET = 2.5  # nats
PEAK = 0.008  # learning rate at 16 windows; it grows like the root of the batch
WARM_UP_STEPS = 10
MOST_STEPS = 3000


def critical_batch(figures: Path) -> Record:
    """How many steps does each batch take to the same loss, and does the gradient noise say so beforehand?"""
    factor = {batch: min((0.5, 1.0, 2.0), key=lambda f: _steps_to_target(batch, f, SEEDS[0])) for batch in BATCHES}
    steps = {batch: [_steps_to_target(batch, factor[batch], seed) for seed in SEEDS] for batch in BATCHES}
    fits = [fit_trade_off(BATCHES, [steps[batch][i] for batch in BATCHES]) for i in range(len(SEEDS))]
    whole = fit_trade_off(
        [batch for batch in BATCHES for _ in SEEDS], [found for batch in BATCHES for found in steps[batch]]
    )
    noise = [_noise_on_the_way(seed) for seed in SEEDS]
    mean_steps = {batch: statistics.fmean(found) for batch, found in steps.items()}
    off = max(abs(math.log(whole.steps(batch) / mean_steps[batch])) for batch in BATCHES)
    metrics = {
        "steps": {f"at_{batch}": spread(found) for batch, found in steps.items()},
        "fewest_steps": spread([fit.fewest_steps for fit in fits]),
        "fewest_windows": spread([fit.fewest_examples for fit in fits]),
        "critical_batch": spread([fit.critical_batch for fit in fits]),
        "critical_batch_of_all": whole.critical_batch,
        "noise_scale_early": spread([run[0] for run in noise]),
        "noise_scale_at_target": spread([run[-1] for run in noise]),
        "noise_over_critical": spread([run[-1] / fit.critical_batch for run, fit in zip(noise, fits, strict=True)]),
        "farthest_from_curve": math.exp(off) - 1,
        "steps_saved_by_last_quadrupling": mean_steps[64] / mean_steps[256],
        "steps_saved_by_first_quadrupling": mean_steps[1] / mean_steps[4],
        "rate_factor": {f"at_{batch}": value for batch, value in factor.items()},
    }
    figure = plots.critical_batch(mean_steps, whole, metrics, figures / "critical_batch.svg")
    return Record(
        objective="How do steps and examples to the same loss trade, and does the gradient noise scale predict it?",
        setup=f"1 block, width 32, windows of {SHORT} tokens, Adam at {PEAK} times the root of batch / 16, times 0.5, "
        f"1 or 2, whichever was fastest for the first seed, after {WARM_UP_STEPS} steps of warm-up constant; steps "
        f"until the validation loss is {TARGET} nats, for {', '.join(map(str, BATCHES))} windows a step. Noise scale "
        "from 64 windows one by one, four times, early and at the target, of the run with 16.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {
                    "changed": f"{batch} windows a step",
                    "steps": mean_steps[batch],
                    "by the curve": whole.steps(batch),
                    "windows": batch * mean_steps[batch],
                }
                for batch in BATCHES
            ]
        ),
        figure=figure,
        found="The runs lie on a curve with at least {fewest_steps[mean]:.0f} steps and {fewest_windows[mean]:.0f} "
        "windows, a critical batch of {critical_batch[mean]:.0f} windows (sd {critical_batch[sd]:.0f}). The noise "
        "scale is {noise_scale_early[mean]:.1f} early and {noise_scale_at_target[mean]:.0f} at the target. The first "
        "quadrupling of the batch saves a factor of {steps_saved_by_first_quadrupling:.1f} in steps, the last one "
        "{steps_saved_by_last_quadrupling:.1f}.",
        negative="The noise scale at the target is {noise_over_critical[mean]:.1f} times the critical batch: it "
        "belongs to plain gradient descent at one point, and the runs are of Adam over a whole path.",
    )


def _steps_to_target(batch: int, factor: float, seed: int) -> float:
    """Steps, between two looks interpolated, until the validation loss is `TARGET`."""
    model = fresh(_short_config(), seed)
    rate = PEAK * factor * (batch / 16) ** 0.5
    windows = Windows(training_ids(), SHORT, batch, seed)
    optimizer = AdamW(list(model.parameters()), rate, (0.9, 0.95))
    before, seen, look = math.log(V), 0, 5.0
    for step, _ in enumerate(training(model, [optimizer], windows, MOST_STEPS, _rise), start=1):
        if step >= look:
            nats = validation_nats(model, SHORT, GLANCE)
            if nats <= TARGET:
                return seen + (step - seen) * (before - TARGET) / (before - nats)
            before, seen, look = nats, step, step * 1.04 + 1
    return float(MOST_STEPS)


def _noise_on_the_way(seed: int) -> list[float]:
    """The noise scale in windows after 20 steps of 16 windows, and where the target is reached."""
    model = fresh(_short_config(), seed)
    windows = Windows(training_ids(), SHORT, 16, seed)
    measured = Windows(training_ids(), SHORT, 64, seed + 100)
    optimizer = AdamW(list(model.parameters()), PEAK, (0.9, 0.95))
    found = []
    for step, _ in enumerate(training(model, [optimizer], windows, MOST_STEPS, _rise), start=1):
        reached = step % 10 == 0 and step > 20 and validation_nats(model, SHORT, GLANCE) <= TARGET
        if step == 20 or reached:
            found.append(_noise_scale(model, measured))
        if reached:
            break
    return found


def _noise_scale(model: GPT, windows: Windows, batches: int = 4) -> float:
    estimate = NoiseScale()
    for step in range(batches):
        rows = windows.batch(step)
        estimate.add(*squares(_gradients(model, rows)), 1, len(rows))
    return estimate.value


def _gradients(model: GPT, rows: Tensor) -> Iterator[list[Tensor]]:
    for row in rows.split(1):
        next_token_loss(model, row).backward()
        yield gradient_of(model.parameters())
        model.zero_grad(set_to_none=True)


def _rise(step: int) -> float:
    return min(1.0, (step + 1) / WARM_UP_STEPS)


def _short_config() -> GPTConfig:
    return config(1, 32)


# --- repetition -------------------------------------------------------------------------------------------------------

EPOCHS = (1, 2, 4, 8, 16)
REPEATED_STEPS = 320
PIECE = 512  # bytes; texts of every size are made of pieces from all over, so that they differ in size alone


def repetition(figures: Path) -> Record:
    """What is a token worth that the model has seen before?"""
    total = REPEATED_STEPS * BATCH * T
    held_out: dict[int, list[float]] = {}
    seen: dict[int, list[float]] = {}
    for epochs in EPOCHS:
        runs = [_repeated(total // epochs, REPEATED_STEPS, seed) for seed in SEEDS]
        held_out[epochs], seen[epochs] = map(list, zip(*runs, strict=True))
    once = {part: [_repeated(total // part, REPEATED_STEPS // part, seed)[0] for seed in SEEDS] for part in EPOCHS[1:]}
    excess = {epochs: [a - b for a, b in zip(values, held_out[1], strict=True)] for epochs, values in held_out.items()}
    metrics = {
        "tokens": total,
        "loss": {f"epochs_{epochs}": spread(values) for epochs, values in held_out.items()},
        "training_loss": {f"epochs_{epochs}": spread(values) for epochs, values in seen.items()},
        "once": {f"share_{part}": spread(values) for part, values in once.items()},
        "price": {f"epochs_{epochs}": spread(values) for epochs, values in excess.items() if epochs > 1},
        "gain_of_repeating": {
            f"epochs_{part}": spread([a - b for a, b in zip(once[part], held_out[part], strict=True)]) for part in once
        },
    }
    figure = plots.repetition(held_out, seen, once, figures / "repetition.svg")
    return Record(
        objective="How much is lost when the same number of tokens comes from several epochs of a smaller text?",
        setup=f"2 blocks, width 32, {REPEATED_STEPS} steps of {BATCH} windows of {T} tokens ({total:,} tokens) from 1 "
        f"to {EPOCHS[-1]} epochs, {TEXT}. Each text is made of pieces of {PIECE} bytes from all over, in an "
        "order that the seed chooses, a smaller one of the first of them. Beside it: the smaller text read once, in as "
        "many steps as it has.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {
                    "changed": f"{epochs} epochs",
                    "held out, nats": statistics.fmean(held_out[epochs]),
                    "training, nats": statistics.fmean(seen[epochs]),
                    "same text once, nats": statistics.fmean(once.get(epochs, held_out[1])),
                }
                for epochs in EPOCHS
            ]
        ),
        figure=figure,
        found="Two epochs cost {price[epochs_2][mean]:.3f} nats beside as many fresh tokens, four "
        "{price[epochs_4][mean]:.3f}, sixteen {price[epochs_16][mean]:.3f}. Against reading the small text once, "
        "four epochs gain {gain_of_repeating[epochs_4][mean]:.2f} and sixteen "
        "{gain_of_repeating[epochs_16][mean]:.2f} nats.",
        negative="A falling training loss says nothing of it: at sixteen epochs it is "
        "{training_loss[epochs_16][mean]:.2f} nats, at one {training_loss[epochs_1][mean]:.2f}.",
    )


def _repeated(tokens: int, steps: int, seed: int) -> tuple[float, float]:
    """Loss on the held-out text, and mean loss of the last 32 steps."""
    text = training_ids()
    pieces = text[: len(text) // PIECE * PIECE].reshape(-1, PIECE)
    order = np.random.default_rng(seed).permutation(len(pieces))
    part = pieces[order].ravel()[: tokens + T]
    model = fresh(config(2, 32), seed)
    losses = list(training(model, optimizers_of(model), Windows(part, T, BATCH, seed), steps))
    return validation_nats(model), statistics.fmean(losses[-32:])


# --- recipe -----------------------------------------------------------------------------------------------------------

RECIPE_STEPS = 400
GPT2_RATES = (0.001, 0.002, 0.004, 0.008)
GPT2: dict[str, Any] = {
    "positions": "learned", "norm": "layer", "qk_norm": False, "feed_forward": "gelu_tanh", "d_ff": 256, "bias": True,
    "zero_init": False, "induction_start": False, "optimizer": "adamw", "schedule": "cosine",
}  # fmt: skip


def recipe(figures: Path) -> Record:
    """Is today's recipe better than GPT-2's with its learning rate tuned, at equal tokens?"""
    tuned = {rate: [_by_recipe(seed, **GPT2, adamw_lr=rate) for seed in SEEDS] for rate in GPT2_RATES}
    best = min(GPT2_RATES, key=lambda rate: statistics.fmean(tuned[rate]))
    muon = {"optimizer": "muon", "schedule": "wsd", "zero_init": True}
    found = {
        "GPT-2": tuned[best],
        "GPT-2, our optimizers and start": [_by_recipe(seed, **(GPT2 | muon)) for seed in SEEDS],
        "ours, with AdamW": [_by_recipe(seed, optimizer="adamw") for seed in SEEDS],
        "ours, without the circuit": [_by_recipe(seed, induction_start=False) for seed in SEEDS],
        "ours": [_by_recipe(seed) for seed in SEEDS],
    }
    gain = [a - b for a, b in zip(found["GPT-2"], found["ours"], strict=True)]
    metrics = {
        "gpt2": {f"at_{rate:g}".replace(".", "_"): spread(values) for rate, values in tuned.items()},
        "gpt2_best_rate": best,
        "gpt2_best": spread(found["GPT-2"]),
        "gpt2_with_our_optimizers": spread(found["GPT-2, our optimizers and start"]),
        "ours_with_adamw": spread(found["ours, with AdamW"]),
        "ours": spread(found["ours"]),
        "ours_without_circuit": spread(found["ours, without the circuit"]),
        "gain": spread(gain),
        "smallest_gain": min(gain),
        "tokens": RECIPE_STEPS * BATCH * T,
    }
    figure = plots.recipe(found, metrics, figures / "recipe.svg")
    return Record(
        objective="How many nats is today's recipe ahead of GPT-2's, tuned, after the same number of tokens?",
        setup=f"3 blocks, width 64, {RECIPE_STEPS} steps of {BATCH} windows of {T} tokens, {TEXT}, whole. GPT-2: "
        "LayerNorm, learned positions, GELU, biases, its initial weights, AdamW with a cosine to a tenth, the best of "
        f"{len(GPT2_RATES)} learning rates chosen on the very text that judges it. Ours: RMSNorm, RoPE, QK-norm, "
        "SwiGLU, zero initial branches but for an induction circuit, Muon and AdamW, linear cooldown. Parameters equal "
        "within 5%.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [{"changed": name, "nats": statistics.fmean(values)} for name, values in found.items()]
            + [{"changed": f"GPT-2 at {rate:g}", "nats": statistics.fmean(values)} for rate, values in tuned.items()]
        ),
        figure=figure,
        found="Ours reaches {ours[mean]:.3f} nats (sd {ours[sd]:.3f}), GPT-2's recipe at its best rate "
        "{gpt2_best[mean]:.3f}: {gain[mean]:.3f} nats ahead, {smallest_gain:.3f} for the worst of three seeds. With "
        "our optimizers and start GPT-2's architecture reaches {gpt2_with_our_optimizers[mean]:.3f}, ours with AdamW "
        "{ours_with_adamw[mean]:.3f}, and without the induction circuit in its first weights "
        "{ours_without_circuit[mean]:.3f}.",
    )


def _by_recipe(seed: int, **changes: Any) -> float:
    chosen = _recipe(**changes)
    model = build_model(chosen, V, seed)
    windows = Windows(training_ids(), T, BATCH, seed)
    optimizers = build_optimizers(model, chosen)
    share = functools.partial(learning_rate_share, chosen, steps=RECIPE_STEPS)
    for _ in training(model, optimizers, windows, RECIPE_STEPS, share):
        pass
    return validation_nats(model)


def _recipe(**changes: Any) -> PretrainParams:
    """The pipeline's recipe at a small size: all that shapes this result is said here, whatever params.yaml says."""
    ours = {
        "n_layer": 3, "n_head": 4, "n_kv_head": 4, "d_model": 64, "d_ff": 160, "seq_len": T, "context_len": 256,
        "positions": "rope", "norm": "rms", "qk_norm": True, "feed_forward": "swiglu", "bias": False,
        "zero_init": True, "induction_start": True, "optimizer": "muon", "schedule": "wsd", "muon_lr": 0.02,
        "muon_momentum": 0.95, "muon_momentum_end": 0.85, "muon_neuron_beta": 0.95, "adamw_lr": 0.008,
        "weight_decay": 0.1, "warmup_steps": 20, "cooldown_fraction": 0.6, "steps": RECIPE_STEPS, "dropout": 0.0,
        "batch_size": BATCH, "grad_accum_steps": 1, "tie_embeddings": True, "rope_theta": 10000.0,
    }  # fmt: skip
    return load_params().pretrain.model_copy(update=ours | changes)
