"""PyTorch's inside: views, nodes and operators of one's own, checkpoints, the dispatcher, graphs, the roofline."""

import itertools
import math
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from llmm.errors import UserError
from llmm.foundations.torch_internals import (
    activation_memory,
    cache_lines,
    checks,
    compilers,
    cpp_kernel,
    programs,
    roofline,
    view_cases,
    views,
)
from llmm.foundations.torch_internals.block import Block, BlockShape, blocks_of
from llmm.foundations.torch_internals.checkpointing import checkpoint, checkpoint_sequential
from llmm.foundations.torch_internals.custom_function import cross_entropy, cross_entropy_op_by_op
from llmm.foundations.torch_internals.custom_op import rms_norm
from llmm.foundations.torch_internals.dispatch_keys import Array, Key
from llmm.foundations.torch_internals.dispatcher import Dispatcher
from llmm.foundations.torch_internals.experiments import _KeepsProbabilities
from llmm.foundations.torch_internals.fx_pass import fold_batch_norm, remove_common_subexpressions
from llmm.foundations.torch_internals.inductor import compile_cold, count_graphs
from llmm.foundations.torch_internals.machine import measured_point
from llmm.foundations.torch_internals.meters import OpCounter, SavedTensors, StorageLedger, median_seconds
from llmm.foundations.torch_internals.views import Layout

sizes = st.integers(0, 4)
needs_compiler = pytest.mark.skipif(compilers.find_compiler() is None, reason="no C++ compiler")


# ---- views


@settings(max_examples=600, deadline=None)
@given(st.randoms(use_true_random=False))
def test_view_arithmetic_equals_torch(rng: random.Random) -> None:
    case = view_cases.random_case(rng)
    assert case.ours == case.torch_says, case.question


@settings(max_examples=200, deadline=None)
@given(st.lists(sizes, max_size=4), st.data())
def test_every_factorisation_is_judged_as_torch_does(shape: list[int], data: st.DataObject) -> None:
    tensor = torch.empty(shape).permute(data.draw(st.permutations(range(len(shape)))))
    assume(tensor.numel() > 0)
    target = data.draw(st.sampled_from(checks._factorisations(tensor.numel())))
    found = views.reshape(view_cases.layout_of(tensor), target)
    shares = tensor.reshape(target).untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()
    assert found.copied == (not shares)
    assert found.layout.stride == tensor.reshape(target).stride()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.lists(st.integers(0, 9), min_size=4, max_size=4))
def test_equation_1_the_address_of_an_element(shape: list[int], stride: list[int]) -> None:
    layout = Layout(tuple(shape), tuple(stride[: len(shape)]), 5)
    tensor = torch.arange(500).as_strided(layout.shape, layout.stride, layout.offset)
    for index in np.ndindex(*shape):
        assert tensor[index].item() == views.address(layout, index)


def test_equation_2_steps_depend_on_the_highest_carry_only() -> None:
    layout = Layout((3, 4, 5), (100, 7, 2))
    addresses = [views.address(layout, index) for index in np.ndindex(*layout.shape)]
    steps: dict[int, set[int]] = {}
    for p in range(1, 60):
        carry = max(k for k, unit in enumerate((1, 5, 20)) if p % unit == 0)
        steps.setdefault(carry, set()).add(addresses[p] - addresses[p - 1])
    assert steps == {0: {2}, 1: {7 - 4 * 2}, 2: {100 - 4 * 2 - 3 * 7}}


def test_equation_3_runs_are_where_the_step_does_not_change() -> None:
    assert views.chunks(Layout((2, 3, 4), (12, 4, 1))) == [(24, 1)]
    assert views.chunks(Layout((4, 6), (1, 4))) == [(6, 4), (4, 1)]
    assert views.chunks(Layout((5, 1, 2, 3), (20, 999, 3, 1))) == [(6, 1), (5, 20)]


def test_theorem_2_a_view_exists_iff_every_cut_of_the_runs_is_a_cut_of_the_shape() -> None:
    assert checks.view_answers_that_no_search_supports() == 0


