"""What adapters of low rank can and cannot: a planted shift, rank and rate, forgetting, intruders, four bits; and what
preferences lead to."""

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from llmm.foundations.optimizers import AdamW
from llmm.foundations.optimizers.schedules import warmup_stable_decay
from llmm.ladder.records import Record, round_metrics, spread
from llmm.training.lora import plots
from llmm.training.lora.adapter import TARGETS
from llmm.training.lora.block_quantisation import BLOCK, QuantisedMatrix, bits_per_parameter
from llmm.training.lora.low_rank import LoRALinear, adapted_layers
from llmm.training.lora.nf4 import fp4_levels, normal_float_levels, uniform_levels
from llmm.training.lora.preference_runs import (
    BATCH,
    RANK,
    RATE,
    START,
    STEPS,
    best_of,
    draw_pairs,
    judged,
    tuned_by_preferences,
)
from llmm.training.lora.preferences import best_of_n_kl
from llmm.training.lora.small_base import (
    SCALE,
    TASKS,
    TUNE_BATCH,
    TUNE_STEPS,
    VARIANTS,
    pretrained,
    trained_share,
    tuned,
)
from llmm.training.lora.spectrum import effective_rank, intruder_dimensions, least_error
from llmm.training.pretraining.small_runs import mean_nats, validation_nats, vertex
from llmm.transformers.gpt import GPT
from llmm.transformers.gpt.small_models import T

SEEDS = [0, 1, 2]
GLANCE = 256  # windows of a held-out text
BASE = "A model of 2 blocks of width 128, trained on bytes of the standard library's modules"


# --- a planted shift --------------------------------------------------------------------------------------------------

PLANTED_RANK = 4
PLANTED_SHAPE = (64, 48)
TRIED_RANKS = (1, 2, 3, 4, 5, 6, 8, 16)
PLANTED_STEPS, PLANTED_EXAMPLES, PLANTED_NOISE = 500, 1024, 0.05


def planted_shift(figures: Path) -> Record:
    """Does the loss of a LoRA stop falling at the rank of the change that is to be learnt?"""
    runs = [_planted(seed) for seed in SEEDS]
    errors = {rank: [run[rank][0] for run in runs] for rank in TRIED_RANKS}
    bounds = {rank: [run[rank][1] for run in runs] for rank in TRIED_RANKS}
    means = {rank: statistics.fmean(values) for rank, values in errors.items()}
    falls = {after: means[before] / means[after] for before, after in itertools.pairwise(TRIED_RANKS)}
    below = [rank for rank in TRIED_RANKS if rank < PLANTED_RANK]
    metrics = {
        **{
            f"rank_{rank}": {"error": spread(errors[rank]), "bound": statistics.fmean(bounds[rank])}
            for rank in TRIED_RANKS
        },
        "elbow": max(falls, key=falls.__getitem__),
        "fall_at_elbow": max(falls.values()),
        "largest_fall_after": max(fall for rank, fall in falls.items() if rank > PLANTED_RANK),
        "excess_over_bound": max(means[rank] / statistics.fmean(bounds[rank]) - 1 for rank in below),
    }
    figure = plots.planted_shift(errors, bounds, PLANTED_RANK, figures / "planted_shift.svg")
    return Record(
        objective="Does a LoRA's error stop falling at the rank of the change that it has to learn, and is it the "
        "least possible before?",
        setup=f"A frozen random matrix of {PLANTED_SHAPE[0]} × {PLANTED_SHAPE[1]}, examples by the same matrix plus "
        f"one of rank {PLANTED_RANK} with singular values 4, 3, 2, 1 and noise of {PLANTED_NOISE}; inputs white, "
        f"{PLANTED_EXAMPLES:,} of them; AdamW, {PLANTED_STEPS} steps on all, in float64. The "
        "error is |planted - learnt|² over |planted|²; the bound is what the singular values beyond the rank leave "
        "(README, 3.3).",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {"changed": f"rank {rank}", "error": means[rank], "Eckart-Young": statistics.fmean(bounds[rank])}
                for rank in TRIED_RANKS
            ]
        ),
        figure=figure,
        found="The error falls by a factor of {fall_at_elbow:.0f} from rank three to rank {elbow}, the planted one. "
        "Below it the LoRA is within {excess_over_bound:.1%} of the best matrix of its rank.",
        negative="A rank above the planted one buys nothing: what is left there is noise that is fitted, and it is "
        "{rank_16[error][mean]:.1e} at rank sixteen beside {rank_4[error][mean]:.1e} at rank four.",
    )


