"""The exit criteria of M14 that a machine measures: one function each, no arguments, one number or truth value out.

The thresholds stand in milestone.yaml.
"""

import asyncio
import functools
import itertools
import random
import statistics
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf.quants import quantize as gguf_quantize
from scipy.stats import binom, binomtest, gamma, multinomial, norm
from starlette.responses import PlainTextResponse
from torch import Tensor

from agents.capstone import block_quantization, gate
from agents.capstone.batching_law import (
    expected_longest,
    fit,
    most_speedup,
    rows_for,
    speedup,
    step_seconds,
    steps_continuous,
    steps_static,
)
from agents.capstone.engine import Cancelled, Engine, QueueFull, Request
from agents.capstone.gate_power import critical, power, smallest_loss, unpaired_power
from agents.capstone.gguf import Type, store
from agents.capstone.history_cost import read_anew, read_with_cache
from agents.capstone.prefix_cache import PrefixCache
from agents.capstone.quantiles import fewest, interval, quantile
from agents.capstone.queueing import (
    batch_rate,
    birth_death,
    erlang_c,
    mean_seconds,
    mean_wait_one_row,
    serve,
    sojourn_quantile,
)
from agents.capstone.server import SameSite
from agents.capstone.shared_rows import SharedRows
from agents.capstone.text_stream import TextStream
from agents.tool_agent import small_agent
from llmm.errors import UserError
from llmm.evaluation import Row
from llmm.lineage import Artifact, seal
from llmm.training.lora.adapter import attach_lora, load_tuned, save_adapter
from llmm.training.pretraining.folder import write_model
from llmm.training.tokenizer.folder import write_tokenizer
from llmm.transformers.gpt import GPT, GPTConfig
from llmm.transformers.gpt.generate import LogitsProcessor, generate
from llmm.transformers.gpt.sampling import GREEDY, Sampler

CONTEXT, VOCABULARY = 48, 24
PATIENCE = 30  # seconds until a check that waits gives up


# --- batches ----------------------------------------------------------------------------------------------------------


def batch_law_error() -> float:
    """Speed-up against tokens counted over whole steps, its limit, the rows that a share of it takes, and the fit."""
    worst = 0.0
    for fixed, per_row, rows in itertools.product((0.5, 3.0), (0.1, 1.0), (1, 2, 16)):
        seconds = fixed + sum(per_row for _ in range(rows))
        worst = max(worst, abs(speedup(rows, fixed, per_row) - rows / seconds * (fixed + per_row)))
        worst = max(worst, abs(most_speedup(fixed, per_row) - speedup(10**15, fixed, per_row)))
        needed = rows_for(0.75, fixed, per_row)
        reached = needed * (fixed + per_row) / (fixed + per_row * needed)
        worst = max(worst, abs(reached / most_speedup(fixed, per_row) - 0.75))
        found = fit([1, 2, 8, 32], [step_seconds(n, fixed, per_row) for n in (1, 2, 8, 32)])
        worst = max(worst, abs(found[0] - fixed), abs(found[1] - per_row))
    return worst


def schedule_faults() -> int:
    """Schedules that take another number of steps than when gone through step by step, or more than the bound."""
    rng, faults = random.Random(0), 0
    for _ in range(200):
        lengths, rows = [rng.randint(1, 9) for _ in range(rng.randint(1, 12))], rng.randint(1, 4)
        faults += steps_continuous(lengths, rows) != _step_by_step(lengths, rows, joining=True)
        faults += steps_static(lengths, rows) != _step_by_step(lengths, rows, joining=False)
        faults += steps_continuous(lengths, rows) > sum(lengths) / rows + (1 - 1 / rows) * max(lengths) + 1e-9
    return faults


def _step_by_step(lengths: Sequence[int], rows: int, joining: bool) -> int:
    waiting, running, steps = deque(lengths), list[int](), 0
    while waiting or running:
        if joining or not running:
            while waiting and len(running) < rows:
                running.append(waiting.popleft())
        running, steps = [left - 1 for left in running if left > 1], steps + 1
    return steps


