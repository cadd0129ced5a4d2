"""What serving costs and what a gate sees: batches, waiting, long chats, planted losses, weights in fewer bits."""

import functools
import random
import statistics
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.capstone import plots
from agents.capstone.batching_law import (
    expected_longest,
    fit,
    most_speedup,
    speedup,
    step_seconds,
    steps_continuous,
    steps_static,
)
from agents.capstone.block_quantization import BLOCK, bits_per_weight, dequantize, quantize, relative_noise
from agents.capstone.engine import Engine, Request
from agents.capstone.gate import Spec, compare
from agents.capstone.gate_power import power, smallest_loss, unpaired_power
from agents.capstone.history_cost import read_anew, read_with_cache
from agents.capstone.quantiles import quantile
from agents.capstone.queueing import batch_rate, birth_death, mean_seconds, mean_wait_one_row, serve, sojourn_quantile
from agents.capstone.shared_rows import SharedRows
from agents.multi_agent.mcnemar import paired
from agents.tool_agent import small_agent
from agents.tool_agent.small_training import kept
from llmm.evaluation import Row
from llmm.ladder.records import Record, round_metrics, spread
from llmm.transformers.gpt import GPT, GPTConfig

SEEDS = [0, 1, 2]
SIZES = GPTConfig(2048, n_layer=4, n_head=3, n_kv_head=3, d_model=192, d_ff=512, context_len=1024)  # the pipeline's
MODEL = "A model of the pipeline's size with random weights, since time does not depend on what a model knows"


@functools.cache
def model() -> GPT:
    """See MODEL."""
    made = GPT(SIZES)
    made.init_weights(torch.Generator().manual_seed(0))
    return made.eval()


def _words(number: int, rng: random.Random) -> list[int]:
    return [rng.randrange(SIZES.vocab_size) for _ in range(number)]


# --- batches ----------------------------------------------------------------------------------------------------------

ROWS = (1, 2, 4, 8, 16, 32)
ANSWERS, STOP = 128, 1 / 32  # answers, and the probability that a token is the last


