"""What the exit criteria measure: one function each, no arguments, the same number every time."""

import copy
import itertools
import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmm.foundations.torch_internals import (
    activation_memory,
    checkpointing,
    custom_function,
    custom_op,
    dispatch_cases,
    dispatcher,
    fx_pass,
    inductor,
    programs,
    roofline,
    view_cases,
    views,
)
from llmm.foundations.torch_internals.block import BlockShape, blocks_of
from llmm.foundations.torch_internals.dispatch_autograd import differentiable, gradients
from llmm.foundations.torch_internals.dispatch_keys import Array, Key
from llmm.foundations.torch_internals.memory_runs import gradients_of, measured_bytes
from llmm.foundations.torch_internals.meters import OpCounter, SavedTensors
from llmm.ladder.expect import expect_shape, expect_type

VIEW_CASES = 2000
SHAPES = [
    BlockShape(B=2, T=48, D=32, H=4, blocks=5),
    BlockShape(B=1, T=64, D=24, H=2, blocks=4, dropout=0.0),
]


# ---- views


def views_that_differ() -> int:
    """Of `VIEW_CASES` generated cases, those in which ours and PyTorch's answers differ."""
    cases = [view_cases.random_case(random.Random(seed)) for seed in range(VIEW_CASES)]
    return sum(case.torch_says != case.ours for case in cases)


def view_answers_that_no_search_supports() -> int:
    """`view` and `view_exists` against a search of all elements: do any strides show them in the new order?"""
    wrong = 0
    for layout, shape in _layouts_and_shapes(500):
        found, searched = views.view(layout, shape), _searched_strides(layout, shape)
        wrong += (found is None) != (searched is None) or views.view_exists(layout, shape) != (searched is not None)
        if found is not None and searched is not None:
            wide = [k for k, size in enumerate(shape) if size > 1]
            wrong += [found.stride[k] for k in wide] != [searched[k] for k in wide]
    return wrong


def addresses_that_differ() -> int:
    """Equation (1): the element that `address` names is the one that PyTorch's indexing returns."""
    storage = torch.arange(view_cases.STORAGE)
    wrong = 0
    for layout, _ in _layouts_and_shapes(60):
        tensor = storage.as_strided(layout.shape, layout.stride, layout.offset)
        wrong += sum(int(tensor[index]) != views.address(layout, index) for index in np.ndindex(layout.shape))
    return wrong


def _layouts_and_shapes(count: int) -> list[tuple[views.Layout, views.Ints]]:
    """Row-major tensors with dimensions swapped and sliced, each with a shape of as many elements."""
    pairs = []
    rng = random.Random(0)
    for _ in range(count):
        sizes = [rng.choice([1, 2, 2, 3, 4]) for _ in range(rng.randrange(1, 5))]
        tensor = torch.empty(sizes).permute(rng.sample(range(len(sizes)), len(sizes)))
        if rng.random() < 0.3:
            tensor = tensor[..., ::2]
        pairs.append((view_cases.layout_of(tensor), rng.choice(_factorisations(tensor.numel()))))
    return pairs


def _factorisations(numel: int) -> list[views.Ints]:
    """All shapes of up to four dimensions without size 1 that hold `numel` elements."""
    sizes = [size for size in range(2, numel + 1) if numel % size == 0]
    shapes = [shape for n in range(1, 5) for shape in itertools.product(sizes, repeat=n) if math.prod(shape) == numel]
    return shapes or [(1,)]


def _searched_strides(layout: views.Layout, shape: views.Ints) -> views.Ints | None:
    """The strides under which `shape` shows the elements in their order, read off the addresses; None if none do.

    If any do, stride k is the way from the first element to the one with a 1 at k: equation (4).
    """
    addresses = np.array([views.address(layout, index) for index in np.ndindex(layout.shape)]).reshape(shape)
    first = addresses[(0,) * len(shape)]
    units = np.eye(len(shape), dtype=int)
    strides = tuple(
        int(addresses[tuple(unit)] - first) if size > 1 else 0 for unit, size in zip(units, shape, strict=True)
    )
    told = first + sum(np.indices(shape)[k] * step for k, step in enumerate(strides))
    return strides if np.array_equal(told, addresses) else None