def _planted(seed: int) -> dict[int, tuple[float, float]]:
    """rank → (error of the LoRA, least error), as shares of the planted matrix's squared norm.

    In float64: an error of 1e-5 after 500 steps has no digits in float32 that two processors share.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns, generator=generator, dtype=torch.float64)

    m, n = PLANTED_SHAPE
    U, _ = torch.linalg.qr(normal(m, PLANTED_RANK))
    V, _ = torch.linalg.qr(normal(n, PLANTED_RANK))
    planted = (U * torch.arange(PLANTED_RANK, 0, -1)) @ V.mT
    base = nn.Linear(n, m, bias=False, dtype=torch.float64)
    base.weight.data = normal(m, n) * n**-0.5
    x = normal(PLANTED_EXAMPLES, n)
    y = x @ (base.weight + planted).mT.detach() + PLANTED_NOISE * normal(PLANTED_EXAMPLES, m)
    whole = float(planted.square().sum())
    found = {}
    for rank in TRIED_RANKS:
        layer = LoRALinear(base, rank, 1.0, "lora", torch.Generator().manual_seed(seed))
        layer.scale = 1.0
        optimizer = AdamW([layer.lora_A, layer.lora_B], lr=0.02)
        for step in range(PLANTED_STEPS):
            optimizer.param_groups[0]["lr"] = 0.02 * warmup_stable_decay(step, PLANTED_STEPS, 10, 0.7)
            loss = (layer(x) - y).square().mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        error = float((layer.change().detach() - planted).square().sum())
        found[rank] = (error / whole, least_error(planted, rank) / whole)
    return found


# --- rank and learning rate -------------------------------------------------------------------------------------------

RATED_RANKS = (4, 16, 64)
RATES = tuple(0.002 * 2**k for k in range(6))
SWEEP_STEPS, SWEEP_BATCH, SWEEP_GLANCE = 30, 4, 64
SCALINGS = {"lora": "α / r", "rslora": "α / √r"}


def rank_rate(figures: Path) -> Record:
    """Does the best learning rate move with the rank, under α / r and under α / √r?"""
    base = pretrained()
    losses: dict[str, dict[int, list[list[float]]]] = {name: {} for name in SCALINGS}  # by rank, seed, rate
    for name in SCALINGS:
        for rank in RATED_RANKS:
            losses[name][rank] = [[_swept(base, name, rank, rate, seed) for rate in RATES] for seed in SEEDS]
    best = {
        name: {rank: [vertex(RATES, row) for row in rows] for rank, rows in by_rank.items()}
        for name, by_rank in losses.items()
    }
    octaves = math.log2(RATED_RANKS[-1] / RATED_RANKS[0])
    shift = {
        name: [
            (last - first) / octaves for first, last in zip(rows[RATED_RANKS[0]], rows[RATED_RANKS[-1]], strict=True)
        ]
        for name, rows in best.items()
    }
    means = {
        name: {rank: [statistics.fmean(column) for column in zip(*rows, strict=True)] for rank, rows in by_rank.items()}
        for name, by_rank in losses.items()
    }
    first = RATED_RANKS[0]
    tuned_at = {name: min(range(len(RATES)), key=by_rank[first].__getitem__) for name, by_rank in means.items()}
    last = RATED_RANKS[-1]
    metrics = {
        "shift_per_doubling": {name: spread(values) for name, values in shift.items()},
        "difference": spread([a - b for a, b in zip(shift["lora"], shift["rslora"], strict=True)]),
        "best_rate": {
            name: {f"rank_{rank}": spread([2.0**v for v in values]) for rank, values in by_rank.items()}
            for name, by_rank in best.items()
        },
        "loss": {
            name: {f"rank_{rank}": spread([min(row) for row in rows]) for rank, rows in by_rank.items()}
            for name, by_rank in losses.items()
        },
        "price_of_the_rate_of_rank_4": {
            name: spread([row[tuned_at[name]] - min(row) for row in losses[name][last]]) for name in losses
        },
    }
    figure = plots.rank_rate(RATES, means, tuned_at, SCALINGS, figures / "rank_rate.svg")
    return Record(
        objective="Does the best learning rate of AdamW move with the rank of a LoRA, under α / r and under α / √r?",
        setup=f"{BASE}; LoRAs beside all matrices of the blocks, α = {SCALE:g}, tuned on prose for {SWEEP_STEPS} steps "
        f"of {SWEEP_BATCH} windows of {T} bytes, rates {RATES[0]} to {RATES[-1]} by factors of 2, loss on "
        f"{SWEEP_GLANCE} held-out windows. A best rate is the vertex of the parabola through the lowest three.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {"changed": f"{SCALINGS[name]}, rank {rank}"}
                | {f"nats at {rate:g}": loss for rate, loss in zip(RATES, row, strict=True)}
                for name, by_rank in means.items()
                for rank, row in by_rank.items()
            ]
        ),
        figure=figure,
        found="For each doubling of the rank the best rate moves by {shift_per_doubling[lora][mean]:.2f} octaves "
        "under α / r and by {shift_per_doubling[rslora][mean]:.2f} under α / √r. At rank sixty-four the rate of rank "
        "four costs {price_of_the_rate_of_rank_4[lora][mean]:.3f} and {price_of_the_rate_of_rank_4[rslora][mean]:.3f} "
        "nats.",
        negative="At its own best rate neither is better than the other: {loss[lora][rank_64][mean]:.3f} and "
        "{loss[rslora][rank_64][mean]:.3f} nats at rank sixty-four.",
    )


def _swept(base: GPT, scaling: str, rank: int, rate: float, seed: int) -> float:
    model = tuned(base, "prose", (LoRALinear, rank), rate, seed, SWEEP_STEPS, SWEEP_BATCH, SCALE, scaling)  # type: ignore[arg-type]
    return mean_nats(model, TASKS["prose"]().choose, T, SWEEP_GLANCE)


# --- what is gained, and what is forgotten ----------------------------------------------------------------------------

FULL_RATES = (0.00025, 0.0005, 0.001, 0.002, 0.004)
ADAPTER_RATES = (0.000625, 0.00125, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08)
SHORT_STEPS = (10, 20, 40)


def forgetting(figures: Path) -> Record:
    """How much of full fine-tuning's gain does a LoRA reach, and how much of the old text is forgotten for it?"""
    base = pretrained()
    found, rates = {}, {}
    for task in TASKS:
        rates[task] = {variant: _best_rate(base, task, variant) for variant in VARIANTS}
        found[task] = {
            variant: [_gained_and_lost(base, task, variant, rate, seed) for seed in SEEDS]
            for variant, rate in rates[task].items()
        }
    at_equal_gain = [
        _lost_at(gained, _short_runs(base, rates["prose"]["full"], seed))
        for seed, (gained, _) in zip(SEEDS, found["prose"]["rank_1"], strict=True)
    ]
    shares = {variant: trained_share(kind) for variant, kind in VARIANTS.items()}
    metrics = {
        task: {
            variant: {
                "gained": spread([gained for gained, _ in runs]),
                "lost": spread([lost for _, lost in runs]),
                "lost_per_gained": spread([lost / gained for gained, lost in runs]),
                "share_of_full": spread(
                    [gained / full for (gained, _), (full, _) in zip(runs, by_variant["full"], strict=True)]
                ),
                "rate": rates[task][variant],
            }
            for variant, runs in by_variant.items()
        }
        for task, by_variant in found.items()
    } | {
        "trained_share": shares,
        "full_lost_at_gain_of_rank_1": spread(at_equal_gain),
        "rates_at_an_edge": sum(
            rate in (tried[0], tried[-1])
            for by_variant in rates.values()
            for variant, rate in by_variant.items()
            for tried in [_rates(variant)]
        ),
    }
    figure = plots.forgetting(found, figures / "forgetting.svg")
    return Record(
        objective="How much of full fine-tuning's gain does a LoRA reach on a new format and on new knowledge, and "
        "what does either cost on the old text?",
        setup=f"{BASE}; tuned for {TUNE_STEPS} steps of {TUNE_BATCH} windows of {T} bytes, AdamW, on modules whose "
        "lines end with a semicolon (format) and on the topics of `help()` (prose). Gain: nats a byte on held-out "
        f"text of the new kind; loss: nats a byte on modules as they were; {GLANCE} windows each. The rate is the best "
        "one tried on other held-out text, seed 0, for each variant and task. All weights were also tuned for fewer "
        "steps on prose, and their loss read off, between runs, where their gain is that of rank one.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {
                    "changed": f"{task}, {_label(variant)}",
                    "trained": shares[variant],
                    "rate": rates[task][variant],
                    "gained, nats": statistics.fmean([gained for gained, _ in runs]),
                    "lost, nats": statistics.fmean([lost for _, lost in runs]),
                }
                for task, by_variant in found.items()
                for variant, runs in by_variant.items()
            ]
        ),
        figure=figure,
        found="With {trained_share[rank_1]:.1%} of the parameters a LoRA reaches "
        "{format[rank_1][share_of_full][mean]:.0%} of full fine-tuning's gain on the format and "
        "{prose[rank_1][share_of_full][mean]:.0%} on prose; rank sixteen reaches "
        "{prose[rank_16][share_of_full][mean]:.0%} there. On prose {prose[rank_1][lost][mean]:.3f} nats of the old "
        "text are lost at rank one, {prose[rank_16][lost][mean]:.3f} at rank sixteen, {prose[full][lost][mean]:.3f} "
        "by full fine-tuning, which has lost {full_lost_at_gain_of_rank_1[mean]:.3f} already when it has gained as "
        "much as rank one.",
        negative="On the format the order is the other way round: rank one loses {format[rank_1][lost][mean]:.3f} "
        "nats, full fine-tuning {format[full][lost][mean]:.3f} (part of it is no forgetting: a line cannot end in "
        "both ways). For each nat gained on prose rank one loses {prose[rank_1][lost_per_gained][mean]:.2f}, full "
        "fine-tuning {prose[full][lost_per_gained][mean]:.2f}. DoRA at rank four gains "
        "{prose[dora_4][gained][mean]:.3f} nats on prose beside {prose[rank_4][gained][mean]:.3f} of LoRA, with its "
        "magnitudes on top.",
    )