def test_equation_4_strides_of_a_view_are_addresses() -> None:
    layout = Layout((6, 4), (8, 1), 3)
    seen = views.view(layout, (2, 3, 2, 2))
    assert seen is not None
    at = [views.address(layout, index) for index in np.ndindex(6, 4)]
    assert seen.stride == tuple(at[unit] - at[0] for unit in (12, 4, 2, 1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: views.select(Layout((2,), (1,)), 0, 2), "outside dimension 0"),
        (lambda: views.slice_(Layout((2,), (1,)), 0, step=-1), "step -1"),
        (lambda: views.as_strided(10, (2, 2), (9, 1)), "the last element would lie at 10"),
        (lambda: views.expand(Layout((2,), (1,)), (3,)), "does not expand"),
        (lambda: views.unfold(Layout((2,), (1,)), 0, 3, 1), "windows of 3"),
        (lambda: views.view(Layout((6,), (1,)), (4, -1)), "do not fill"),
        (lambda: views.view(Layout((6,), (1,)), (-1, -1)), "no shape"),
        (lambda: views.permute(Layout((2, 2), (2, 1)), (0, 0)), "no order"),
        (lambda: views.transpose(Layout((2,), (1,)), 0, 1), "dimension 1 of a tensor of 1"),
        (lambda: views.diagonal(Layout((2, 2), (2, 1)), 0, 1, 1), "two dimensions"),
        (lambda: views.address(Layout((2, 2), (2, 1)), (0, 2)), "outside a tensor"),
    ],
)
def test_what_is_no_view_is_refused_in_words(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


# ---- a node and an operator of one's own


def test_equations_5_to_7_cross_entropy_and_its_derivatives() -> None:
    assert checks.cross_entropy_error() < 1e-12
    assert checks.cross_entropy_derivatives()


def test_cross_entropy_hessian_is_diag_p_minus_p_p() -> None:
    logits = torch.randn(3, 4, dtype=torch.float64)
    hessian = torch.func.hessian(lambda z: cross_entropy(z, torch.tensor([0, 3, 1]))[0].sum())(logits)
    for row, p in enumerate(logits.softmax(-1)):
        assert torch.allclose(hessian[row, :, row], p.diag() - p.outer(p), atol=1e-14)


@given(st.integers(1, 6), st.integers(1, 7), st.floats(0.01, 300))
@settings(max_examples=60, deadline=None)
def test_cross_entropy_equals_torch(rows: int, vocabulary: int, scale: float) -> None:
    logits = scale * torch.randn(rows, vocabulary, dtype=torch.float64)
    target = torch.randint(vocabulary, (rows,))
    loss, lse = cross_entropy(logits, target)
    assert torch.allclose(loss, F.cross_entropy(logits, target, reduction="none"), rtol=1e-12, atol=1e-12)
    assert torch.allclose(lse, logits.logsumexp(-1), rtol=1e-12, atol=1e-12)


def test_fused_and_single_operations_agree() -> None:
    logits, target = torch.randn(5, 6, dtype=torch.float64), torch.arange(5)
    for ours, plain in zip(cross_entropy(logits, target), cross_entropy_op_by_op(logits, target), strict=True):
        assert torch.allclose(ours, plain, atol=1e-13)


def test_cross_entropy_under_vmap_and_with_no_rows() -> None:
    logits, target = torch.randn(3, 4, 5), torch.randint(5, (3, 4))
    batched, _ = torch.func.vmap(cross_entropy)(logits, target)
    assert torch.allclose(batched, torch.stack([cross_entropy(*pair)[0] for pair in zip(logits, target, strict=True)]))
    assert cross_entropy(torch.empty(0, 5), torch.empty(0, dtype=torch.int64))[0].shape == (0,)


def test_a_node_that_keeps_its_probabilities_passes_gradcheck_and_not_gradgradcheck() -> None:
    logits = torch.linspace(-1, 1, 12, dtype=torch.float64).view(3, 4).requires_grad_()

    def loss(logits: Tensor) -> Tensor:
        return _KeepsProbabilities.apply(logits, torch.tensor([0, 3, 1]))

    assert torch.autograd.gradcheck(loss, (logits,))
    assert not torch.autograd.gradgradcheck(loss, (logits,), raise_exception=False)


def test_cross_entropy_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match="logits"):
        cross_entropy(torch.ones(2, 3), torch.zeros(3, dtype=torch.int64))