def batch_sizes(figures: Path) -> Record:
    """Steps and tokens a second against the number of rows, beside whole batches and the law of batches."""
    torch.set_num_threads(1)
    steps: dict[str, dict[int, list[float]]] = {way: {rows: [] for rows in ROWS} for way in ("whole", "continuous")}
    perfect: dict[int, list[float]] = {rows: [] for rows in ROWS}
    tokens_a_second: dict[int, list[float]] = {rows: [] for rows in ROWS}
    off = []
    for seed in SEEDS:
        lengths = [1 + int(length) for length in np.random.default_rng(seed).geometric(STOP, ANSWERS)]
        decoded = [length - 1 for length in lengths]  # the first token comes with the reading
        for rows in ROWS:
            took, seconds = _engine_steps(rows, lengths, seed)
            off.append(abs(took - steps_continuous(decoded, rows)))
            steps["continuous"][rows].append(steps_continuous(decoded, rows))
            steps["whole"][rows].append(steps_static(decoded, rows))
            perfect[rows].append(sum(decoded) / rows)
            tokens_a_second[rows].append(sum(lengths) / seconds)
    a_step, a_reading = {rows: _step_seconds(rows) for rows in ROWS}, _reading_seconds()
    fixed, per_row = fit(list(a_step), list(a_step.values()))
    predicted = {
        rows: statistics.fmean(
            (ANSWERS + used) / (steps_ * fixed + used * per_row + ANSWERS * a_reading)
            for used, steps_ in zip(perfect[1], steps["continuous"][rows], strict=True)
        )
        for rows in ROWS
    }
    ratios = {
        rows: spread([a / b for a, b in zip(steps["whole"][rows], steps["continuous"][rows], strict=True)])
        for rows in ROWS
    }
    metrics = {
        "engine_off_schedule": max(off),
        "steps": {way: {f"r_{rows}": spread(of[rows]) for rows in ROWS} for way, of in steps.items()},
        "whole_over_continuous": {f"r_{rows}": ratios[rows] for rows in ROWS},
        "whole_over_perfect_predicted": {f"r_{rows}": STOP * expected_longest(rows, STOP) for rows in ROWS},
        "idle": {
            f"r_{rows}": spread([1 - p / c for p, c in zip(perfect[rows], steps["continuous"][rows], strict=True)])
            for rows in ROWS
        },
    }
    medians = {rows: statistics.median(of) for rows, of in tokens_a_second.items()}
    return Record(
        objective="Many ask at once. What is gained by giving rows out again at every step, and what by more rows?",
        setup=f"{MODEL}. {ANSWERS} answers of geometric length, {1 / STOP:.0f} tokens on average and one more, prompts "
        "of 8 tokens, all there from the beginning; 1 to 32 rows. Steps of the engine, of the schedule, and of whole "
        "batches in the order of arrival; tokens a second on one thread, and seconds of a step of so many rows of "
        "33 to 64 tokens, to which the law a + b B is fitted; the line is that law over the steps of the schedule, "
        "with the seconds of reading each prompt alone.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {
                    "changed": f"{rows} rows",
                    "steps, whole batches": statistics.fmean(steps["whole"][rows]),
                    "steps, continuous": statistics.fmean(steps["continuous"][rows]),
                    "steps, no row ever idle": statistics.fmean(perfect[rows]),
                }
                for rows in ROWS
            ]
        ),
        figure=plots.batch_sizes(steps, perfect, tokens_a_second, predicted, figures / "batch_sizes.svg"),
        found="With sixteen rows whole batches take {whole_over_continuous[r_16][mean]:.2f} times as many steps as "
        "continuous ones, with four {whole_over_continuous[r_4][mean]:.2f} times; the longest of sixteen answers is "
        "{whole_over_perfect_predicted[r_16]:.2f} times as long as the mean one. Of the rows that a step could have, "
        "{idle[r_16][mean]:.1%} are empty with sixteen, all of them at the end. The engine takes exactly the steps of "
        "the schedule.",
        negative="Steps of more rows take longer, so fewer steps are not as much less time: the figure has both, and "
        "the seconds are this machine's.",
        timings={
            "tokens_per_second": {f"r_{rows}": round(median, 1) for rows, median in medians.items()},
            "ratio_to_one_row": {f"r_{rows}": round(median / medians[1], 3) for rows, median in medians.items()},
            "step_ms": {f"r_{rows}": round(1e3 * seconds_, 4) for rows, seconds_ in a_step.items()},
            "reading_ms": round(1e3 * a_reading, 4),
            "predicted_tokens_per_second": {f"r_{rows}": round(value, 1) for rows, value in predicted.items()},
            "fixed_ms": round(1e3 * fixed, 4),
            "per_row_ms": round(1e3 * per_row, 4),
            "law_ratio": {f"r_{rows}": round(speedup(rows, fixed, per_row), 3) for rows in ROWS},
            "law_limit": round(most_speedup(fixed, per_row), 3),
        },
    )


def _engine_steps(rows: int, lengths: Sequence[int], seed: int) -> tuple[int, float]:
    """Steps and seconds that the engine takes for answers of these lengths, all of them there at the beginning."""
    rng = random.Random(seed)
    held, go = threading.Event(), threading.Event()

    def wait(rows: Sequence[int], generated: list[list[int]], logits: Tensor) -> Tensor:
        held.set()
        go.wait()
        return logits

    with Engine(model(), rows, most_waiting=len(lengths) + 1, kept_tokens=0) as engine:
        engine.submit(Request([0], 1, processor=wait))  # nobody joins until all have come
        held.wait()
        made = [engine.submit(Request(_words(8, rng), length)) for length in lengths]
        started = time.perf_counter()
        go.set()
        for generation in made:
            generation.result()
        return engine.steps, time.perf_counter() - started


