"""The experiments of M4: what a view costs, what backward keeps, what a call, a copy and a compilation cost."""

import math
import random
import re
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx.passes.dialect.common.cse_pass import CSEPass, get_CSE_banned_ops
from torch.nn import functional as F

from llmm.foundations.torch_internals import (
    activation_memory,
    cache_lines,
    dispatcher,
    plots,
    programs,
    view_cases,
    views,
)
from llmm.foundations.torch_internals.block import Block, BlockShape, blocks_of
from llmm.foundations.torch_internals.cpp_kernel import rms_norm_cpp
from llmm.foundations.torch_internals.custom_function import cross_entropy, cross_entropy_op_by_op
from llmm.foundations.torch_internals.custom_op import rms_norm
from llmm.foundations.torch_internals.dispatch_cases import orders
from llmm.foundations.torch_internals.dispatch_keys import Array, Key
from llmm.foundations.torch_internals.fx_pass import fold_batch_norm, remove_common_subexpressions
from llmm.foundations.torch_internals.inductor import compile_cold, count_graphs
from llmm.foundations.torch_internals.machine import measure_machine, measured_point
from llmm.foundations.torch_internals.memory_runs import gradients_of, measured_bytes, run_blocks
from llmm.foundations.torch_internals.meters import OpCounter, SavedTensors, StorageLedger, median_seconds
from llmm.foundations.torch_internals.roofline import Cost, elementwise_cost, matmul_cost
from llmm.ladder.records import Record, round_metrics, spread

SEEDS = [0, 1, 2]


# ---- views

CASES = 2000  # a seed


def view_or_copy(figures: Path) -> Record:
    """Which reshapes need a copy, and what simpler rules get wrong."""
    counted = [_rules_on_reshapes(seed) for seed in SEEDS]
    metrics: dict[str, Any] = {
        "cases": CASES * len(SEEDS),
        "unlike_torch": sum(_answers_unlike_torch(seed) for seed in SEEDS),
        **{name: spread([row[name] for row in counted]) for name in counted[0]},
    }
    base = torch.arange(48)
    windows = {
        "row-major (4, 6)": base[:24].view(4, 6),
        "transposed (6, 4).T": base[:24].view(6, 4).T,
        "(6, 4) of a wider (6, 8)": base.view(6, 8)[:, :4],
    }
    shape = (2, 3, 4)
    curves = {}
    for name, tensor in windows.items():
        layout = view_cases.layout_of(tensor)
        addresses = [views.address(layout, index) for index in np.ndindex(layout.shape)]
        steps = np.diff(addresses)
        kinks = {p for p in range(2, len(addresses)) if steps[p - 1] != steps[p - 2] and steps[p - 1] != steps[0]}
        curves[name] = addresses, kinks
    figure = plots.kinks_and_cuts(curves, shape, views.cuts(shape), figures / "view_or_copy.svg")
    return Record(
        objective="Which reshapes need a copy, and how often do simpler rules than theorem 2 go wrong?",
        setup="2,000 generated reshapes a seed (dimensions swapped, sliced, expanded; the same number of elements), "
        "judged by view, by PyTorch, and by two rules of thumb; seeds 0 to 2. Shares are of all reshapes of a "
        "seed.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {"changed": "theorem 2", "copied without need": 0.0, "views that show other elements": 0.0},
                {
                    "changed": "view only if contiguous",
                    "copied without need": metrics["needless_if_contiguous_rule"]["mean"],
                    "views that show other elements": 0.0,
                },
                {
                    "changed": "view whenever the number of elements fits",
                    "copied without need": 0.0,
                    "views that show other elements": metrics["wrong_if_always_view"]["mean"],
                },
            ]
        ),
        figure=figure,
        found="On {cases} cases none was judged unlike PyTorch. {views[mean]:.1%} of the reshapes are views; a rule "
        "that asks for contiguous tensors would have copied {needless_if_contiguous_rule[mean]:.1%} of all "
        "without need.",
        negative="The rule 'if the elements fit, it is a view' would show wrong elements in "
        "{wrong_if_always_view[mean]:.1%}.",
    )


def _rules_on_reshapes(seed: int) -> dict[str, float]:
    rng = random.Random(seed)
    verdicts: list[tuple[bool, bool]] = []
    while len(verdicts) < CASES:
        tensor = view_cases.random_tensor(rng)
        if 1 < tensor.numel() <= view_cases.STORAGE:
            layout = view_cases.layout_of(tensor)
            verdicts.append(
                (views.view(layout, view_cases.random_shape(rng, tensor)) is not None, views.is_contiguous(layout))
            )
    total = len(verdicts)
    return {
        "views": sum(is_view for is_view, _ in verdicts) / total,
        "needless_if_contiguous_rule": sum(is_view and not contiguous for is_view, contiguous in verdicts) / total,
        "wrong_if_always_view": sum(not is_view for is_view, _ in verdicts) / total,
    }