def test_equations_8_to_10_rms_norm_and_its_derivatives() -> None:
    assert checks.rms_norm_error() < 1e-12
    assert checks.rms_norm_derivatives()


def test_rms_norm_is_an_operator_that_compilers_see() -> None:
    x, weight = torch.randn(2, 8), torch.randn(8)
    seen = programs.capture(lambda x, w: rms_norm(x, w)[0], x, weight)
    assert any(node.target is torch.ops.llmm.rms_norm.default for node in seen.graph.nodes)
    assert count_graphs(lambda x: rms_norm(x.sin(), weight)[0].cos(), x) == 1
    with torch.device("meta"):
        y, rstd = rms_norm(torch.empty(3, 8), torch.empty(8))
    assert (y.shape, rstd.shape) == ((3, 8), (3, 1))
    with pytest.raises(ValueError, match="does not fit"):
        rms_norm(x, torch.ones(7))


def test_opcheck_passes() -> None:
    assert checks.opcheck_failures() == 0


# ---- checkpoints


def test_checkpointed_gradients_are_equal_bit_by_bit() -> None:
    assert checks.checkpointed_gradient_difference() == 0
    assert checks.random_stream_is_left_alone()
    assert checks.checkpoint_in_company()


def test_the_second_run_stops_early_and_happens_once() -> None:
    assert checks.operations_run_again() == 3
    runs = []

    def function(x: Tensor) -> Tensor:
        runs.append(1)
        return x.sin().exp().sin()

    checkpoint(function, torch.ones(3, requires_grad=True)).sum().backward()
    assert len(runs) == 2


def test_nothing_is_kept_that_can_be_computed_again() -> None:
    x = torch.ones(1000, requires_grad=True)
    with StorageLedger() as ledger:
        y = checkpoint(lambda x: x.sin().exp().tanh(), x)
        assert ledger.live == 4000
        y.sum().backward()


def test_a_failing_second_run_leaves_the_random_state_alone() -> None:
    calls = itertools.count()

    def fails_later(x: Tensor) -> Tensor:
        if next(calls):
            raise KeyError("second run")
        return x.exp()

    y = checkpoint(fails_later, torch.ones(3, requires_grad=True)).sum()
    state = torch.get_rng_state()
    with pytest.raises(KeyError, match="second run"):
        y.backward()
    assert torch.equal(torch.get_rng_state(), state)


def test_misuse_is_refused() -> None:
    assert checks.misuses_refused() == 4
    with pytest.raises(ValueError, match="3 segments of 2 blocks"):
        checkpoint_sequential([torch.sin, torch.cos], 3, torch.ones(2))


def test_arguments_that_are_no_tensors_pass_through() -> None:
    x = torch.ones(3, requires_grad=True)
    checkpoint(lambda x, power, name: x.exp() ** power if name else x, x, 2, "name").sum().backward()
    assert torch.allclose(expect(x.grad), 2 * torch.full((3,), math.e**2))


def test_equations_11_and_12_saved_bytes() -> None:
    assert checks.saved_bytes_error() < 1e-9
    shape = BlockShape(B=2, T=8, D=16, H=2, blocks=1, dropout=0.2)
    (block,) = blocks_of(shape, seed=0)
    with SavedTensors(block) as saved:
        result = block(torch.randn(2, 8, 16, requires_grad=True))
    assert saved.bytes == activation_memory.block_bytes(shape)
    del result


def test_equations_13_and_14_peak_and_the_best_number_of_segments() -> None:
    assert checks.peak_bytes_error() < 1e-3
    assert checks.best_segments_that_differ() == 0
    for n, a, b in ((10_000, 1, 1), (10_000, 9, 1), (40_000, 1, 4)):
        best = activation_memory.best_segments(n, a, b)
        assert best == pytest.approx(math.sqrt(n * a / b), rel=0.05)
        assert activation_memory.peak(n, a, b, best) == pytest.approx(2 * math.sqrt(n * a * b), rel=0.01)