@torch.inference_mode()
def _step_seconds(rows: int) -> float:
    """Median seconds of a step of so many rows, of 33 to 64 tokens each before the first one."""
    rng, shared, measured = random.Random(0), SharedRows(model(), rows, 0), []
    for row in range(rows):
        shared.join(_words(64 - row, rng))
    newest = torch.zeros(rows, dtype=torch.long)
    for _ in range(60):
        started = time.perf_counter()
        shared.step(newest)
        measured.append(time.perf_counter() - started)
    return statistics.median(measured)


@torch.inference_mode()
def _reading_seconds() -> float:
    """Median seconds of reading a prompt of 8 tokens."""
    rng, shared, measured = random.Random(0), SharedRows(model(), 1, 0), []
    for _ in range(60):
        prompt = _words(8, rng)
        started = time.perf_counter()
        shared.join(prompt)
        measured.append(time.perf_counter() - started)
        shared.leave(0, prompt)
    return statistics.median(measured)


# --- waiting ----------------------------------------------------------------------------------------------------------

FIXED, PER_ROW, TOKENS = 0.6e-3, 0.2e-3, 50  # seconds of a step for all and for each row, tokens of a mean answer
LOADS = (0.2, 0.4, 0.6, 0.8, 0.9)
REQUESTS, MANY = 20_000, 16


def waiting(figures: Path) -> Record:
    """Seconds from question to end under a Poisson stream, one row and sixteen, beside the laws."""
    capacity = {rows: batch_rate(rows, FIXED, PER_ROW, TOKENS)(10**6) for rows in (1, MANY)}
    found: dict[int, dict[float, dict[str, list[float]]]] = {
        rows: {load: {"mean": [], "p50": [], "p95": []} for load in LOADS} for rows in capacity
    }
    for seed in SEEDS:
        for rows, most in capacity.items():
            for load in LOADS:
                seconds = _served(rows, load * most, seed)
                found[rows][load]["mean"].append(float(seconds.mean()))
                found[rows][load]["p50"].append(quantile(seconds.tolist(), 0.5))
                found[rows][load]["p95"].append(quantile(seconds.tolist(), 0.95))
    law = {rows: {load: _mean_by_law(rows, load * most) for load in LOADS} for rows, most in capacity.items()}
    errors = {
        rows: {load: statistics.fmean(of["mean"]) / law[rows][load] - 1 for load, of in by_load.items()}
        for rows, by_load in found.items()
    }
    service = 1 / (TOKENS * step_seconds(1, FIXED, PER_ROW))
    p95_law = {load: sojourn_quantile(0.95, load * service, service) for load in LOADS}
    p95_errors = [statistics.fmean(found[1][load]["p95"]) / p95_law[load] - 1 for load in LOADS]
    together = [quantile(_served(MANY, 0.9 * capacity[1], seed).tolist(), 0.95) for seed in SEEDS]
    metrics = {
        "capacity": {f"r_{rows}": most for rows, most in capacity.items()},
        "seconds": {
            f"r_{rows}": {
                _load(load): {name: spread(values) for name, values in of.items()} for load, of in by_load.items()
            }
            for rows, by_load in found.items()
        },
        "law": {f"r_{rows}": {_load(load): value for load, value in of.items()} for rows, of in law.items()},
        "largest_error": max(abs(error) for of in errors.values() for load, error in of.items() if load <= 0.8),
        "error_near_full": {f"r_{rows}": errors[rows][0.9] for rows in errors},
        "p95_law_largest_error": max(map(abs, p95_errors)),
        "p95_over_mean": {
            f"r_{rows}": {
                _load(load): statistics.fmean(a / b for a, b in zip(of["p95"], of["mean"], strict=True))
                for load, of in by_load.items()
            }
            for rows, by_load in found.items()
        },
        "one_row_near_full_p95_over_sixteen": spread(
            [one / many for one, many in zip(found[1][0.9]["p95"], together, strict=True)]
        ),
    }
    return Record(
        objective="How long does one wait, and can it be said beforehand?",
        setup=f"A server on a virtual clock: a step of B rows takes {1e3 * FIXED:.1f} + {1e3 * PER_ROW:.1f} B ms, "
        f"answers have a geometric number of tokens, {TOKENS} on average, {REQUESTS:,} questions come as a Poisson "
        "stream at the given share of what the server can do; the first tenth of them is not counted. One row and "
        "sixteen. Law: Pollaczek and Khinchine for one row, the birth-death chain for sixteen, p95 of one row as if "
        "lengths were exponential.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {
                    "changed": f"{rows} row{'s' * (rows > 1)}, load {load}",
                    "mean": statistics.fmean(of["mean"]),
                    "law": law[rows][load],
                    "p50": statistics.fmean(of["p50"]),
                    "p95": statistics.fmean(of["p95"]),
                }
                for rows, by_load in found.items()
                for load, of in by_load.items()
            ]
        ),
        figure=plots.waiting(capacity, found, law, figures / "waiting.svg"),
        found="One row bears {capacity[r_1]:.0f} questions a second and sixteen {capacity[r_16]:.0f}. Up to a load of "
        "four fifths the laws give the mean time from question to end to {largest_error:.1%}. At nine tenths of what "
        "one row can do half are through within {seconds[r_1][l_0_9][p50][mean]:.2f} s, and one of twenty takes longer "
        "than {seconds[r_1][l_0_9][p95][mean]:.2f} s; with sixteen rows the same stream's p95 is "
        "{one_row_near_full_p95_over_sixteen[mean]:.1f} times smaller.",
        negative="Near full load seeds differ much ({seconds[r_1][l_0_9][p95][sd]:.2f} s in the p95 of one row): "
        "twenty thousand requests are few there, since a queue remembers. Reading a prompt costs nothing on this "
        "clock; `llmm bench serve` measures a real server.",
    )