def _answers_unlike_torch(seed: int) -> int:
    cases = (view_cases.random_case(random.Random(CASES * seed + number)) for number in range(CASES))
    return sum(case.torch_says != case.ours for case in cases)


# ---- what backward keeps


class _KeepsProbabilities(torch.autograd.Function):
    """The tempting variant: it keeps the probabilities that forward had at hand, an intermediate."""

    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, target_N: Tensor) -> Tensor:
        probabilities_NV = logits_NV.softmax(-1)
        ctx.save_for_backward(probabilities_NV, target_N)
        return -probabilities_NV.gather(-1, target_N[:, None]).squeeze(-1).log()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        probabilities_NV, target_N = ctx.saved_tensors
        scaled_NV = grads[0][:, None] * probabilities_NV
        return scaled_NV.scatter_add(-1, target_N[:, None], -grads[0][:, None]), None


def second_derivatives(figures: Path) -> Record:
    """What does backward keep of a cross-entropy, and which variants have a right second derivative?"""
    variants: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "single operations": lambda z, t: cross_entropy_op_by_op(z, t)[0],
        "one node, keeps probabilities": lambda z, t: _KeepsProbabilities.apply(z, t),
        "F.cross_entropy": lambda z, t: F.cross_entropy(z, t, reduction="none"),
        "one node, keeps log-sum-exp": lambda z, t: cross_entropy(z, t)[0],
    }
    rows = []
    metrics: dict[str, Any] = {}
    for name, loss in variants.items():
        errors = [_second_derivative_error(loss, seed) for seed in SEEDS]
        logits = torch.randn(256, 1024, generator=torch.Generator().manual_seed(0)).requires_grad_()
        with SavedTensors() as saved:
            kept_alive = loss(logits, torch.zeros(256, dtype=torch.int64))
        del kept_alive
        inputs = 4 * logits.numel() if saved.holds(logits) else 0
        kept = (saved.bytes - inputs) / (4 * logits.numel())
        rows.append((name, kept, max(errors)))
        metrics[name.replace(" ", "_").replace(",", "").replace("-", "_").replace(".", "_")] = {
            "kept": kept, "right": max(errors) < 1e-9, "second_derivative_error": spread(errors),
        }  # fmt: skip
    return Record(
        objective="What does backward of a softmax cross-entropy keep, and whose second derivative is right?",
        setup="Logits 256 x 1024 in float32 for the bytes, kept besides the logits, in sizes of the logits. Second "
        "derivative: Hessian-vector products of half the summed squares of 8 losses of 6 logits, float64, "
        "against the closed form, seeds 0 to 2.",
        metrics=round_metrics(metrics, 3),
        seeds=SEEDS,
        ablation=round_metrics(
            [{"changed": name, "kept": kept, "second derivative right": error < 1e-9} for name, kept, error in rows], 3
        ),
        figure=plots.kept_bytes(rows, figures / "second_derivatives.svg"),
        found="Single operations keep {single_operations[kept]:.2f} times the logits, one node with the log-sum-exp "
        "{one_node_keeps_log_sum_exp[kept]:.4f} times.",
        negative="The node that keeps probabilities passes every first-order test and its second derivative is off by "
        "{one_node_keeps_probabilities[second_derivative_error][mean]:.2f}, without an error message.",
    )