def test_blocks_leave_the_global_random_state_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second = blocks_of(BlockShape(1, 2, 8, 2, 2), seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert isinstance(first, Block)
    assert not torch.equal(first.qkv.weight, second.qkv.weight)


# ---- dispatcher


def test_kernels_run_in_the_order_of_torch() -> None:
    assert checks.dispatch_orders_that_differ() == 0


def test_autograd_modes_and_switches_of_the_dispatcher() -> None:
    assert checks.dispatched_gradient_error() < 1e-12
    assert checks.modes_see_forward_and_backward()
    assert checks.switches_and_tables()


def test_an_operator_is_defined_once_and_called_with_arrays() -> None:
    table = Dispatcher()
    operator = table.define("f")
    with pytest.raises(ValueError, match="defined already"):
        table.define("f")
    with pytest.raises(NotImplementedError, match="no key"):
        operator(1, 2)
    operator.register(Key.CPU, lambda keys, x: keys)
    assert operator(Array([1.0], autograd=False)) == {Key.CPU}


# ---- graphs


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False))
def test_rewriting_changes_no_value(rng: random.Random) -> None:
    program = programs.random_program(rng)
    captured = programs.capture(program, *programs.inputs())
    rewritten = remove_common_subexpressions(captured)
    assert programs.same(programs.run(rewritten, *programs.inputs(1)), programs.run(captured, *programs.inputs(1)))


def test_rewriting_takes_out_every_repetition() -> None:
    assert checks.repetitions_left() == 0
    captured = programs.capture(lambda x, y: (x.double().sin() + y) * (x.double().sin() + y), *programs.inputs())
    assert [programs.operations(graph) for graph in (captured, remove_common_subexpressions(captured))] == [7, 4]


def test_a_write_keeps_what_was_before_it_apart() -> None:
    def function(x: Tensor, y: Tensor) -> Tensor:
        first, second = y.sin(), y.sin()
        second.add_(1)
        return first

    captured = programs.capture(function, *programs.inputs())
    found = programs.run(remove_common_subexpressions(captured), *programs.inputs())
    assert torch.equal(found[0], programs.inputs()[1].sin()[0])


def test_equations_15_and_16_a_batch_norm_folds_into_the_layer() -> None:
    assert checks.folding_error() < 1e-12
    assert checks.batch_norms_left() == 101
    layer, norm = nn.Linear(3, 2), nn.BatchNorm1d(2, eps=0.5)
    norm.running_mean, norm.running_var = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 0.5])
    folded = fold_batch_norm(nn.Sequential(layer, norm).eval()).get_submodule("0")
    s = norm.weight / torch.sqrt(norm.running_var + 0.5)
    assert torch.allclose(folded.weight, s[:, None] * layer.weight)
    assert torch.allclose(folded.bias, s * (layer.bias - norm.running_mean) + norm.bias)


def test_graph_breaks_go_when_the_branch_goes() -> None:
    assert checks.graphs_before_and_after() == 21


def test_generated_programs_are_read() -> None:
    assert checks.kernels_misread() == 0


@needs_compiler
def test_inductor_fuses_a_chain_into_one_loop() -> None:
    compiled = compile_cold(lambda x: (x * 2 + 1).tanh().exp(), torch.ones(64, 64))
    (kernels,) = compiled.kernels
    assert (len(kernels.fused), kernels.extern, kernels.buffers) == (1, [], 1)
    assert torch.allclose(compiled.run(torch.ones(64, 64)), torch.tensor(3.0).tanh().exp().expand(64, 64))


@needs_compiler
def test_the_cpp_kernel_is_rms_norm() -> None:
    x, weight = torch.randn(6, 33).T, torch.randn(6)
    assert torch.allclose(cpp_kernel.rms_norm_cpp(x, weight), F.rms_norm(x, (6,), weight, 1e-6), atol=1e-5)
    assert cpp_kernel.rms_norm_cpp(torch.empty(0, 6), weight).shape == (0, 6)
    verdict = torch.library.opcheck(cpp_kernel.load(), (x.contiguous(), weight, 1e-6), raise_exception=False)
    assert set(verdict.values()) == {"SUCCESS"}