def longest_error() -> float:
    """Mean of the longest of B geometric lengths against the sum over its law, relative: largest."""
    worst = 0.0
    for rows, stop in itertools.product((1, 2, 7, 16), (0.02, 0.3, 1.0)):
        k = np.arange(4000)
        law = np.diff((1 - (1 - stop) ** k) ** rows)
        worst = max(worst, abs(expected_longest(rows, stop) / float(k[1:] @ law) - 1))
    return worst


# --- the engine -------------------------------------------------------------------------------------------------------


@functools.cache
def _model() -> GPT:
    """A model with a short context, in double precision: rounding decides no token."""
    model, generator = GPT(GPTConfig(VOCABULARY, 2, 4, 2, 16, 32, CONTEXT)), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3, generator=generator)
    return model.double().eval()


def _prompts(number: int, seed: int) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(VOCABULARY) for _ in range(rng.randint(1, 12))] for _ in range(number)]


def _until(event: threading.Event) -> LogitsProcessor:
    """Rules that allow everything, once `event` is set."""

    def process(rows: Sequence[int], generated: list[list[int]], logits: Tensor) -> Tensor:
        event.wait(PATIENCE)
        return logits

    return process


def engine_step_faults() -> int:
    """Engines that decode more or fewer steps than the schedule says (the first token comes with the reading)."""
    faults = 0
    for rows in (1, 3, 4):
        rng, go = random.Random(rows), threading.Event()
        lengths = [rng.randint(1, 20) for _ in range(14)]
        with Engine(_model(), rows) as engine:
            engine.submit(Request([1], 1, processor=_until(go)))  # nobody joins until all have come
            _wait_for(lambda: engine.load == (1, 0))
            made = [engine.submit(Request(p, n)) for p, n in zip(_prompts(14, rows), lengths, strict=True)]
            go.set()
            written = [len(generation.result()) for generation in made]
        faults += written != lengths or engine.steps != steps_continuous([length - 1 for length in lengths], rows)
    return faults


def company_faults() -> int:
    """Requests whose tokens depend on who shares the batch, drawn ones and such as begin alike among them."""
    prompts = _prompts(12, 5)
    prompts += [[*prompt, 3, number] for number, prompt in enumerate(prompts)]  # go on from where others began
    with Engine(_model(), 3) as engine:
        made = [engine.submit(Request(prompt, 9, (7,), *_drawn(seed))) for seed, prompt in enumerate(prompts)]
        got = [generation.result() for generation in made]
    alone = [generate(_model(), [prompt], 9, (7,), *_drawn(seed))[0] for seed, prompt in enumerate(prompts)]
    return sum(one != other for one, other in zip(got, alone, strict=True))


def _drawn(seed: int) -> tuple[Sampler, torch.Generator | None]:
    return (Sampler(temperature=1.0), torch.Generator().manual_seed(seed)) if seed % 2 else (GREEDY, None)


def crowd_faults() -> int:
    """What goes wrong in a crowd: one too many is let in, order is not that of arrival, who left or failed stays."""
    faults, order, go = 0, list[int](), threading.Event()

    def started(number: int) -> LogitsProcessor:
        def process(rows: Sequence[int], generated: list[list[int]], logits: Tensor) -> Tensor:
            if not generated[0]:
                order.append(number)
            if number == 2:
                raise ZeroDivisionError
            return logits

        return process

    with Engine(_model(), 2, most_waiting=6) as engine:
        held = [engine.submit(Request([1], 2, processor=_until(go)))]
        _wait_for(lambda: engine.load == (1, 0))
        made = [engine.submit(Request([1, n], 3, processor=started(n))) for n in range(6)]
        try:
            engine.submit(Request([1], 3))
            faults += 1
        except QueueFull:
            pass
        made[4].cancel()
        go.set()
        ended = [_ending(generation) for generation in [*held, *made]]
        faults += ended != ["2", "3", "3", "ZeroDivisionError", "3", "Cancelled", "3"]
        faults += order != [0, 1, 2, 3, 5]
        _wait_for(lambda: engine.load == (0, 0))
        faults += engine.load != (0, 0)
    return faults