# ---- a node and an operator of one's own


def cross_entropy_error() -> float:
    """Losses, log-sum-exps and their gradient against PyTorch's own in float64."""
    logits, target = _logits(5.0)
    loss, lse = custom_function.cross_entropy(logits, target)
    expect_shape("loss", loss, (6,), Tensor)
    expect_shape("lse", lse, (6,), Tensor)
    theirs = F.cross_entropy(logits, target, reduction="none") + 0.1 * logits.logsumexp(-1) ** 2
    ours = loss + 0.1 * lse**2
    weights = torch.linspace(-1, 2, 6, dtype=torch.float64)
    (grad,) = torch.autograd.grad((ours * weights).sum(), logits)
    (wanted,) = torch.autograd.grad((theirs * weights).sum(), logits)
    return max(float((ours - theirs).detach().abs().max()), float((grad - wanted).abs().max()))


def cross_entropy_derivatives() -> bool:
    """gradcheck (reverse and forward mode) and gradgradcheck of both outputs."""
    logits, target = _logits(1.0)

    def both(logits: Tensor) -> tuple[Tensor, Tensor]:
        return custom_function.cross_entropy(logits, target)

    return _passes(torch.autograd.gradcheck, both, (logits,), check_forward_ad=True) and _passes(
        torch.autograd.gradgradcheck, both, (logits,)
    )


def cross_entropy_at_extremes() -> bool:
    """Logits of +-1000 in float32 and float64: losses to 1e-6, gradients to what a log-sum-exp of 1000 can carry."""
    for dtype, digits in ((torch.float32, 1e-4), (torch.float64, 1e-12)):
        logits = torch.tensor([[1000.0, -1000.0], [-1000.0, -1000.0]], dtype=dtype, requires_grad=True)
        loss, _ = custom_function.cross_entropy(logits, torch.tensor([1, 0]))
        (grad,) = torch.autograd.grad(loss.sum(), logits)
        wanted_loss = torch.tensor([2000.0, math.log(2)], dtype=dtype)
        wanted_grad = torch.tensor([[1.0, -1.0], [-0.5, 0.5]], dtype=dtype)
        if not torch.allclose(loss, wanted_loss, rtol=1e-6) or not torch.allclose(grad, wanted_grad, atol=digits):
            return False
    return True