def _best_rate(base: GPT, task: str, variant: str) -> float:
    choose = TASKS[task]().choose

    def nats(rate: float) -> float:
        return mean_nats(tuned(base, task, VARIANTS[variant], rate, SEEDS[0]), choose, T, GLANCE)

    return min(_rates(variant), key=nats)


def _rates(variant: str) -> tuple[float, ...]:
    return FULL_RATES if variant == "full" else ADAPTER_RATES


def _gained_and_lost(
    base: GPT, task: str, variant: str, rate: float, seed: int, steps: int = TUNE_STEPS
) -> tuple[float, float]:
    model, report = tuned(base, task, VARIANTS[variant], rate, seed, steps), TASKS[task]().report
    gained = mean_nats(base, report, T, GLANCE) - mean_nats(model, report, T, GLANCE)
    return gained, validation_nats(model, windows=GLANCE) - validation_nats(base, windows=GLANCE)


def _short_runs(base: GPT, rate: float, seed: int) -> list[tuple[float, float]]:
    """(gained, lost) of full fine-tuning on prose, from nothing to all steps."""
    runs = [_gained_and_lost(base, "prose", "full", rate, seed, steps) for steps in (*SHORT_STEPS, TUNE_STEPS)]
    return [(0.0, 0.0), *runs]