def _second_derivative_error(loss: Callable[[Tensor, Tensor], Tensor], seed: int) -> float:
    """Hessian-vector product of half the sum of l^2 against g (g.v) + l (p v - p (p.v)) with g = p - y, row by row."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(8, 6, generator=generator, dtype=torch.float64).requires_grad_()
    v = torch.randn(8, 6, generator=generator, dtype=torch.float64)
    target = torch.arange(8) % 6
    losses = loss(logits, target)
    (grad,) = torch.autograd.grad(losses.square().sum() / 2, logits, create_graph=True)
    (found,) = torch.autograd.grad((grad * v).sum(), logits)
    p, g = (values.detach() for values in (logits.softmax(-1), logits.softmax(-1) - F.one_hot(target, 6)))
    curved = p * v - p * (p * v).sum(-1, keepdim=True)
    wanted = g * (g * v).sum(-1, keepdim=True) + losses.detach()[:, None] * curved
    return float((found - wanted).abs().max())


# ---- checkpointing

CHECKPOINT_SHAPE = BlockShape(B=4, T=128, D=128, H=4, blocks=16)


def checkpoint_memory(figures: Path) -> Record:
    """What do checkpoints save of a 16-block transformer, at what price, and how many should there be?"""
    shape = CHECKPOINT_SHAPE
    counts = [1, 2, 4, 8, 16]
    a, b = activation_memory.block_bytes(shape), activation_memory.boundary_bytes(shape)
    measured = {k: measured_bytes(shape, k) for k in counts}
    plain_saved, plain_peak = measured_bytes(shape, None)
    equal = [_gradients_equal(shape, seed) for seed in SEEDS]
    thin = {k: _thin_peak(64, k) for k in (1, 2, 4, 8, 16, 32, 64)}
    thin_plain = _thin_peak(64, None)
    blocks = blocks_of(shape, seed=0)
    times = {str(k): median_seconds(partial(_train_once, blocks, shape, k), repeats=5) for k in (None, 4, 16)}
    metrics: dict[str, Any] = {
        "saved_plain": plain_saved,
        "saved_16_segments": measured[16][0],
        "saved_ratio": plain_saved / measured[16][0],
        "peak_ratio": plain_peak / measured[16][1],
        "gradients_equal": {"mean": statistics.fmean(equal), "sd": statistics.pstdev(equal), "n": len(equal)},
        "saved_error": max(abs(activation_memory.saved_bytes(shape, k) / measured[k][0] - 1) for k in counts),
        "peak_error": max(abs(activation_memory.peak_bytes(shape, k) / measured[k][1] - 1) for k in counts),
        "inside_over_boundary": a / b,
        "best_segments": activation_memory.best_segments(shape.blocks, a, b),
        "square_root_rule": math.isqrt(shape.blocks),
        "peak_at_square_root_over_best": measured[4][1] / measured[16][1],
        "thin_best_segments": min(thin, key=lambda k: thin[k]),
    }
    panels = [
        _panel(
            f"16 transformer blocks, a = {a / b:.0f} b",
            measured,
            plain_peak,
            (16, a, b),
            activation_memory.peak_bytes(shape, 16),
            16,
            "right",
        ),
        _panel(
            "64 thin layers, a = b",
            {k: (0, v) for k, v in thin.items()},
            thin_plain,
            (64, THIN, THIN),
            thin[8],
            8,
            "center",
        ),
    ]
    base = times["None"]
    return Record(
        objective="What does checkpointing save of a 16-block transformer's activations, and how many segments are "
        "best?",
        setup="16 pre-norm blocks of width 128, 4 heads, dropout 0.1, 4 x 128 tokens, float32, checkpointed by our "
        "hooks; bytes of living storages after forward and at most; gradients of all parameters compared for "
        "seeds 0 to 2 in 4 and 16 segments. Thin layers: 64 tanh of 1 MB, which keep no more than their input.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [{"changed": "no checkpoints", "saved MB": plain_saved / 1e6, "peak MB": plain_peak / 1e6}]
            + [
                {"changed": f"in {k} segments", "saved MB": live / 1e6, "peak MB": peak / 1e6}
                for k, (live, peak) in measured.items()
            ]
        ),
        figure=plots.memory_against_segments(panels, figures / "checkpoint_memory.svg"),
        found="A checkpoint a block keeps 1/{saved_ratio:.1f} of the bytes after forward and 1/{peak_ratio:.1f} at the "
        "peak, with gradients equal bit by bit; the predictions are off by {saved_error:.1e} and "
        "{peak_error:.1e}. For thin layers {thin_best_segments} segments of 64 are best, the square root.",
        negative="The square-root rule is not for transformers: a block keeps {inside_over_boundary:.0f} times its "
        "input, so {best_segments} segments of 16 are best, and {square_root_rule} would hold "
        "{peak_at_square_root_over_best:.1f} times as much.",
        timings={
            "plain": base,
            "4 segments, times plain": times["4"] / base,
            "16 segments, times plain": times["16"] / base,
        },
    )


THIN = 1 << 20  # bytes of a thin layer's activation


def _panel(
    title: str, measured: dict[int, Any], plain: int, model: Any, at_best: int, best: int, align: str
) -> dict[str, Any]:
    """What a panel of the figure shows, in MB; the curve is moved by what backward works on, which no k changes."""
    blocks, a, b = model
    working = at_best - activation_memory.peak(blocks, a, b, best)
    at = list(range(1, blocks + 1))
    return {
        "title": title,
        "segments": list(measured),
        "measured": [peak / 1e6 for _, peak in measured.values()],
        "curve_at": at,
        "curve": [(activation_memory.peak(blocks, a, b, k) + working) / 1e6 for k in at],
        "plain": plain / 1e6,
        "best": best,
        "ticks": list(measured),
        "align": align,
    }


def _thin_peak(layers: int, segments: int | None) -> int:
    x = torch.zeros(THIN // 4, requires_grad=True)
    with StorageLedger() as ledger:
        run_blocks([torch.tanh] * layers, segments, x).sum().backward()
    return ledger.peak


def _gradients_equal(shape: BlockShape, seed: int) -> bool:
    """Whether 4 and 16 segments give the gradients of no segments, bit by bit."""
    plain, *checkpointed = (gradients_of(shape, seed, segments) for segments in (None, 4, 16))
    return all(torch.equal(ours, theirs) for way in checkpointed for ours, theirs in zip(way, plain, strict=True))


def _train_once(blocks: list[Block], shape: BlockShape, segments: int | None) -> None:
    x = torch.ones(shape.B, shape.T, shape.D, requires_grad=True)
    run_blocks(blocks, segments, x).sum().backward()


# ---- the cost of a copy and of a call


def transposed_copy(figures: Path) -> Record:
    """What does copying a transpose cost over a plain copy, and what would it cost without tiles?"""
    modelled = [64, 128, 256, 512, 1024]
    model: dict[str, list[float]] = {
        "sizes": [float(n) for n in modelled],
        "row by row": [_fetches(n, None) for n in modelled],
        "in tiles": [_fetches(n, (16, 8)) for n in modelled],
    }
    sizes = [128, 256, 512, 1024, 2048, 4096]
    ratios: dict[str, list[float]] = {"into fresh memory": [], "over old memory": [], "NumPy, over old memory": []}
    for n in sizes:
        for values, ratio in zip(ratios.values(), _copy_ratios(n), strict=True):
            values.append(ratio)
    metrics: dict[str, Any] = {
        "lines_row_by_row": model["row by row"][-1],
        "lines_in_tiles": model["in tiles"][-1],
        "lines_in_square_tiles": _fetches(1024, (16, 16)),
        "lines_row_by_row_400": _fetches(400, None),
        "lines_row_by_row_256": model["row by row"][2],
    }
    plain = _fetches(1024, None, transposed=False)
    return Record(
        objective="What does it cost to copy a transposed matrix, and what do tiles have to do with it?",
        setup="n x n float32 matrices, n from 128 to 4096 (timings): x.T.contiguous() over x.clone(), copy_ of x.T "
        "over copy_ of x into one place, the latter in NumPy too. Model: 64 sets of 8 lines of 64 bytes, least "
        "recently used out first, reads only: lines fetched over lines there are, n = 1024 where nothing else is "
        "said. Nothing is random.",
        metrics=round_metrics(metrics),
        seeds=[],
        ablation=round_metrics(
            [
                {"changed": "plain copy", "lines fetched": plain},
                {"changed": "transposed, row by row", "lines fetched": metrics["lines_row_by_row"]},
                {"changed": "transposed, in tiles of 16 x 16", "lines fetched": metrics["lines_in_square_tiles"]},
                {"changed": "transposed, in tiles of 16 x 8", "lines fetched": metrics["lines_in_tiles"]},
                {"changed": "transposed, row by row, n = 400", "lines fetched": metrics["lines_row_by_row_400"]},
            ]
        ),
        figure=plots.transposed_copy(sizes, ratios, model, figures / "transposed_copy.svg"),
        found="In the model a row-by-row transposed copy fetches {lines_row_by_row:.0f} lines for each that it needs, "
        "tiles that fit the cache's ways fetch {lines_in_tiles:.0f}; the measured ratios stand in the figure and "
        "the timings.",
        negative="Tiles of 16 x 16 gain nothing at n = 1024 ({lines_in_square_tiles:.0f}): their lines all fall into "
        "one set of 8. Nor does size alone decide: 400 x 400 row by row fetches {lines_row_by_row_400:.0f}, "
        "256 x 256 {lines_row_by_row_256:.0f}.",
        timings={str(n): {name: values[k] for name, values in ratios.items()} for k, n in enumerate(sizes)},
    )


def _copy_ratios(n: int) -> tuple[float, float, float]:
    """Transposed over plain: into fresh memory, into the same place, and that in NumPy."""
    number = max(1, 1_000_000 // n**2)
    source, target = torch.ones(n, n), torch.empty(n, n)
    array, place = source.numpy(), target.numpy()
    pairs: list[tuple[Callable[[], Any], Callable[[], Any]]] = [
        (lambda: source.T.contiguous(), lambda: source.clone()),
        (lambda: target.copy_(source.T), lambda: target.copy_(source)),
        (lambda: np.copyto(place, array.T), lambda: np.copyto(place, array)),
    ]
    fresh, old, numpy = (median_seconds(slow, 5, number) / median_seconds(fast, 5, number) for slow, fast in pairs)
    return fresh, old, numpy


def _fetches(n: int, tile: tuple[int, int] | None, transposed: bool = True) -> float:
    order = cache_lines.row_order(n, n) if tile is None else cache_lines.tile_order(n, n, *tile)
    return cache_lines.fetches_per_line(n, order, transposed)


@torch.library.custom_op("llmm::add_for_timing", mutates_args=())
def _add_operator(a: Tensor, b: Tensor) -> Tensor:
    return a + b


class _AddFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        return a + b

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0], grads[0]


def dispatch_cost(figures: Path) -> Record:
    """What does a call cost before it computes anything, by the layers that it goes through?"""
    sizes = [1, 10, 100, 1_000, 10_000, 100_000]
    curves: dict[str, list[float]] = {}
    _seconds_of_an_addition(1)  # the first calls of each kind pay for imports and caches
    for n in sizes:
        for name, seconds in _seconds_of_an_addition(n).items():
            curves.setdefault(name, []).append(seconds * 1e6)
    shape = BlockShape(B=2, T=16, D=32, H=2, blocks=1)
    (block,) = blocks_of(shape, seed=0)
    x = torch.ones(shape.B, shape.T, shape.D, requires_grad=True)
    with OpCounter() as forward:
        y = block(x).sum()
    with OpCounter() as backward:
        y.backward()
    compared = list(orders())
    losses = {"single operations": cross_entropy_op_by_op, "one node": cross_entropy}
    calls = {name: _operators_of_a_loss(loss) for name, loss in losses.items()}
    metrics: dict[str, Any] = {
        "orders_compared": len(compared),
        "orders_unlike_torch": sum(theirs != ours for _, theirs, ours in compared),
        "block_forward_operators": len(forward.log),
        "block_backward_operators": len(backward.log),
        "backward_over_forward": len(backward.log) / len(forward.log),
        "loss_operators_single": calls["single operations"],
        "loss_operators_one_node": calls["one node"],
    }
    return Record(
        objective="What does an operator call cost before it computes, and how many calls is a transformer block?",
        setup="Addition of two float32 vectors of 1 to 100,000 elements, medians of 5 (timings). Operators of one "
        "pre-norm block (width 32, 2 x 16 tokens) counted below autograd, forward and backward; of the "
        "cross-entropy of 8 x 16 logits too. Kernel order of our dispatcher against PyTorch's over all "
        "registrations. Nothing is random.",
        metrics=round_metrics(metrics),
        seeds=[],
        ablation=[
            {"changed": "block, forward", "operators": len(forward.log)},
            {"changed": "block, backward", "operators": len(backward.log)},
            {"changed": "cross-entropy of single operations, both", "operators": calls["single operations"]},
            {"changed": "cross-entropy as one node, both", "operators": calls["one node"]},
        ],
        figure=plots.dispatch_cost(sizes, curves, figures / "dispatch_cost.svg"),
        found="A block is {block_forward_operators} operator calls forward and {block_backward_operators} backward. "
        "The kernels of {orders_compared} registered and called combinations run in PyTorch's order in all but "
        "{orders_unlike_torch}.",
        negative="One node for the cross-entropy saves memory, and few calls: {loss_operators_one_node} against "
        "{loss_operators_single}, because its formulas are operators too. Calls are saved by a kernel, not by a node.",
        timings={
            name: {"1 element, us": values[0], "100000 elements, us": values[-1]} for name, values in curves.items()
        },
    )


def _seconds_of_an_addition(n: int) -> dict[str, float]:
    a, b, recorded = torch.ones(n), torch.ones(n), torch.ones(n, requires_grad=True)
    table = dispatcher.Dispatcher()
    table.fallback(Key.AUTOGRAD, dispatcher.FALLTHROUGH)
    add = table.define("add")
    add.register(Key.CPU, lambda keys, a, b: Array(a.data + b.data))
    ours = Array(np.ones(n, np.float32)), Array(np.ones(n, np.float32))
    number = max(1, min(300, 300_000 // n))
    with torch.inference_mode():
        c, d = torch.ones(n), torch.ones(n)
        inference = median_seconds(lambda: c + d, 5, number)
    with OpCounter() as watched:
        mode = median_seconds(lambda: a + b, 5, number)
    watched.log.clear()
    return {
        "inference mode": inference,
        "recorded by autograd": median_seconds(lambda: recorded + b, 5, number),
        "our dispatcher, NumPy": median_seconds(lambda: add(*ours), 5, number),
        "autograd.Function": median_seconds(lambda: _AddFunction.apply(recorded, b), 5, number),
        "under a dispatch mode": mode,
        "custom_op": median_seconds(lambda: torch.ops.llmm.add_for_timing(a, b), 5, number),
    }


def _operators_of_a_loss(loss: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> int:
    logits = torch.linspace(-1, 1, 128).view(8, 16).requires_grad_()
    with OpCounter() as ops:
        loss(logits, torch.arange(8))[0].sum().backward()
    return len(ops.log)


# ---- graphs


PROGRAMS = 30  # a seed


def graph_rewrites(figures: Path) -> Record:
    """When is the same expression the same value? Our rule, PyTorch's pass, and what each leaves out."""
    rules: dict[str, Callable[[Any], Any]] = {
        "ours": remove_common_subexpressions,
        "torch.fx's pass": lambda graph: CSEPass(banned_ops=get_CSE_banned_ops())(graph).graph_module,
    }
    by_seed = [_programs_rewritten(rules, seed) for seed in SEEDS]
    found = {name: [row[name] for row in by_seed] for name in rules}
    metrics: dict[str, Any] = {
        name.replace("'s", "").replace(",", "").replace(" ", "_").replace(".", "_"): {
            "removed": spread([removed for removed, _ in rows]),
            "broken": spread([broken for _, broken in rows]),
        }
        for name, rows in found.items()
    }
    sums = programs.capture(lambda x, y: (x + 1, x + 1.0), *programs.inputs())
    metrics["types_merged"] = {
        name.replace("torch.fx's pass", "torch_fx_pass"): not programs.same(
            programs.run(rule(sums), *programs.inputs()), programs.run(sums, *programs.inputs())
        )
        for name, rule in rules.items()
    }
    network = _vision_network()
    x = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    folded = fold_batch_norm(network)
    with torch.no_grad():
        metrics["folded_error"] = float((folded(x) - network(x)).abs().max())
        for name, module in (("operators_before_folding", network), ("operators_after_folding", folded)):
            with OpCounter() as ops:
                module(x)
            metrics[name] = len(ops.log)
    metrics["folded_error_below_1e-12"] = metrics.pop("folded_error") < 1e-12
    rows = [
        (name, statistics.fmean([r[0] for r in runs]), statistics.fmean([r[1] for r in runs]))
        for name, runs in found.items()
    ]
    return Record(
        objective="When is the same expression the same value, and what does removing repetitions and batch norms take "
        "away?",
        setup=f"{PROGRAMS} random programs a seed of 12 steps (arithmetic on integers and floats, clones, draws of "
        "random numbers, changes in place), captured as aten graphs, rewritten, run from the same random state; "
        "seeds 0 to 2. Broken: a value or dtype differs. Folding: three convolutions with batch norms, float64.",
        metrics=round_metrics(metrics),
        seeds=SEEDS,
        ablation=round_metrics(
            [
                {"changed": name, "operations removed": removed, "programs broken": broken}
                for name, removed, broken in rows
            ]
        ),
        figure=plots.rewrites(rows, figures / "graph_rewrites.svg"),
        found="Our pass removes {ours[removed][mean]:.1%} of the operations and breaks {ours[broken][mean]:.0%} of the "
        "programs. Folding takes {operators_before_folding} operators to {operators_after_folding}.",
        negative="PyTorch's pass is made for functional graphs, and does not check that it got one: it breaks "
        "{torch_fx_pass[broken][mean]:.0%} of the programs. It also takes an integer 1 and a float 1 for the "
        "same argument (`types_merged`: {types_merged[torch_fx_pass]}, ours: {types_merged[ours]}), and a "
        "dtype changes.",
    )