def cross_entropy_kept_beyond_logits() -> float:
    """Bytes kept for backward besides the logits, over the bytes of the logits (64 x 512, float32)."""
    logits = torch.randn(64, 512, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with SavedTensors() as saved:
        loss, _ = custom_function.cross_entropy(logits, torch.zeros(64, dtype=torch.int64))
    expect_shape("loss", loss, (64,), Tensor)
    return saved.bytes / (4 * logits.numel()) - 1


def _logits(scale: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = scale * torch.randn(6, 5, generator=generator, dtype=torch.float64)
    return logits.requires_grad_(), torch.tensor([0, 4, 2, 2, 1, 3])


def _passes(checker: Callable[..., bool], *args: Any, **options: Any) -> bool:
    return checker(*args, raise_exception=False, **options)


def rms_norm_error() -> float:
    """Outputs and gradients against PyTorch's rms_norm in float64, with an eps that can be seen."""
    x, weight = _rms_norm_inputs()
    y, rstd = custom_op.rms_norm(x, weight, 0.1)
    expect_shape("y", y, (3, 2, 5), Tensor)
    expect_shape("rstd", rstd, (3, 2, 1), Tensor)
    wanted = F.rms_norm(x, (5,), weight, 0.1)
    pull = torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ours = torch.autograd.grad((y * pull).sum(), (x, weight))
    theirs = torch.autograd.grad((wanted * pull).sum(), (x, weight))
    pairs = [(y, wanted), *zip(ours, theirs, strict=True)]
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


def rms_norm_derivatives() -> bool:
    """gradcheck and gradgradcheck by x and weight, of y and of rstd."""
    inputs = _rms_norm_inputs()

    def both(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        return custom_op.rms_norm(x, weight, 0.1)

    return _passes(torch.autograd.gradcheck, both, inputs) and _passes(torch.autograd.gradgradcheck, both, inputs)


def opcheck_failures() -> int:
    """Parts of torch.library.opcheck that fail, over plain float64 inputs and transposed float32 ones."""
    x, weight = _rms_norm_inputs()
    samples = [
        (x, weight, 1e-6),
        (torch.randn(4, 3, 5).transpose(0, 1), torch.ones(5), 1e-6),
    ]
    custom_op.rms_norm(*samples[0])
    operator = torch.ops.llmm.rms_norm.default
    verdicts = [torch.library.opcheck(operator, sample, raise_exception=False) for sample in samples]
    return sum(verdict != "SUCCESS" for parts in verdicts for verdict in parts.values())


def _rms_norm_inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 2, 5, generator=generator, dtype=torch.float64).requires_grad_()
    return x, (1 + torch.randn(5, generator=generator, dtype=torch.float64)).requires_grad_()


# ---- checkpointing


def checkpointed_gradient_difference() -> float:
    """Largest difference between checkpointed and plain gradients, dropout on, for every number of segments."""
    shape = SHAPES[0]
    plain = gradients_of(shape, 0, None)
    worst = 0.0
    for segments in range(1, shape.blocks + 1):
        for ours, theirs in zip(gradients_of(shape, 0, segments), plain, strict=True):
            worst = max(worst, float((ours - theirs).abs().max()))
    return worst


def random_stream_is_left_alone() -> bool:
    """The random numbers drawn after forward, and after backward, are those that a plain call leaves."""

    def drawn(run: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]) -> list[Tensor]:
        torch.manual_seed(3)
        x = torch.ones(50, requires_grad=True)
        y = run(lambda x: F.dropout(x.exp(), 0.5), x)
        after_forward = torch.rand(3)
        y.sum().backward()
        return [after_forward, torch.rand(3), expect_shape("x.grad", x.grad, (50,), Tensor)]

    plain, ours = drawn(lambda function, x: function(x)), drawn(checkpointing.checkpoint)
    return all(torch.equal(a, b) for a, b in zip(plain, ours, strict=True))


def saved_bytes_error() -> float:
    """Predicted against living bytes after forward, the largest relative difference: plain and in 1 to n segments."""
    worst = 0.0
    for shape in SHAPES:
        for segments in (None, *range(1, shape.blocks + 1)):
            live, _ = measured_bytes(shape, segments)
            worst = max(worst, abs(activation_memory.saved_bytes(shape, segments) / live - 1))
    return worst


def peak_bytes_error() -> float:
    """Predicted against measured peak of forward and backward, the largest relative difference."""
    worst = 0.0
    for shape in SHAPES:
        for segments in range(1, shape.blocks + 1):
            _, peak = measured_bytes(shape, segments)
            worst = max(worst, abs(activation_memory.peak_bytes(shape, segments) / peak - 1))
    return worst


def best_segments_that_differ() -> int:
    """`best_segments` against the smallest of all `peak`s, and against equation (14) where a = b and n is a square."""
    wrong = 0
    for blocks, ratio in itertools.product((1, 4, 9, 16, 30, 64), (0.5, 1, 3, 18)):
        peaks = [segments + math.ceil(blocks / segments) * ratio for segments in range(1, blocks + 1)]
        wrong += activation_memory.best_segments(blocks, ratio, 1) != 1 + peaks.index(min(peaks))
    return wrong + sum(activation_memory.best_segments(n * n, 1, 1) != n for n in range(1, 12))


def misuses_refused() -> int:
    """Of four misuses, those that end in a RuntimeError in backward and not in a wrong gradient."""
    weight = nn.Parameter(torch.ones(4))
    calls = itertools.count()

    def changed_argument() -> None:
        x = torch.ones(4, requires_grad=True) * 1
        y = checkpointing.checkpoint(lambda x: (x * 2).sin(), x)
        x.add_(1)
        y.sum().backward()

    def changed_parameter() -> None:
        y = checkpointing.checkpoint(lambda x: (x * weight).sin(), torch.ones(4, requires_grad=True))
        with torch.no_grad():
            weight.add_(1)
        y.sum().backward()

    def other_shape() -> None:
        y = checkpointing.checkpoint(
            lambda x: (x.sum() * torch.ones(3 + next(calls))).exp(), torch.ones(4, requires_grad=True)
        )
        y.sum().backward()

    def fewer_tensors() -> None:
        def sometimes(x: Tensor) -> Tensor:
            return x.exp() if next(calls) % 2 else x.exp().sin()

        checkpointing.checkpoint(sometimes, torch.ones(4, requires_grad=True)).sum().backward()

    return sum(
        _raises(RuntimeError, misuse) for misuse in (changed_argument, changed_parameter, other_shape, fewer_tensors)
    )


def checkpoint_in_company() -> bool:
    """Two backwards, a second derivative, a nested call, autocast, no gradient: each is as the plain call."""

    def both(run: Callable[[Callable[..., Any]], list[Tensor]]) -> bool:
        ours, plain = run(checkpointing.checkpoint), run(lambda function, *args: function(*args))
        return all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(ours, plain, strict=True))

    def twice(call: Any) -> list[Tensor]:
        x = torch.linspace(0, 1, 5, requires_grad=True)
        y = call(lambda x: x.sin().exp(), x).sum()
        return [*torch.autograd.grad(y, x, retain_graph=True), *torch.autograd.grad(y, x)]

    def second(call: Any) -> list[Tensor]:
        x = torch.linspace(0, 1, 5, requires_grad=True)
        (first,) = torch.autograd.grad(call(lambda x: x.sin().exp(), x).sum(), x, create_graph=True)
        return [first.detach(), *torch.autograd.grad(first.sum(), x)]

    def nested(call: Any) -> list[Tensor]:
        x = torch.linspace(0, 1, 5, requires_grad=True)
        y = call(lambda x: call(lambda x: x.sin().exp(), x).cos() * x, x)
        return [y.detach(), *torch.autograd.grad(y.sum(), x)]

    def autocast(call: Any) -> list[Tensor]:
        x, w = torch.linspace(0, 1, 16).view(4, 4).requires_grad_(), nn.Parameter(torch.linspace(-1, 1, 16).view(4, 4))
        with torch.autocast("cpu", torch.bfloat16):
            y = call(lambda x: (x @ w).sin() @ w, x)
        return [y.detach(), *torch.autograd.grad(y.float().sum(), (x, w))]

    def without(call: Any) -> list[Tensor]:
        with torch.no_grad():
            return [call(lambda x: x.sin(), torch.linspace(0, 1, 5, requires_grad=True))]

    return all(both(run) for run in (twice, second, nested, autocast, without))