def _lost_at(gained: float, runs: Sequence[tuple[float, float]]) -> float:
    """What was lost where so much was gained, between runs along a straight line."""
    gains, losses = zip(*sorted(runs), strict=True)
    return float(np.interp(gained, gains, losses))


def _label(variant: str) -> str:
    names = {"full": "all weights", "dora_4": "DoRA, rank 4", "full_far": "all, higher rate"}
    return names.get(variant, variant.replace("_", " "))


# --- intruder dimensions ----------------------------------------------------------------------------------------------

# the rates that `forgetting` chooses on prose, and one at which all weights move as far as those of a LoRA
COMPARED = {"full": 0.002, "full_far": 0.006, "rank_1": 0.02, "rank_4": 0.01, "rank_16": 0.005}
STRONGEST = 10
SIMILAR = 0.5


def intruders(figures: Path) -> Record:
    """Does a LoRA put in strong directions that the matrix did not have, where full fine-tuning bends what is there?"""
    base = pretrained()
    before = _block_matrices(base)
    counts: dict[str, list[float]] = {}
    ranks: dict[str, list[float]] = {}
    relative: dict[str, list[float]] = {}
    for variant, rate in COMPARED.items():
        per_seed = []
        for seed in SEEDS:
            after = _block_matrices(tuned(base, "prose", VARIANTS.get(variant), rate, seed))
            pairs = [(before[name], after[name]) for name in before]
            per_seed.append(
                (
                    statistics.fmean([intruder_dimensions(w, v, STRONGEST, SIMILAR) for w, v in pairs]),
                    statistics.fmean([effective_rank(v - w) for w, v in pairs]),
                    statistics.fmean([float((v - w).norm() / w.norm()) for w, v in pairs]),
                )
            )
        counts[variant], ranks[variant], relative[variant] = map(list, zip(*per_seed, strict=True))
    metrics = {
        variant: {
            "intruders": spread(counts[variant]),
            "effective_rank": spread(ranks[variant]),
            "relative_change": spread(relative[variant]),
            **({"of_its_rank": statistics.fmean(counts[variant]) / kind[1]} if (kind := VARIANTS.get(variant)) else {}),
        }
        for variant in COMPARED
    }
    figure = plots.intruders(
        counts, ranks, {variant: _label(variant) for variant in COMPARED}, figures / "intruders.svg"
    )
    return Record(
        objective="Does a LoRA put strong new directions into a matrix where full fine-tuning bends the ones that are "
        "there?",
        setup=f"{BASE}, tuned on prose as in `forgetting`. An intruder is one of the {STRONGEST} strongest left "
        f"singular vectors of a tuned matrix with a cosine below {SIMILAR} to every one of the base matrix; mean over "
        f"the {len(before)} matrices of the blocks.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {
                    "changed": _label(variant),
                    "rate": rate,
                    "intruders a matrix": statistics.fmean(counts[variant]),
                    "effective rank of the change": statistics.fmean(ranks[variant]),
                    "change over matrix": statistics.fmean(relative[variant]),
                }
                for variant, rate in COMPARED.items()
            ]
        ),
        figure=figure,
        found="After full fine-tuning a matrix has {full[intruders][mean]:.2f} intruders among its ten strongest "
        "directions, at rank one {rank_1[intruders][mean]:.2f}, at rank four {rank_4[intruders][mean]:.2f}, at rank "
        "sixteen {rank_16[intruders][mean]:.2f}: {rank_1[of_its_rank]:.0%}, {rank_4[of_its_rank]:.0%} and "
        "{rank_16[of_its_rank]:.0%} of the directions that it can bring. The change of full fine-tuning has an "
        "effective rank of {full[effective_rank][mean]:.0f}.",
        negative="A count says as much of the rate as of the method. Full fine-tuning at a higher rate, whose change "
        "is {full_far[relative_change][mean]:.2f} of the matrix (rank one {rank_1[relative_change][mean]:.2f}, rank "
        "sixteen {rank_16[relative_change][mean]:.2f}, full {full[relative_change][mean]:.2f}), has "
        "{full_far[intruders][mean]:.2f}.",
    )