def _programs_rewritten(rules: dict[str, Callable[[Any], Any]], seed: int) -> dict[str, tuple[float, float]]:
    """rule -> (share of operations removed, share of programs broken)."""
    before = 0
    after: dict[str, int] = dict.fromkeys(rules, 0)
    broken: dict[str, list[bool]] = {name: [] for name in rules}
    for number in range(PROGRAMS):
        program = programs.random_program(random.Random(1000 * seed + number), pure=number % 3 == 0)
        graph_module = programs.capture(program, *programs.inputs())
        wanted = programs.run(program, *programs.inputs())
        before += programs.operations(graph_module)
        for name, rule in rules.items():
            rewritten = rule(graph_module)
            after[name] += programs.operations(rewritten)
            broken[name].append(not programs.same(programs.run(rewritten, *programs.inputs()), wanted))
    return {name: (1 - after[name] / before, statistics.fmean(broken[name])) for name in rules}


def _vision_network() -> nn.Module:
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for channels in (3, 8, 8):
            layers += [nn.Conv2d(channels, 8, 3), nn.BatchNorm2d(8), nn.ReLU()]
        network = nn.Sequential(*layers).double()
        network(torch.randn(32, 3, 16, 16, dtype=torch.float64))
    return network.eval()


def _gated(x: Tensor, gate: Tensor) -> Tensor:
    """Ten element-wise operators: GELU in its tanh form of `gate`, times x."""
    inner = 0.7978845608 * (gate + 0.044715 * gate * gate * gate)
    return x * (0.5 * gate * (1 + inner.tanh()))