def _wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)


def _ending(generation: Any) -> str:
    try:
        return str(len(generation.result()))
    except (Cancelled, ZeroDivisionError) as error:
        return type(error).__name__


def prefix_error() -> float:
    """Logits after a remembered beginning against those of reading everything, largest difference; 1 for a beginning
    that is not found as long as it is."""
    worst, prompt = 0.0, list(range(20))
    with torch.inference_mode():
        for shared in (1, 7, 19):
            rows = SharedRows(_model(), 2, 100)
            rows.join(prompt)
            rows.leave(0, prompt)
            rows.join([5, 4, 3])  # another row is there already
            asked = [*prompt[:shared], 21, 22]
            logits, known = rows.join(asked)
            fresh, _ = SharedRows(_model(), 1, 0).join(asked)
            step, alone = rows.step(torch.tensor([1, 2]))[1], SharedRows(_model(), 1, 0)
            alone.join(asked)
            worst = max(worst, float((logits - fresh).abs().max()), float(known != shared))
            worst = max(worst, float((step - alone.step(torch.tensor([2]))[0]).abs().max()))
    return worst


def kept_faults() -> int:
    """Sequences that are kept beyond the budget, dropped before older ones, or kept beside what goes on from them."""
    cache, faults = PrefixCache(10), 0

    def shared(*tokens: int) -> int:
        found = cache.longest(tokens)
        return 0 if found is None else found.shape[-2]

    for tokens in ([1, 2, 3, 4], [1, 2, 3], [5, 6, 7], [5, 6, 7, 8], [5, 9]):  # the second begins the first
        cache.keep(tokens, torch.zeros(2, 1, 1, len(tokens), 1))
    faults += cache.tokens != 10
    faults += [shared(5, 9, 1), shared(5, 6, 7, 1), shared(1), shared(3)] != [2, 3, 1, 0]
    cache.keep([4, 4], torch.zeros(2, 1, 1, 2, 1))  # the least recently used one has to go, 5 9
    faults += cache.tokens != 10 or [shared(5, 9), shared(1, 2), shared(4)] != [1, 2, 1]
    cache.keep(list(range(11)), torch.zeros(2, 1, 1, 11, 1))
    faults += cache.tokens != 10
    cache = PrefixCache(6)
    for last in (1, 2, 3):
        cache.keep([7, last], torch.zeros(2, 1, 1, 2, 1))
    cache.longest([7, 9])  # everything begins with 7: the last one is used
    cache.keep([7, 4], torch.zeros(2, 1, 1, 2, 1))
    return faults + ([shared(7, 2), shared(7, 1)] != [2, 1])


def history_faults() -> int:
    """Chats of which the engine reads another number of tokens than the formulas say, with and without its memory."""
    faults = 0
    for said, answered, turns in ((3, 2, 5), (1, 4, 6), (4, 1, 4)):
        for kept_tokens in (0, 1000):
            rng, history, read = random.Random(said), list[int](), 0
            with Engine(_model(), 2, kept_tokens=kept_tokens) as engine:
                for turn in range(1, turns + 1):
                    history += [rng.randrange(VOCABULARY) for _ in range(said)]
                    generation = engine.submit(Request(history, answered))
                    history = history + generation.result()
                    read += len(generation.request.prompt) - generation.cached
                    expected = read_with_cache(turn, said) if kept_tokens else read_anew(turn, said, answered)
                    faults += read != expected
    return faults