def test_without_a_compiler_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    cpp_kernel.load.cache_clear()
    for call in (
        lambda: compile_cold(torch.sin, torch.ones(2)),
        lambda: cpp_kernel.rms_norm_cpp(torch.ones(2, 2), torch.ones(2)),
    ):
        with pytest.raises(UserError, match=r"needs a C\+\+ compiler, and none of g\+\+, clang\+\+"):
            call()
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match="CXX names no-such-compiler"):
        compilers.require_compiler("a test")


@pytest.mark.parametrize(
    ("x", "weight"),
    [
        (torch.ones(2, 2, dtype=torch.float64), torch.ones(2)),
        (torch.ones(2, 3), torch.ones(2)),
        (torch.ones(()), torch.ones(1)),
    ],
)
def test_the_cpp_kernel_refuses_what_it_cannot_read(x: Tensor, weight: Tensor) -> None:
    with pytest.raises(ValueError, match=r"float32|does not fit"):
        cpp_kernel.rms_norm_cpp(x, weight)


# ---- roofline, cache, meters


def test_equation_17_the_roof() -> None:
    assert checks.roofline_error() < 1e-12
    assert checks.flops_that_differ() == 0
    assert roofline.matmul_cost(600, 600, 600).intensity == pytest.approx(600 / 6)
    point = measured_point(roofline.Cost(flops=100, bytes=10), seconds=2.0, machine={"peak": 1000.0, "bandwidth": 10.0})
    assert point == {"intensity": 10.0, "flops_per_second": 50.0, "share_of_roof": 0.5}


def test_fusing_saves_bytes_and_no_flops() -> None:
    apart = roofline.elementwise_cost(100, 2) + roofline.elementwise_cost(100, 1)
    fused = roofline.fused_cost(100, 2, [1, 1])
    assert (fused.flops, fused.bytes) == (apart.flops, apart.bytes - 800)


def test_the_cache_forgets_the_line_that_was_used_longest_ago() -> None:
    cache = cache_lines.Cache(sets=1, ways=2, line_bytes=4)
    assert cache.fetches([0, 1, 4, 0, 8, 0, 4]) == 4  # 0, 4, 8, and 4 again: 0 was used after it


@pytest.mark.parametrize(
    ("n", "tile", "expected"),
    [
        (64, None, 1),
        (400, None, 1),
        (512, None, 16),
        (528, None, 1 + 15 * 144 / 528),
        (512, (16, 16), 1),
        (1024, (16, 16), 16),
        (1024, (16, 8), 1),
    ],
)
def test_equation_18_lines_fetched_for_a_transposed_copy(n: int, tile: tuple[int, int] | None, expected: float) -> None:
    order = cache_lines.row_order(n, n) if tile is None else cache_lines.tile_order(n, n, *tile)
    assert cache_lines.fetches_per_line(n, order, transposed=True) == pytest.approx(expected, rel=1e-12)


def test_a_plain_copy_fetches_each_line_once_and_tiles_cover_everything() -> None:
    assert cache_lines.fetches_per_line(100, cache_lines.row_order(100, 100), transposed=False) == 1
    assert sorted(cache_lines.tile_order(5, 7, 2, 3)) == sorted(cache_lines.row_order(5, 7))


def test_meters_count_calls_and_bytes() -> None:
    with OpCounter() as ops:
        (torch.ones(3) + 1).sum()
    assert ops.calls == {"ones": 1, "add": 1, "sum": 1}
    with StorageLedger() as ledger:
        a = torch.ones(250)
        b = a.view(50, 5)
        c = a + 1
        assert ledger.live == 2000
        del a, c
        assert ledger.live == 1000
        del b
        assert (ledger.live, ledger.peak) == (0, 2000)
    assert median_seconds(lambda: None, repeats=3) < 0.01


def expect(value: Tensor | None) -> Tensor:
    assert value is not None
    return value