def compile_fusion(figures: Path) -> Record:
    """What does compiling fuse, what does it take to start, and when has it paid? Beside it, a kernel by hand."""
    x, gate = torch.linspace(-3, 3, 1 << 20).view(1024, 1024), torch.linspace(3, -3, 1 << 20).view(1024, 1024)
    with torch.no_grad():
        compiled = compile_cold(_gated, x, gate)
        with OpCounter() as ops:
            wanted = _gated(x, gate)
        error = float((compiled.run(x, gate) - wanted).abs().max())
        seconds = {
            "eager": median_seconds(lambda: _gated(x, gate), 5),
            "compiled": median_seconds(lambda: compiled.run(x, gate), 9),
        }
        weight = torch.linspace(0.5, 1.5, 1024)
        norms = {
            "op by op": lambda: rms_norm(x, weight),
            "F.rms_norm": lambda: F.rms_norm(x, (1024,), weight, 1e-6),
            "C++ kernel": lambda: rms_norm_cpp(x, weight),
        }
        norm_error = float((rms_norm_cpp(x, weight) - F.rms_norm(x, (1024,), weight, 1e-6)).abs().max())
        norm_seconds = {name: median_seconds(run, 9) for name, run in norms.items()}
    (kernels,) = compiled.kernels
    metrics: dict[str, Any] = {
        "eager_loops": len(ops.log),
        "compiled_loops": len(kernels.fused),
        "compiled_extern_calls": len(kernels.extern),
        "compiled_buffers": kernels.buffers,
        "eager_bytes_over_fused": _bytes_of(ops.log) / elementwise_cost(1, inputs=2).bytes,
        "agrees_within_1e-6": error < 1e-6,
        "cpp_kernel_agrees_within_1e-5": norm_error < 1e-5,
    }
    startup = compiled.first_call_seconds - seconds["compiled"]
    figure = plots.break_even(
        seconds["eager"],
        seconds["compiled"],
        startup,
        (len(ops.log), len(kernels.fused)),
        figures / "compile_fusion.svg",
    )
    return Record(
        objective="What does torch.compile fuse of a gated GELU, what does starting cost, and does a kernel by hand "
        "pay?",
        setup="x * gelu_tanh(gate) written out, float32 1024 x 1024, without gradient, compiled with an empty cache; "
        "loops counted in the generated program and below autograd. Bytes by the element-wise cost model. "
        "RMSNorm of the same size op by op, by PyTorch, by our C++ kernel (timings). Needs a C++ compiler. "
        "Nothing is random.",
        metrics=round_metrics(metrics),
        seeds=[],
        ablation=[
            {"changed": "eager", "loops": len(ops.log), "bytes an element": _bytes_of(ops.log)},
            {
                "changed": "compiled",
                "loops": len(kernels.fused),
                "bytes an element": elementwise_cost(1, inputs=2).bytes,
            },
        ],
        figure=figure,
        found="{eager_loops} loops over memory become {compiled_loops}, which moves 1/{eager_bytes_over_fused:.1f} of "
        "the bytes.",
        negative="The first call takes seconds where a call takes milliseconds: how many calls it takes to pay stands "
        "in the figure.",
        timings={
            "first call, s": compiled.first_call_seconds,
            "eager over compiled": seconds["eager"] / seconds["compiled"],
            "calls until it pays": startup / (seconds["eager"] - seconds["compiled"]),
            "RMSNorm, op by op over C++": norm_seconds["op by op"] / norm_seconds["C++ kernel"],
            "RMSNorm, F.rms_norm over C++": norm_seconds["F.rms_norm"] / norm_seconds["C++ kernel"],
        },
    )