def batching_ratio() -> float:
    """Tokens a second of sixteen requests at a time over one at a time, a model of the pipeline's size."""
    torch.set_num_threads(1)
    model, rng = GPT(GPTConfig(2048, 4, 3, 3, 192, 512, 1024)).eval(), random.Random(0)
    asked = [[rng.randrange(2048) for _ in range(rng.randint(10, 40))] for _ in range(48)]
    seconds = {rows: [_seconds(model, rows, asked) for _ in range(2)] for rows in (16, 1)}
    return min(seconds[1]) / min(seconds[16])


def _seconds(model: GPT, rows: int, asked: Sequence[list[int]]) -> float:
    with Engine(model, rows) as engine:
        engine.submit(Request([1], 4)).result()
        started = time.perf_counter()
        for generation in [engine.submit(Request(prompt, 48)) for prompt in asked]:
            generation.result()
        return time.perf_counter() - started


# --- waiting ----------------------------------------------------------------------------------------------------------


def waiting_law_error() -> float:
    """The law of the number of requests against the stationary solution of its generator: largest difference."""
    worst = 0.0
    for rate, rows in ((0.5, 1), (2.0, 3), (4.0, 3)):
        served, most = batch_rate(rows, 0.2, 0.1, 2.0), 12
        generator = np.zeros((most + 1, most + 1))
        for n in range(most):
            generator[n, n + 1], generator[n + 1, n] = rate, served(n + 1)
        np.fill_diagonal(generator, -generator.sum(1))
        expected, *_ = np.linalg.lstsq(np.vstack([generator.T, np.ones(most + 1)]), np.eye(most + 2)[-1], rcond=None)
        worst = max(worst, float(np.abs(birth_death(rate, served, most) - expected).max()))
    return worst


def little_error() -> float:
    """Mean seconds by Little's law against what those who come find before them: largest difference, full servers
    included."""
    worst = 0.0
    for rate, service, most in ((0.5, 1.0, 3), (2.0, 1.0, 5), (0.9, 1.0, 200)):
        law = birth_death(rate, lambda n, service=service: service, most)  # type: ignore[misc]
        let_in = law[:-1] / (1 - law[-1])
        worst = max(worst, abs(mean_seconds(law, rate) - float(let_in @ np.arange(1, most + 1)) / service))
    return worst


def one_row_error() -> float:
    """Pollaczek and Khinchine against the birth-death chain for exponential times, relative; half of it for equal
    ones."""
    worst = 0.0
    for rate in (0.1, 0.5, 0.9):
        law = birth_death(rate, lambda n: 1.0, 3000)
        waits = mean_seconds(law, rate) - 1
        worst = max(worst, abs(mean_wait_one_row(rate, 1.0, 2.0) / waits - 1))
        worst = max(worst, abs(mean_wait_one_row(rate, 1.0, 1.0) / waits - 0.5))
    return worst


def erlang_error() -> float:
    """Erlang's C against the birth-death chain of servers with a constant speed: largest difference."""
    worst = 0.0
    for servers, load in ((1, 0.5), (3, 2.4), (16, 12.0)):
        law = birth_death(load, lambda n, servers=servers: float(min(n, servers)), 3000)  # type: ignore[misc]
        worst = max(worst, abs(erlang_c(servers, load) - float(law[servers:].sum())))
    return worst


def batch_rate_error() -> float:
    """Answers a second of a batch against those that end in it over the seconds of their steps: largest difference."""
    served, worst = batch_rate(4, 0.3, 0.05, 20.0), 0.0
    for requests in (1, 3, 4, 9):
        left, seconds = [20] * min(requests, 4), 0.0
        while any(left):
            seconds += 0.3 + 0.05 * len(left)
            left = [tokens - 1 for tokens in left]
        worst = max(worst, abs(served(requests) - len(left) / seconds))
    return worst


def sojourn_error() -> float:
    """The quantile of the time in a server with one row against the mixture over who is found there: difference."""
    worst = 0.0
    for rate, q in itertools.product((0.3, 0.8), (0.5, 0.95)):
        seconds, n = sojourn_quantile(q, rate, 1.0), np.arange(400)
        through = float(((1 - rate) * rate**n) @ gamma.cdf(seconds, n + 1))
        worst = max(worst, abs(through - q))
    return worst