@torch.no_grad()
def _block_matrices(model: GPT) -> dict[str, Tensor]:
    """Name → matrix, of all that adapters stand beside, adapters merged in."""
    adapted = dict(adapted_layers(model))
    if adapted:
        return {name: layer.tuned_weight().detach() for name, layer in adapted.items()}
    return {
        name: module.weight.detach()
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in TARGETS
    }


# --- four bits --------------------------------------------------------------------------------------------------------

BLOCKS = (16, 32, 64, 128, 256, 512, 1024)
LEVELS: dict[str, Callable[[], Tensor]] = {
    "nf4": normal_float_levels,
    "fp4": fp4_levels,
    "uniform": uniform_levels,
}
NORMAL_SHAPE = (512, 512)


def nf4(figures: Path) -> Record:
    """Which sixteen levels lose least, on normal numbers and on trained weights, and what does a model lose by them?"""
    normal = [torch.randn(NORMAL_SHAPE, generator=torch.Generator().manual_seed(seed)) for seed in SEEDS]
    base = pretrained()
    trained = [weight / weight.std() for weight in _block_matrices(base).values()]
    rmse = {name: {block: [_rmse([matrix], name, block) for matrix in normal] for block in BLOCKS} for name in LEVELS}
    on_weights = {name: _rmse(trained, name, BLOCK) for name in LEVELS}
    before = validation_nats(base, windows=GLANCE)
    lost = {name: _quantised_nats(base, name) - before for name in LEVELS}
    metrics = {
        "normal": {f"block_{block}": {name: spread(rmse[name][block]) for name in LEVELS} for block in BLOCKS},
        "double": spread([_rmse([matrix], "nf4", BLOCK, double=True) for matrix in normal]),
        "weights": on_weights | {"nf4_double": _rmse(trained, "nf4", BLOCK, double=True)},
        "nats_lost": lost,
        "bits": {"single": bits_per_parameter(double=False), "double": bits_per_parameter()},
        "uniform_over_nf4": spread([a / b for a, b in zip(rmse["uniform"][BLOCK], rmse["nf4"][BLOCK], strict=True)]),
    }
    figure = plots.nf4(rmse, BLOCKS, BLOCK, figures / "nf4.svg")
    return Record(
        objective="Which sixteen levels lose least of normal numbers and of trained weights, and what does a model "
        "lose by them?",
        setup=f"Matrices of {NORMAL_SHAPE[0]} × {NORMAL_SHAPE[1]} numbers from N(0, 1), three seeds, in blocks of "
        f"{BLOCKS[0]} to {BLOCKS[-1]} over their largest number; the matrices of the blocks of one trained model, each "
        f"over its standard deviation, in blocks of {BLOCK}. {BASE}; nats on {GLANCE} windows of its validation text.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {
                    "changed": name,
                    "RMSE, normal numbers": statistics.fmean(rmse[name][BLOCK]),
                    "RMSE, trained weights": on_weights[name],
                    "nats lost by the model": lost[name],
                }
                for name in LEVELS
            ]
        ),
        figure=figure,
        found="In blocks of sixty-four NF4 is off by {normal[block_64][nf4][mean]:.4f} standard deviations, FP4 by "
        "{normal[block_64][fp4][mean]:.4f}, uniform levels by {normal[block_64][uniform][mean]:.4f}; on trained "
        "weights by {weights[nf4]:.4f}, {weights[fp4]:.4f} and {weights[uniform]:.4f}. Scales in eight bits change "
        "the error from {normal[block_64][nf4][mean]:.5f} to {double[mean]:.5f}, at {bits[double]:.3f} bits a number "
        "instead of {bits[single]:.1f}.",
        negative="The model does not follow that order (one model, one text): it loses {nats_lost[nf4]:.4f} nats a "
        "byte by NF4, {nats_lost[fp4]:.4f} by FP4, {nats_lost[uniform]:.4f} by uniform levels. And in blocks of "
        "sixteen, where no number is far out, uniform levels are off by {normal[block_16][uniform][mean]:.4f} and NF4 "
        "by {normal[block_16][nf4][mean]:.4f}.",
    )