def _bytes_of(log: list[str]) -> int:
    """Bytes an element that these element-wise operators move: tanh and scalar operands read one array, others two."""
    two_arrays = ("mul", "mul", "mul", "mul", "add")  # gate*gate, (..)*gate, (gate + ..), (0.5 gate)(..), x(..)
    one = len(log) - len(two_arrays)
    return elementwise_cost(1, inputs=2).bytes * len(two_arrays) + elementwise_cost(1, inputs=1).bytes * one


def graph_breaks(figures: Path) -> Record:
    """What breaks a graph, and is the break gone when the function is rewritten?"""
    lines: list[str] = []

    def branches(x: Tensor) -> Tensor:
        y = x.sin()
        return (y * 2).cos() if y.sum() > 0 else y.cos()

    def selects(x: Tensor) -> Tensor:
        y = x.sin()
        return torch.where(y.sum() > 0, y * 2, y).cos()

    def asks_for_a_number(x: Tensor) -> Tensor:
        y = x.sin()
        return (y / y.abs().max().item()).cos()

    def keeps_a_tensor(x: Tensor) -> Tensor:
        y = x.sin()
        return (y / y.abs().max()).cos()

    def reports(x: Tensor) -> Tensor:
        y = x.sin()
        lines.append(str(float(y.sum())))
        return y.cos()

    def returns_the_report(x: Tensor) -> tuple[Tensor, Tensor]:
        y = x.sin()
        return y.cos(), y.sum()

    pairs: list[tuple[str, Callable[..., Any], Callable[..., Any]]] = [
        ("if on a value", branches, selects),
        (".item() inside", asks_for_a_number, keeps_a_tensor),
        ("a line of log inside", reports, returns_the_report),
    ]
    rows, equal = [], []
    for name, before, after in pairs:
        rows.append((name, count_graphs(before, torch.linspace(0, 1, 8)), count_graphs(after, torch.linspace(0, 1, 8))))
        for x in (torch.linspace(0, 1, 8), torch.linspace(-1, 0, 8)):
            found = after(x)
            equal.append(torch.allclose(before(x), found[0] if isinstance(found, tuple) else found))
    metrics: dict[str, Any] = {
        "graphs_before": [before for _, before, _ in rows],
        "graphs_after": [after for _, _, after in rows],
        "breaks_before": rows[0][1] - 1,
        "breaks_after": rows[0][2] - 1,
        "all_equal": all(equal),
    }
    return Record(
        objective="What breaks a graph of torch.compile, and is the break gone once the function is rewritten?",
        setup="Three functions of a vector of 8, each with one thing that needs a value while tracing, and each "
        "rewritten; graphs counted by a backend that only counts, so no compiler is needed; values compared on "
        "two inputs. Nothing is random.",
        metrics=metrics,
        seeds=[],
        ablation=[
            {"changed": name, "graphs before": before, "graphs rewritten": after} for name, before, after in rows
        ],
        figure=plots.graphs(rows, figures / "graph_breaks.svg"),
        found="The branch on a value makes {breaks_before} break, torch.where makes {breaks_after}; results are equal: "
        "{all_equal}.",
    )