def virtual_server_faults() -> int:
    """Courses of the virtual server other than those of going through it step by step, one row and three."""
    rng, faults = random.Random(0), 0
    for _ in range(60):
        arrivals, rows = sorted(rng.uniform(0, 30) for _ in range(12)), rng.choice((1, 3))
        lengths = [rng.randint(1, 6) for _ in arrivals]
        expected = _served_step_by_step(arrivals, lengths, rows, 1.0, 0.5)
        faults += not np.allclose(serve(arrivals, lengths, rows, 1.0, 0.5), expected, atol=1e-9)
        together = serve([0.0] * 12, lengths, rows, 1.0, 0.0)
        faults += round(together.max()) != steps_continuous(lengths, rows)
    return faults


def _served_step_by_step(
    arrivals: Sequence[float], lengths: Sequence[int], rows: int, fixed: float, per_row: float
) -> list[float]:
    """Who came first and has not ended is in the batch, as far as there are rows."""
    left, now, through = list(lengths), 0.0, [0.0] * len(lengths)
    while any(left):
        running = [i for i, tokens in enumerate(left) if tokens and arrivals[i] <= now][:rows]
        if running:
            now += fixed + per_row * len(running)
        else:
            now = min(arrivals[i] for i, tokens in enumerate(left) if tokens)
        for i in running:
            left[i] -= 1
            through[i] = now - arrivals[i]
    return through


# --- quantiles --------------------------------------------------------------------------------------------------------


def quantile_faults() -> int:
    """Quantiles that are not numpy's of the same definition."""
    rng, faults = random.Random(0), 0
    for n, q in itertools.product(range(1, 41), (0.05, 0.5, 0.75, 0.95, 1.0)):
        values = [rng.random() for _ in range(n)]
        faults += quantile(values, q) != float(np.quantile(values, round(q - 1e-12, 12), method="inverted_cdf"))
    return faults


def interval_faults() -> int:
    """Intervals that hold the quantile less often than they say, are wider than they need be, or finite too early."""
    faults = 0
    for n, q in itertools.product((5, 30, 71, 72, 200), (0.5, 0.95)):
        low, high = interval(range(1, n + 1), q)  # the values are their ranks
        below, above = 0 if low < 1 else int(low), n + 1 if high > n else int(high)
        faults += binom.cdf(above - 1, n, q) - binom.cdf(below - 1, n, q) < 0.95
        faults += binom.cdf(below, n, q) <= 0.025 or (above > 1 and binom.sf(above - 2, n, q) <= 0.025)
        faults += q > 0.5 and (high <= n) != (n >= fewest(q))
    return int(faults)  # numpy's comparisons make numpy's numbers


# --- the gate ---------------------------------------------------------------------------------------------------------


def power_error() -> float:
    """Power against all courses of a few items, and the smallest loss against the power around it: largest."""
    worst = 0.0
    for n, lost, won, level in itertools.product((1, 4, 7), (0.2, 0.5), (0.0, 0.3), (0.05, 0.3)):
        total = 0.0
        for losses, wins in itertools.product(range(n + 1), repeat=2):
            if losses + wins <= n and binom.sf(losses - 1, losses + wins, 0.5) < level:
                counts = [losses, wins, n - losses - wins]
                total += multinomial.pmf(counts, n, [lost, won, 1 - lost - won]) if losses else 0.0
        worst = max(worst, abs(total - power(n, lost, won, level)))
    loss = smallest_loss(200, 0.05, 0.01)
    found = [power(200, 0.05 + loss + d, 0.05, 0.01) >= 0.8 for d in (-2e-6, 2e-6)]
    return worst if found == [False, True] else 1.0