def _rmse(matrices: Sequence[Tensor], name: str, block: int, double: bool = False) -> float:
    squares = [
        (QuantisedMatrix(matrix, LEVELS[name](), block, double).back() - matrix).square().flatten()
        for matrix in matrices
    ]
    return float(torch.cat(squares).mean().sqrt())


@torch.no_grad()
def _quantised_nats(base: GPT, name: str) -> float:
    matrices = _block_matrices(base)
    kept = {key: matrix.clone() for key, matrix in matrices.items()}
    for key, matrix in matrices.items():
        matrix.copy_(QuantisedMatrix(kept[key], LEVELS[name](), double=False).back())
    nats = validation_nats(base, windows=GLANCE)
    for key, matrix in matrices.items():
        matrix.copy_(kept[key])
    return nats


# --- preferences ------------------------------------------------------------------------------------------------------

PAIRS, FEW_PAIRS, JUDGED = 2048, 256, 256
DRAWS = (2, 4, 8)
# name → β (None: the preferred answers alone, as in ordinary fine-tuning) and pairs
PREFERRED: dict[str, tuple[float | None, int]] = {
    "sft": (None, PAIRS),
    "beta_1": (1.0, PAIRS),
    "beta_0_3": (0.3, PAIRS),
    "beta_0_1": (0.1, PAIRS),
    "few": (0.3, FEW_PAIRS),
}