def operations_run_again() -> int:
    """Matrix products of a block without dropout that its second run computes: all but the last, which none needs."""
    shape = SHAPES[0]
    (block,) = blocks_of(BlockShape(shape.B, shape.T, shape.D, shape.H, blocks=1, dropout=0.0), seed=0)
    x = torch.ones(shape.B, shape.T, shape.D, requires_grad=True)
    loss = checkpointing.checkpoint(block, x).sum()
    with OpCounter() as ops:
        loss.backward()
    return ops.calls["addmm"]


def _raises(kind: type[Exception], run: Callable[[], None]) -> bool:
    try:
        run()
    except NotImplementedError:  # a RuntimeError too, but no refusal
        raise
    except kind:
        return True
    return False


# ---- dispatcher


def dispatch_orders_that_differ() -> int:
    """Over all registrations and situations, those in which other kernels run, or in another order, than in PyTorch."""
    return sum(theirs != ours for _, theirs, ours in dispatch_cases.orders())


def dispatched_gradient_error() -> float:
    """Autograd as a kernel: gradients of sum(relu(x @ w) * x + x) against PyTorch's, float64."""
    table, ops = _small_library()
    rng = np.random.default_rng(0)
    values = rng.normal(size=(4, 4)), rng.normal(size=(4, 4))
    x, w = (Array(value, requires_grad=True) for value in values)
    output = ops["add"](ops["mul"](ops["relu"](ops["matmul"](x, w)), x), x)
    ours = gradients(output, [x, w], table.operators["add"])
    tx, tw = (torch.tensor(value, requires_grad=True) for value in values)
    theirs = torch.autograd.grad(((tx @ tw).relu() * tx + tx).sum(), (tx, tw))
    return max(
        float(np.abs(np.asarray(expect_type("a gradient", a, Array).data) - b.numpy()).max())
        for a, b in zip(ours, theirs, strict=True)
    )