def critical_faults() -> int:
    """Numbers of losses at which the test is said to fall below its level, and does not or did before."""
    faults = 0
    for level in (0.05, 0.05 / 19):
        for changed, fewest_losses in enumerate(critical(30, level)):
            below = [
                losses
                for losses in range(changed + 1)
                if binomtest(losses, max(changed, 1), 0.5, alternative="greater").pvalue < level and changed
            ]
            faults += int(fewest_losses) != min(below, default=changed + 1)
    return faults


def false_alarm_excess() -> float:
    """How often the test falls below its level where nothing got worse, less the level: largest."""
    return max(
        power(n, churn, churn, level) - level
        for n, churn, level in itertools.product((20, 200, 1000), (0.01, 0.1, 0.4), (0.05, 0.05 / 19))
    )


def unpaired_error() -> float:
    """Power of the comparison of two rates against scipy's normal law: largest difference."""
    worst = 0.0
    for before, after, level in itertools.product((0.5, 0.8), (0.4, 0.79), (0.05, 0.003)):
        spread = np.sqrt((before * (1 - before) + after * (1 - after)) / 200)
        expected = float(norm.sf(norm.isf(level), loc=(before - after) / spread))
        worst = max(worst, abs(unpaired_power(200, before, after, level) - expected))
    return worst


class _Found:
    """Results in memory: one evaluation, whose items are right or wrong."""

    def __init__(self, right: Mapping[str, bool], figure: float | None = None) -> None:
        self.where, self.right, self.figure = "memory", right, figure

    def metrics(self, name: str) -> dict[str, Any]:
        rate = statistics.fmean(self.right.values()) if self.figure is None else self.figure
        return {"rate": rate, "wrong": 1 - rate, "n": len(self.right)}

    def rows(self, name: str) -> list[Row] | None:
        return [{"suite": "s", "id": id_, "right": right} for id_, right in self.right.items()]


def _spec(better: str = "higher") -> gate.Spec:
    metric, item = ("rate", "right") if better == "higher" else ("wrong", "not right")
    figure = {"name": "f", "file": "e", "metric": metric, "better": better, "tolerance": 0.0, "same": ["n"]}
    figures = [{**figure, "suite": "s", "item": item}]
    return gate.Spec.model_validate(
        {"level": 0.01, "bootstrap_samples": 100, "seed": 0, "identity": {}, "figures": figures}
    )


def _sides(lost: int, won: int, n: int = 200) -> tuple[_Found, _Found]:
    before = {str(i): i >= won for i in range(n)}
    after = {str(i): i < won or won + lost <= i for i in range(n)}
    return _Found(before), _Found(after)


def planted_regression_faults() -> int:
    """Losses and wins of 200 items that the gate judges otherwise than the exact test does, up and down."""
    faults, least = 0, critical(40, 0.01)
    for lost, won, better in itertools.product(range(0, 21, 2), range(0, 21, 5), ("higher", "lower")):
        (verdict,) = gate.compare(*_sides(lost, won), _spec(better)).verdicts
        worse = "regressed" if lost >= least[lost + won] else "worse (noise)"
        expected = worse if lost > won else "better" if won > lost else "same"
        faults += verdict.status != expected
    return faults


def incomparable_faults() -> int:
    """Sides that cannot be compared and are: other items, other numbers of them, rows that do not give the figure."""
    before, after = _sides(1, 1)
    others = {f"other {id_}": right for id_, right in after.right.items()}
    wrong = [_Found(others), _Found(dict(list(after.right.items())[:100])), _Found(after.right, 0.5)]
    faults = 0
    for side in wrong:
        try:
            gate.compare(before, side, _spec())
            faults += 1
        except UserError:
            pass
    return faults


# --- what leaves the project, and what comes in -----------------------------------------------------------------------