def _served(rows: int, rate: float, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(1 / rate, REQUESTS)).tolist()
    lengths = rng.geometric(1 / TOKENS, REQUESTS).tolist()
    return serve(arrivals, lengths, rows, FIXED, PER_ROW)[REQUESTS // 10 :]


def _mean_by_law(rows: int, rate: float) -> float:
    if rows > 1:
        return mean_seconds(birth_death(rate, batch_rate(rows, FIXED, PER_ROW, TOKENS), 5000), rate)
    one = step_seconds(1, FIXED, PER_ROW)
    second_moment = (2 * TOKENS**2 - TOKENS) * one**2  # of a geometric number of steps
    return TOKENS * one + mean_wait_one_row(rate, TOKENS * one, second_moment)


def _load(load: float) -> str:
    return f"l_{load}".replace(".", "_")


# --- long chats -------------------------------------------------------------------------------------------------------

TURNS, SAID, ANSWERED = 14, 24, 40


def histories(figures: Path) -> Record:
    """Tokens read and time to the first word against the length of a chat, with the memory of prefixes and without."""
    torch.set_num_threads(1)
    read: dict[str, list[int]] = {}
    first: dict[str, list[float]] = {}
    for way, kept_tokens in (("anew", 0), ("remembered", 1 << 14)):
        runs = [_chat(kept_tokens, seed) for seed in range(5)]
        read[way] = np.cumsum(runs[0][0]).tolist()
        first[way] = [statistics.median(of_turn) for of_turn in zip(*(seconds for _, seconds in runs), strict=True)]
    expected = {
        "anew": [read_anew(turn, SAID, ANSWERED) for turn in range(1, TURNS + 1)],
        "remembered": [read_with_cache(turn, SAID) for turn in range(1, TURNS + 1)],
    }
    metrics = {
        "read": read,
        "off_formula": max(abs(a - b) for way, of in read.items() for a, b in zip(of, expected[way], strict=True)),
        "ratio_at_the_end": read["anew"][-1] / read["remembered"][-1],
        "last_prompt": {way: of[-1] - of[-2] for way, of in read.items()},
    }
    return Record(
        objective="A chat sends its whole history with every message. What does it cost to read it again?",
        setup=f"{MODEL}. A chat of {TURNS} turns through the engine: messages of {SAID} tokens, answers of {ANSWERED}; "
        "with the memory of prefixes and without. Tokens read are counted; the time to the first token of each answer "
        "is the median of five chats on one thread.",
        metrics=round_metrics(metrics),
        seeds=[],
        ablation=[
            {"changed": f"{turn} turns", "anew": read["anew"][turn - 1], "remembered": read["remembered"][turn - 1]}
            for turn in (1, 2, 4, 8, TURNS)
        ],
        figure=plots.histories(read, first, figures / "histories.svg"),
        found=f"After {TURNS} turns the chat has read " + "{read[anew][13]:,} tokens, and {read[remembered][13]:,} "
        "where what was read is remembered, {ratio_at_the_end:.0f} times fewer: a square and a line. The last message "
        "alone brings {last_prompt[anew]} tokens, of which {last_prompt[remembered]} are new.",
        negative="Remembering takes memory for every token of every chat that may go on. Whoever is not remembered "
        "any more is read anew, and nothing tells the client.",
        timings={
            "first_token_ms": {way: [round(1e3 * value, 3) for value in of] for way, of in first.items()},
            "ratio_at_the_end": round(first["anew"][-1] / first["remembered"][-1], 2),
        },
    )


def _chat(kept_tokens: int, seed: int) -> tuple[list[int], list[float]]:
    """Tokens read and seconds to the first token, turn by turn."""
    rng, history, read, first = random.Random(seed), list[int](), list[int](), list[float]()
    with Engine(model(), 1, kept_tokens=kept_tokens) as engine:
        for _ in range(TURNS):
            history += _words(SAID, rng)
            started = time.perf_counter()
            generation = engine.submit(Request(history, ANSWERED))
            token = next(iter(generation))
            first.append(time.perf_counter() - started)
            history = [*history, token, *generation.result()]
            read.append(len(generation.request.prompt) - generation.cached)
    return read, first


# --- planted losses ---------------------------------------------------------------------------------------------------

ITEMS, GATES, FIGURES = 200, 300, 19
LEVEL, WON, RIGHT = 0.05, 0.03, 0.8
LOSSES = (0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.13, 0.16, 0.2)


class InMemory:
    """Results of one suite whose items are right or wrong."""

    where = "memory"

    def __init__(self, right: Sequence[bool]) -> None:
        self.right = right

    def metrics(self, name: str) -> dict[str, Any]:
        """See `Results`."""
        return {"rate": statistics.fmean(self.right)}

    def rows(self, name: str) -> list[Row] | None:
        """See `Results`."""
        return [{"suite": "s", "id": str(i), "right": bool(right)} for i, right in enumerate(self.right)]


def regressions(figures: Path) -> Record:
    """How often the gate catches a planted loss, against its size; and how often it fails where nothing got worse."""
    caught: dict[int, dict[float, list[float]]] = {n: {loss: [] for loss in LOSSES} for n in (1, FIGURES)}
    alarms = []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        for of_figures, by_loss in caught.items():
            for loss in LOSSES:
                by_loss[loss].append(statistics.fmean(_fails(_spec(of_figures), loss, rng) for _ in range(GATES)))
        alarms.append(
            statistics.fmean(any(_fails(_spec(FIGURES), 0.0, rng) for _ in range(FIGURES)) for _ in range(GATES))
        )
    predicted = {n: {loss: power(ITEMS, WON + loss, WON, LEVEL / n) for loss in LOSSES} for n in caught}
    unpaired = {loss: unpaired_power(ITEMS, RIGHT, RIGHT - loss, LEVEL / FIGURES) for loss in LOSSES}
    metrics = {
        "caught": {f"of_{n}": {_loss(loss): spread(values) for loss, values in of.items()} for n, of in caught.items()},
        "power": {f"of_{n}": {_loss(loss): value for loss, value in of.items()} for n, of in predicted.items()},
        "unpaired": {_loss(loss): value for loss, value in unpaired.items()},
        "largest_error": max(
            abs(statistics.fmean(values) - predicted[n][loss])
            for n, of in caught.items()
            for loss, values in of.items()
        ),
        "false_alarms": spread(alarms),
        "smallest_loss": {f"n_{n}": smallest_loss(n, WON, LEVEL / FIGURES) for n in (50, 200, 1000)},
    }
    return Record(
        objective="A build loses some of what the one before could do. How often does the gate see it?",
        setup=f"{ITEMS} items, {RIGHT:.0%} right before; a loss of the given share of all items, and {WON:.0%} won and "
        f"{WON:.0%} lost besides, at random. {GATES} gates a seed, at a level of {LEVEL} for one figure and of {LEVEL} "
        f"shared by {FIGURES}; beside the power of the exact test, and that of a comparison of two rates. False "
        f"alarms: gates over {FIGURES} figures of which none got worse.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {
                    "changed": f"loss of {loss:.0%}",
                    "caught, one figure": statistics.fmean(caught[1][loss]),
                    f"caught, one of {FIGURES}": statistics.fmean(caught[FIGURES][loss]),
                    "power": predicted[FIGURES][loss],
                    "power, unpaired": unpaired[loss],
                }
                for loss in LOSSES
            ]
        ),
        figure=plots.regressions(caught, predicted, unpaired, figures / "regressions.svg"),
        found="A loss of a tenth of the items is caught in {caught[of_1][loss_0_1][mean]:.0%} of the gates with one "
        "figure and in {caught[of_19][loss_0_1][mean]:.0%} of those with nineteen; a comparison of the two rates "
        "would see it in {unpaired[loss_0_1]:.0%}. Four of five gates catch a loss of {smallest_loss[n_200]:.1%} of "
        "200 items, of {smallest_loss[n_50]:.1%} of 50 and of {smallest_loss[n_1000]:.1%} of 1,000. Where nothing got "
        "worse {false_alarms[mean]:.1%} of the gates fail.",
        negative="Losses below a twentieth pass more often than not: {caught[of_19][loss_0_04][mean]:.0%} of those of "
        "4% are caught. Who wants to see them needs more items, not another test.",
    )