def modes_see_forward_and_backward() -> bool:
    """Two stacked modes see each operator once, the inner one first, forward and backward; outside nothing."""
    table, ops = _small_library()
    seen: list[str] = []

    def watcher(name: str) -> Callable[..., Any]:
        def watch(operator: dispatcher.Operator, *args: Any) -> Any:
            seen.append(f"{name}:{operator.name}")
            return operator(*args)

        return watch

    x = Array(np.ones((2, 2)), requires_grad=True)
    with dispatcher.mode(watcher("outer")), dispatcher.mode(watcher("inner")):
        y = ops["mul"](x, x)
        gradients(y, [x], table.operators["add"])
    ops["mul"](x, x)
    names = ["mul", "mul", "mul", "add"]
    return seen == [f"{watch}:{name}" for name in names for watch in ("inner", "outer")]


def switches_and_tables() -> bool:
    """Excluding, including, meta arrays without data, lists of arrays, and errors that name operator and keys."""
    _, ops = _small_library()
    x = Array(np.ones((2, 3)), requires_grad=True)
    with dispatcher.excluded(Key.AUTOGRAD):
        silent = ops["relu"](x)
    recorded = ops["relu"](x)
    shape_only = ops["relu"](Array(shape=(2, 3)))
    joined = ops["cat"]([x, x])
    table = ops["relu"].table()
    message = ""
    try:
        ops["cat"]([Array(shape=(2, 3))])
    except NotImplementedError as error:
        message = str(error)
    return (
        (silent.requires_grad, recorded.requires_grad) == (False, True)
        and (shape_only.data is None and shape_only.shape == (2, 3))
        and joined.shape == (4, 3)
        and table
        == {"AUTOCAST": "fallthrough", "AUTOGRAD": "kernel", "PYTHON": "fallback", "CPU": "kernel", "META": "kernel"}
        and "cat" in message
        and "META" in message
    )


def _small_library() -> tuple[dispatcher.Dispatcher, dict[str, dispatcher.Operator]]:
    """add, mul, relu, matmul with derivatives; cat on the CPU only."""
    table = dispatcher.Dispatcher()
    table.fallback(Key.AUTOGRAD, dispatcher.FALLTHROUGH)
    table.fallback(Key.AUTOCAST, dispatcher.FALLTHROUGH)
    table.fallback(Key.PYTHON, dispatcher.python_fallback)
    kernels: dict[str, Callable[..., Any]] = {
        "add": np.add, "mul": np.multiply, "matmul": np.matmul, "relu": lambda x: np.maximum(x, 0),
        "step": lambda x: (x > 0) * 1.0, "transpose": np.transpose, "cat": lambda arrays: np.concatenate(arrays),
    }  # fmt: skip
    ops = {name: table.define(name) for name in kernels}
    for name, kernel in kernels.items():
        ops[name].register(Key.CPU, lambda keys, *args, kernel=kernel: Array(kernel(*map(_numbers, args))))
    ops["relu"].register(Key.META, lambda keys, x: Array(shape=x.shape))
    vjps: dict[str, Callable[..., list[Array]]] = {
        "add": lambda grad, a, b: [grad, grad],
        "mul": lambda grad, a, b: [ops["mul"](grad, b), ops["mul"](grad, a)],
        "relu": lambda grad, x: [ops["mul"](grad, ops["step"](x))],
        "matmul": lambda grad, a, b: [
            ops["matmul"](grad, ops["transpose"](b)), ops["matmul"](ops["transpose"](a), grad),
        ],
    }  # fmt: skip
    for name, vjp in vjps.items():
        ops[name].register(Key.AUTOGRAD, differentiable(ops[name], vjp))
    return table, ops