def q8_faults() -> int:
    """Bytes of weights in 8 bits that are not those of the `gguf` library, or of what `llmm export gguf` writes."""
    rng, faults = np.random.default_rng(0), 0
    for scale in (1e-3, 1.0, 30.0):
        weights = (scale * rng.standard_normal((48, 96))).astype(np.float32)
        weights[0, :32] = 0
        weights[1, :3] = 0.5, 127, -0.5  # halves between two codes
        scales, codes = block_quantization.quantize(weights, 8)
        ours = np.concatenate([scales.view(np.uint8), codes.view(np.uint8)], 1).reshape(48, -1)
        stored, _ = store("w", weights, "q8_0")
        faults += int((ours != gguf_quantize(weights, gguf.GGMLQuantizationType.Q8_0)).sum())
        faults += int((ours != stored.view(np.uint8)).sum())
        faults += 8 * ours.size / weights.size != block_quantization.bits_per_weight(8)
    return faults


def rounding_error() -> float:
    """Weights that are further from what was stored than half a step of their block and what half precision takes off
    its scale: largest excess, in steps."""
    weights = np.random.default_rng(0).standard_normal((500, 32)).astype(np.float32)
    worst = 0.0
    for bits in range(2, 9):
        scales, codes = block_quantization.quantize(weights, bits)
        steps = np.abs(weights).max(1, keepdims=True) / block_quantization.most(bits)
        off = np.abs(block_quantization.dequantize(scales, codes) - weights) / steps
        worst = max(worst, float((off - 0.5 - np.abs(codes) / 2048).max()))
    return worst


def noise_law_error() -> float:
    """Noise of normal weights in 3 to 8 bits against the law, relative: largest."""
    weights = np.random.default_rng(0).standard_normal((20_000, 32)).astype(np.float32)
    worst = 0.0
    for bits in range(3, 9):
        off = block_quantization.dequantize(*block_quantization.quantize(weights, bits)) - weights
        worst = max(worst, abs(float(np.sqrt((off**2).mean())) / block_quantization.relative_noise(bits) - 1))
    return worst


def export_faults() -> int:
    """Types in which `llmm export gguf` stores weights other than as they are, or as close as the type allows."""
    weights, faults = np.random.default_rng(0).standard_normal((6, 48)).astype(np.float32), 0
    half = weights.astype(np.float16)
    stored_as: dict[Type, Any] = {"f32": weights, "f16": half, "q8_0": half}
    for kind, closest in stored_as.items():
        data, _ = store("w", weights, kind)  # rows of 48 are no whole blocks: half precision
        faults += not np.array_equal(np.asarray(data, np.float32), np.asarray(closest, np.float32))
        vector, _ = store("gain", weights[0, :32], kind)
        faults += not np.array_equal(vector, weights[0, :32])
    return faults


def stream_faults() -> int:
    """Texts that come with half a character or with a stop string, or do not come whole."""
    codec, rng, faults = small_agent.codec(), random.Random(0), 0
    for _ in range(300):
        text = "".join(rng.choice("ab é☃") for _ in range(rng.randint(0, 10)))
        stop = ["".join(rng.choice("ab é☃") for _ in range(rng.randint(1, 3))) for _ in range(rng.randint(0, 2))]
        stream = TextStream(codec, stop)
        parts = [*(stream.feed(token) for token in codec.text_ids(text)), stream.flush()]
        expected = text
        for end in range(len(text) + 1):  # sign by sign: the first stop string to be complete ends the text
            if complete := [one for one in stop if text[:end].endswith(one)]:
                expected = text[: end - max(map(len, complete))]
                break
        faults += "".join(parts) != expected or any("\ufffd" in part for part in parts)
    return faults