def _spec(of_figures: int) -> Spec:
    figure = {"name": "f", "file": "e", "metric": "rate", "better": "higher", "tolerance": 0.0}
    return Spec.model_validate(
        {
            "level": LEVEL / of_figures,
            "bootstrap_samples": 100,
            "seed": 0,
            "identity": {},
            "figures": [{**figure, "suite": "s", "item": "right"}],
        }
    )


def _fails(spec: Spec, loss: float, rng: np.random.Generator) -> bool:
    """Whether the gate fails for a build that lost so much, and won and lost some at random."""
    drawn, before = rng.random(ITEMS), rng.random(ITEMS) < RIGHT
    lost, won = drawn < WON + loss, (WON + loss <= drawn) & (drawn < 2 * WON + loss)
    before = (before | lost) & ~won
    after = (before & ~lost) | won
    return bool(compare(InMemory(before.tolist()), InMemory(after.tolist()), spec).regressed)


def _loss(loss: float) -> str:
    return f"loss_{loss}".replace(".", "_")


# --- fewer bits -------------------------------------------------------------------------------------------------------

BITS = (8, 6, 5, 4, 3, 2)
TASKS = 200


def fewer_bits(figures: Path) -> Record:
    """Exact calls of the small agent with its matrices in 8 to 2 bits a weight, and the noise beside the law."""
    exact: dict[int, list[float]] = {bits: [] for bits in BITS}
    full, noise = [], {bits: list[float]() for bits in BITS}
    lost: dict[int, list[float]] = {bits: [] for bits in BITS}
    rights: dict[int, list[bool]] = {bits: [] for bits in (32, *BITS)}
    for seed in SEEDS:
        trained, asked = _agent(seed), small_agent.mixed_jobs(TASKS, seed)
        right = _right(trained, asked)
        full.append(statistics.fmean(right))
        rights[32] += right
        for bits in BITS:
            rounded, off = _in_bits(trained, bits)
            now = _right(rounded, asked)
            exact[bits].append(statistics.fmean(now))
            lost[bits].append(full[-1] - exact[bits][-1])
            rights[bits] += now
            noise[bits].append(off)
    against = {bits: paired(rights[32], rights[bits]) for bits in BITS}
    metrics = {
        "full": spread(full),
        "exact": {f"b_{bits}": spread(values) for bits, values in exact.items()},
        "lost": {f"b_{bits}": spread(values) for bits, values in lost.items()},
        "p_value": {f"b_{bits}": found.p_value for bits, found in against.items()},
        "calls_lost": {f"b_{bits}": found.only_first for bits, found in against.items()},
        "calls_won": {f"b_{bits}": found.only_second for bits, found in against.items()},
        "calls": len(rights[32]),
        "noise": {f"b_{bits}": spread(values) for bits, values in noise.items()},
        "noise_of_normal_weights": {f"b_{bits}": relative_noise(bits) for bits in BITS},
        "size": {f"b_{bits}": bits_per_weight(bits) / 32 for bits in BITS},
    }
    return Record(
        objective="A model is handed out in fewer bits. From where on is it another one?",
        setup=f"The small tool agent of M12, trained from nothing for {small_agent.STEPS:,} steps; its matrices and "
        f"embeddings rounded in blocks of {BLOCK} that share a scale, 8 to 2 bits; {TASKS} held-out tasks, exact "
        "calls under the grammar. Noise: root of the mean squared error over that of the weights, all matrices "
        "together, beside that of normal weights. McNemar's exact test over all seeds against full precision.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {
                    "changed": f"{bits} bits",
                    "exact": statistics.fmean(exact[bits]),
                    "noise": statistics.fmean(noise[bits]),
                    "noise, normal weights": relative_noise(bits),
                    "p": against[bits].p_value,
                    "lost": against[bits].only_first,
                    "won": against[bits].only_second,
                }
                for bits in BITS
            ]
        ),
        figure=plots.fewer_bits(full, exact, noise, figures / "fewer_bits.svg"),
        found="In full precision {full[mean]:.1%} of the calls are exact, in 8 bits {exact[b_8][mean]:.1%}, in 4 "
        "{exact[b_4][mean]:.1%}, in 3 {exact[b_3][mean]:.1%} and in 2 {exact[b_2][mean]:.1%}. In 4 bits "
        "{calls_lost[b_4]} of {calls} calls are lost and {calls_won[b_4]} won. Noise of trained weights in 4 bits is "
        "{noise[b_4][mean]:.3f}, that of normal ones {noise_of_normal_weights[b_4]:.3f}.",
        negative="Rounding to the nearest only: nothing is trained or chosen to make up for what rounding does, as "
        "better ways to so few bits do.",
    )


def _agent(seed: int) -> GPT:
    trained = kept("m14", str(seed), small_agent.sizes(), functools.partial(small_agent.train, seed))
    return trained[-1]


def _right(trained: GPT, asked: Sequence[small_agent.Job]) -> list[bool]:
    return [trace.calls == list(job.calls) for trace, job in zip(small_agent.run(trained, asked), asked, strict=True)]


@torch.no_grad()
def _in_bits(trained: GPT, bits: int) -> tuple[GPT, float]:
    """The same model with rounded matrices, and the relative noise in them."""
    rounded = GPT(trained.config).eval()
    rounded.load_state_dict(trained.state_dict())
    error = total = 0.0
    for weights in (p for p in rounded.parameters() if p.ndim > 1):
        before = weights.numpy().copy()
        after = dequantize(*quantize(before, bits)).reshape(before.shape)
        weights.copy_(torch.from_numpy(after))
        error, total = error + float(((after - before) ** 2).sum()), total + float((before**2).sum())
    return rounded, (error / total) ** 0.5