def _numbers(value: Any) -> Any:
    return [item.data for item in value] if isinstance(value, list) else value.data


# ---- graphs


def programs_changed_by_rewriting() -> int:
    """Of 50 random programs (in-place and random steps among them), those whose values or dtypes the pass changes."""
    changed = 0
    for seed in range(50):
        program = programs.random_program(random.Random(seed))
        rewritten = fx_pass.remove_common_subexpressions(programs.capture(program, *programs.inputs()))
        changed += not programs.same(
            programs.run(rewritten, *programs.inputs()), programs.run(program, *programs.inputs())
        )
    return changed


def repetitions_left() -> int:
    """Operations of 30 random pure programs that are still done twice afterwards, by structural equality."""
    left = 0
    for seed in range(30):
        program = programs.random_program(random.Random(seed), pure=True)
        graph_module = programs.capture(program, *programs.inputs())
        distinct = len(set(_structures(graph_module)))
        left += abs(programs.operations(fx_pass.remove_common_subexpressions(graph_module)) - distinct)
    return left


def _structures(graph_module: torch.fx.GraphModule) -> list[str]:
    """Each operation written out as a term over the inputs: equal terms are equal values."""
    terms: dict[torch.fx.Node, str] = {}
    for node in graph_module.graph.nodes:
        if node.op == "placeholder":
            terms[node] = node.name
        elif node.op == "call_function":
            written = torch.fx.node.map_arg((node.args, node.kwargs), lambda argument: terms[argument])
            terms[node] = f"{node.target}{written}"
    return [term for node, term in terms.items() if node.op == "call_function"]


def folding_error() -> float:
    """Batch norms folded into linear and convolutional layers: largest relative difference of outputs, float64."""
    worst = 0.0
    for network, x in _networks():
        before = copy.deepcopy(network.state_dict())
        wanted, found = network(x), fx_pass.fold_batch_norm(network)(x)
        worst = max(worst, float(((found - wanted).abs().max() / wanted.abs().max()).detach()))
        unchanged = all(
            torch.equal(before[name], value)
            for name, value in network.state_dict().items()
            if value.is_floating_point()
        )
        worst = worst if unchanged else math.inf
    return worst


def batch_norms_left() -> int:
    """Batch norms left in each of the five networks, a digit each: 101 is none, none, one, none, one."""
    left = 0
    for network, _ in _networks():
        modules = fx_pass.fold_batch_norm(network).modules()
        left = 10 * left + sum(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in modules)
    return left


def _networks() -> list[tuple[nn.Module, Tensor]]:
    """A chain, a convolution, a layer used elsewhere too, two norms in a row, and one norm that is in training."""
    generator = torch.Generator().manual_seed(0)

    class UsedTwice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.layer(x)
            return self.norm(hidden) + hidden

    training = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    networks = [
        nn.Sequential(
            nn.Linear(4, 5), nn.BatchNorm1d(5, eps=0.1), nn.ReLU(), nn.Linear(5, 3, bias=False), nn.BatchNorm1d(3)
        ),
        nn.Sequential(
            nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, affine=False)
        ),
        UsedTwice(),
        nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.BatchNorm1d(4)),
        training,
    ]
    found: list[tuple[nn.Module, Tensor]] = []
    for network in networks:
        network.double().eval()
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype) + 0.2)
        has_images = any(isinstance(module, nn.Conv2d) for module in network.modules())
        size = (3, 2, 6, 6) if has_images else (7, 4)
        found.append((network, torch.randn(size, generator=generator, dtype=torch.float64)))
    training[1].momentum = 0.0  # in training it takes the statistics of the batch, and here keeps none
    training[1].train()
    return found