def foreign_page_faults() -> int:
    """Requests of other sites' pages that the server answers, or its own that it refuses."""
    asked: list[tuple[bool, dict[str, str], int]] = [
        (True, {"host": "localhost:8000"}, 200),
        (True, {"host": "127.0.0.1:8000", "origin": "http://127.0.0.1:8000"}, 200),
        (True, {"host": "[::1]:8000"}, 200),
        (True, {"host": "evil.example:8000"}, 403),  # a name that was made to point here
        (True, {"host": "localhost:8000", "origin": "http://evil.example"}, 403),
        (True, {"host": "localhost:8000", "origin": "null"}, 403),
        (False, {"host": "models.example"}, 200),
        (False, {"host": "models.example", "origin": "https://models.example"}, 200),
        (False, {"host": "models.example", "origin": "https://evil.example"}, 403),
    ]
    return sum(asyncio.run(_status(loopback, headers)) != status for loopback, headers, status in asked)


async def _status(loopback: bool, headers: Mapping[str, str]) -> int:
    statuses = list[int]()

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": encoded}
    await SameSite(PlainTextResponse("ok"), loopback)(scope, receive, send)
    return statuses[0]


def foreign_weight_faults() -> int:
    """Weights of elsewhere that are loaded in the place of those that were trained here, or ours refused."""
    faults = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        words = _tokenizer_in(folder / "tokenizer")
        model = _model_in(folder / "model", folder / "tokenizer", words, 0)
        tuned = attach_lora(_gpt(0), 2, 2.0, 0.0, 0)
        (folder / "adapter").mkdir()
        save_adapter(tuned, folder / "adapter")
        seal(folder / "adapter", "adapter", [model, words])
        _model_in(folder / "elsewhere", folder / "tokenizer", words, 1)
        (folder / "swapped").mkdir()
        for file in (folder / "model").iterdir():  # another model's weights under our model's record
            other = folder / "elsewhere" / file.name if file.suffix == ".safetensors" else file
            (folder / "swapped" / file.name).write_bytes(other.read_bytes())
        for name, refused in (("model", False), ("elsewhere", True), ("swapped", True)):
            try:
                load_tuned(folder / "adapter", folder / name, folder / "tokenizer")
                faults += refused
            except UserError:
                faults += not refused
    return faults


def _gpt(seed: int) -> GPT:
    model = GPT(GPTConfig(small_agent.codec().vocab_size, 1, 2, 2, 16, 16, 32))
    model.init_weights(torch.Generator().manual_seed(seed))
    return model.eval()


def _tokenizer_in(folder: Path) -> Artifact:
    folder.mkdir()
    write_tokenizer(small_agent.codec().tokenizer, folder)
    return seal(folder, "tokenizer", [])


def _model_in(folder: Path, tokenizer: Path, words: Artifact, seed: int) -> Artifact:
    folder.mkdir()
    write_model(_gpt(seed), tokenizer, folder)
    return seal(folder, "model", [words])


def bad_input_faults() -> int:
    """Wrong arguments that are not answered with a ValueError or UserError that says something."""
    wrong: tuple[Callable[[], object], ...] = (
        lambda: most_speedup(1.0, 0.0),
        lambda: rows_for(1.0, 1.0, 1.0),
        lambda: mean_wait_one_row(1.0, 1.0, 1.0),
        lambda: erlang_c(2, 2.0),
        lambda: sojourn_quantile(0.5, 1.0, 1.0),
        lambda: expected_longest(2, 0.0),
        lambda: power(10, 0.7, 0.7, 0.05),
        lambda: quantile([], 0.5),
        lambda: quantile([1.0], 0.0),
        lambda: smallest_loss(3, 0.0, 0.01),
        lambda: block_quantization.quantize(np.zeros(31, np.float32), 8),
        lambda: block_quantization.quantize(np.zeros(32, np.float32), 1),
    )
    faults = 0
    for attempt in wrong:
        try:
            attempt()
        except (ValueError, UserError) as error:
            faults += len(str(error).split()) < 3
        except Exception:  # any other kind is a fault as well
            faults += 1
        else:
            faults += 1
    with Engine(_model(), 1) as engine:
        for request in (Request([], 3), Request([VOCABULARY], 3), Request([1] * CONTEXT, 3), Request([1], 0)):
            try:
                engine.submit(request)
                faults += 1
            except UserError:
                pass
    return faults