# ---- roofline


def roofline_points(figures: Path) -> Record:
    """Which side of the ridge is a product with m rows on?"""
    machine = measure_machine()
    width = 4096  # a weight of 67 MB: it does not stay in a cache
    weight = torch.ones(width, width)
    costs: dict[str, Cost] = {}
    points, timings = [], {}
    runs: dict[str, tuple[Cost, Callable[[], Any]]] = {}
    for m in (1, 2, 4, 8, 16, 32, 64):
        x, out = torch.ones(m, width), torch.empty(m, width)
        runs[f"m = {m}"] = matmul_cost(m, width, width), partial(torch.mm, x, weight, out=out)
    a, b, c = (torch.ones(8_000_000) for _ in range(3))
    runs["a + b"] = elementwise_cost(8_000_000, inputs=2), lambda: torch.add(a, b, out=c)
    for name, (cost, run) in runs.items():
        point = measured_point(cost, median_seconds(run, 5), machine)
        costs[name] = cost
        points.append((name, point["intensity"], point["flops_per_second"]))
        timings[name] = {"GFLOP/s": point["flops_per_second"] / 1e9, "share of the roof": point["share_of_roof"]}
    metrics: dict[str, Any] = {"intensity": {re.sub(r"\W+", "", name): cost.intensity for name, cost in costs.items()}}
    metrics["rows_for_ten_flops_a_byte"] = next(
        m for m in range(1, 100) if matmul_cost(m, width, width).intensity >= 10
    )
    return Record(
        objective="What limits a product of m rows with a weight of 4096 x 4096, memory or arithmetic?",
        setup="float32 products of (m, 4096) by (4096, 4096), m from 1 to 64, and an addition of 8 million elements; "
        "the roof is what a product of 768 x 768 and sums and dot products of 64 MB reach in the same process "
        "(timings). Nothing is random.",
        metrics=round_metrics(metrics),
        seeds=[],
        ablation=round_metrics([{"changed": name, "flops a byte": cost.intensity} for name, cost in costs.items()]),
        figure=plots.roofline(points, machine, figures / "roofline_points.svg"),
        found="One row does {intensity[m1]:.2f} flops a byte, 64 rows {intensity[m64]:.1f}: nearly m / 2. Ten flops "
        "a byte take {rows_for_ten_flops_a_byte} rows.",
        timings={"peak, GFLOP/s": machine["peak"] / 1e9, "bandwidth, GB/s": machine["bandwidth"] / 1e9, **timings},
    )