def graphs_before_and_after() -> int:
    """Graphs of a function that branches on a value, times ten, plus those of one that selects: 21 is 2, 1."""

    def branches(x: Tensor) -> Tensor:
        y = x.sin()
        return (y * 2).cos() if y.sum() > 0 else y.cos()

    def selects(x: Tensor) -> Tensor:
        y = x.sin()
        return torch.where(y.sum() > 0, y * 2, y).cos()

    x = torch.linspace(0, 1, 8)
    return 10 * inductor.count_graphs(branches, x) + inductor.count_graphs(selects, x)


def kernels_misread() -> int:
    """Kernels that `read_kernels` reads wrongly in a generated program kept as text."""
    program = """
cpp_fused_gelu_0 = async_compile.cpp_pybinding(['float*'], '''...''')
cpp_fused_add_1 = async_compile.cpp_pybinding(['float*'], '''cpp_fused_gelu_0(buf0)''')

class Runner:
    def call(self, args):
        buf0 = empty_strided_cpu((64, 64), (64, 1), torch.float32)
        extern_kernels.mm(arg0_1, arg1_1, out=buf0)
        buf1 = buf0; del buf0  # reuse
        cpp_fused_gelu_0(buf1)
        buf2 = empty_strided_cpu((64, 32), (32, 1), torch.float32)
        extern_kernels.addmm(arg0_1, buf1, arg2_1, alpha=1, beta=1, out=buf2)
        cpp_fused_gelu_0(buf2)
        buf3 = torch.ops.aten.sort.stable(buf2, stable=False)
        cpp_fused_add_1(buf2)
        return (buf2, )
"""
    found = inductor.read_kernels(program)
    wanted = (["cpp_fused_gelu_0", "cpp_fused_gelu_0", "cpp_fused_add_1"], ["mm", "addmm", "sort"], 2)
    return sum(a != b for a, b in zip((found.fused, found.extern, found.buffers), wanted, strict=True))


# ---- roofline


def flops_that_differ() -> int:
    """`matmul_cost` against PyTorch's flop counter, over sizes."""
    from torch.utils.flop_counter import FlopCounterMode

    difference = 0
    for m, k, n in itertools.product((1, 7, 64), repeat=3):
        with FlopCounterMode(display=False) as counter:
            torch.empty(m, k) @ torch.empty(k, n)
        difference += abs(roofline.matmul_cost(m, k, n).flops - counter.get_total_flops())
    return difference


def roofline_error() -> float:
    """Equation (17) and what follows from it, the largest relative difference over operations and machines."""
    costs = [
        roofline.matmul_cost(64, 64, 64),
        roofline.matmul_cost(1, 512, 512, itemsize=2),
        roofline.elementwise_cost(1000, inputs=2),
        roofline.fused_cost(1000, inputs=2, flops_each=[1, 4, 1]),
    ]
    wanted_bytes = [4 * 3 * 64 * 64, 2 * (512 + 512 * 512 + 512), 4 * 3000, 4 * 3000]
    wanted_flops = [2 * 64**3, 2 * 512 * 512, 1000, 6000]
    worst = 0.0
    for cost, size, flops in zip(costs, wanted_bytes, wanted_flops, strict=True):
        worst = max(worst, abs(cost.bytes / size - 1), abs(cost.flops / flops - 1))
        for peak, bandwidth in ((1e11, 1e10), (1e9, 1e10), (64.0, 6.0)):
            seconds = max(flops / peak, size / bandwidth)
            worst = max(
                worst,
                abs(roofline.least_seconds(cost, peak, bandwidth) / seconds - 1),
                abs(roofline.attainable(cost, peak, bandwidth) * seconds / flops - 1),
                abs(roofline.ridge(peak, bandwidth) * bandwidth / peak - 1),
            )
    return worst