def preferences(figures: Path) -> Record:
    """How much reward does DPO reach for how far from the base, and what does drawing several answers reach?"""
    base = pretrained()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in PREFERRED}  # a seed: (KL, reward gained)
    moved: dict[str, list[tuple[float, float]]] = {name: [] for name in PREFERRED}
    drawn: dict[int, list[float]] = {n: [] for n in DRAWS}
    for seed in SEEDS:
        pairs, taste = draw_pairs(base, PAIRS, seed)
        before = judged(base, base, taste, pairs, JUDGED, seed).reward
        for name, (beta, count) in PREFERRED.items():
            tuned_model = tuned_by_preferences(base, pairs.first(count), beta, seed)
            outcome = judged(tuned_model, base, taste, pairs, JUDGED, seed)
            found[name].append((outcome.kl, outcome.reward - before))
            moved[name].append(outcome.moved)
        for n in DRAWS:
            drawn[n].append(best_of(base, taste, n, JUDGED, seed) - before)
    metrics = {
        **{
            name: {
                "kl": spread([kl for kl, _ in found[name]]),
                "reward": spread([reward for _, reward in found[name]]),
                "preferred_moved": spread([chosen for chosen, _ in moved[name]]),
                "other_moved": spread([other for _, other in moved[name]]),
                **({} if beta is None else {"beta": beta}),
            }
            for name, (beta, _) in PREFERRED.items()
        },
        "best_of": {f"n_{n}": {"kl": best_of_n_kl(n), "reward": spread(drawn[n])} for n in DRAWS},
        "preferred_lost": -statistics.fmean([chosen for chosen, _ in moved["beta_0_1"]]),
        "other_lost": -statistics.fmean([other for _, other in moved["beta_0_1"]]),
        # (7.1) over the base's, at the β that each policy was tuned with, and what the best number of draws has there
        "objective": {
            name: {
                "dpo": spread([reward - beta * kl for kl, reward in found[name]]),
                "best_of": max(statistics.fmean(drawn[n]) - beta * best_of_n_kl(n) for n in DRAWS),
            }
            for name, (beta, _) in PREFERRED.items()
            if beta is not None
        },
        "kl_ratio": spread([a / b for (a, _), (b, _) in zip(found["beta_0_1"], found["beta_1"], strict=True)]),
    }
    labels = {
        name: "preferred answers alone" if beta is None else f"DPO, β = {beta:g}" + (", few pairs" * (count < PAIRS))
        for name, (beta, count) in PREFERRED.items()
    }
    figure = plots.preferences(found, {n: drawn[n] for n in DRAWS}, labels, figures / "preferences.svg")
    return Record(
        objective="How much more reward does DPO reach for how far from the base, beside the best of several draws?",
        setup=f"{BASE}. Answers of {T - START} bytes to {START} of a prompt; the reward is the share of letters, in "
        f"standard deviations of the base's answers; of two answers one is preferred by Bradley and Terry's law. "
        f"{PAIRS:,} pairs on prompts of the training modules ({FEW_PAIRS} where few), LoRA of rank {RANK}, AdamW at "
        f"{RATE}, {STEPS} steps of {BATCH} pairs: one pass, which does not reach the minimum. Judged on {JUDGED} "
        "prompts of validation modules: reward gained over the base's answers, and KL from the base, summed over the "
        "vocabulary at each place of the answers drawn. The best of n draws has at most the KL of the formula (README, "
        "7.8), as rewards tie. Rate and number of pairs were chosen on seed 0.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                *(
                    {
                        "changed": labels[name],
                        "KL, nats an answer": statistics.fmean([kl for kl, _ in found[name]]),
                        "reward gained": statistics.fmean([reward for _, reward in found[name]]),
                        "ln p of preferred answers": statistics.fmean([chosen for chosen, _ in moved[name]]),
                        "of the others": statistics.fmean([other for _, other in moved[name]]),
                    }
                    for name in PREFERRED
                ),
                *(
                    {
                        "changed": f"best of {n} draws",
                        "KL, nats an answer": best_of_n_kl(n),
                        "reward gained": statistics.fmean(drawn[n]),
                    }
                    for n in DRAWS
                ),
            ]
        ),
        figure=figure,
        found="With β = {beta_1[beta]:g} answers gain {beta_1[reward][mean]:.2f} standard deviations of reward at "
        "{beta_1[kl][mean]:.2f} nats from the base, with {beta_0_3[beta]:g} {beta_0_3[reward][mean]:.2f} at "
        "{beta_0_3[kl][mean]:.2f}, with {beta_0_1[beta]:g} {beta_0_1[reward][mean]:.2f} at "
        "{beta_0_1[kl][mean]:.2f}. Tuning on "
        "the preferred answers alone gains {sft[reward][mean]:.2f}.",
        negative="The best of four draws from the base, which nobody has tuned, gains "
        "{best_of[n_4][reward][mean]:.2f} at {best_of[n_4][kl]:.2f} nats. By what both are after, reward less β times "
        "KL, one pass of DPO has {objective[beta_1][dpo][mean]:.2f}, {objective[beta_0_3][dpo][mean]:.2f} and "
        "{objective[beta_0_1][dpo][mean]:.2f} for the three β, the best number of draws "
        "{objective[beta_1][best_of]:.2f}, {objective[beta_0_3][best_of]:.2f} and {objective[beta_0_1][best_of]:.2f}. "
        "With an eighth of the pairs, each seen eight times, β = {few[beta]:g} ends at {few[kl][mean]:.2f} nats for "
        "{few[reward][mean]:.2f}. With β = {beta_0_1[beta]:g} the preferred answers too lose {preferred_lost:.1f} nats "
        "of ln p, the others {other_lost:.1f}: over its own answers the base loses to every other policy on average, "
        "to the best one as well.",
    )
