"""M2: the engine is torch's to rounding on any shape, every formula of the README holds, layers and training work."""

import doctest
import gc
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from llmm.foundations.neural_network import (
    Tensor,
    concatenate,
    functional,
    grad,
    hessian_vector_product,
    jvp,
    no_grad,
    tensor,
)
from llmm.foundations.neural_network.broadcasting import unbroadcast
from llmm.foundations.neural_network.convolution import conv2d
from llmm.foundations.neural_network.deep_linear import mode_curve
from llmm.foundations.neural_network.gradcheck import gradcheck, gradgradcheck
from llmm.foundations.neural_network.graph import edges, topological_order
from llmm.foundations.neural_network.initialisation import he_normal, orthogonal, xavier_normal
from llmm.foundations.neural_network.layers import MLP, BatchNorm, Dropout, Embedding, LayerNorm, Linear, Module
from llmm.foundations.neural_network.oracle import CASES, MEASURES, Case, chooser, error, stretchable, value_error
from llmm.foundations.neural_network.tensor import enable_grad, maximum, stack, where
from llmm.foundations.neural_network.training import SGD, TrainingConfig, accuracy, fit, minibatches
from llmm.foundations.neural_network.windows import overlap_add, windows

RNG = np.random.default_rng(0)


def leaf(*shape: int) -> Tensor:
    return Tensor(RNG.standard_normal(shape), requires_grad=True)


# --- against torch ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(data=st.data())
def test_operation_is_torchs(name: str, data: st.DataObject) -> None:
    case = CASES[name](lambda options: data.draw(st.sampled_from(list(options))))
    numbers = np.random.default_rng(data.draw(st.integers(0, 1000), label="seed"))
    for measure, of in MEASURES.items():
        assert of(case, numbers) <= 1e-10, measure


def test_a_wrong_derivative_is_seen_by_the_oracle_and_by_gradcheck() -> None:
    def half(x: Tensor) -> Tensor:  # the value of x², half of its derivative
        return x * x.detach()

    case = Case(half, lambda x: x * x, [(3,)])
    assert value_error(case, np.random.default_rng(0)) == 0
    assert all(MEASURES[mode](case, np.random.default_rng(0)) > 0.01 for mode in ("vjp", "jvp", "double"))
    assert gradcheck(half, np.ones(3)) > 0.01
    assert gradcheck(lambda x: x * x, np.ones(3)) < 1e-9

    def flat(x: Tensor) -> Tensor:  # the first derivative is right, the second is lost
        return x.exp() - x.exp().detach() + x.exp().detach() * (x - x.detach())

    assert gradgradcheck(flat, np.ones(3)) > 0.01


@settings(max_examples=60, deadline=None, derandomize=True)
@given(name=st.sampled_from(sorted(CASES)), seed=st.integers(0, 10_000))
def test_vjp_is_the_transpose_of_jvp(name: str, seed: int) -> None:
    """Equation (3): ⟨u, J v⟩ = ⟨Jᵀ u, v⟩."""
    rng = np.random.default_rng(seed)
    case = CASES[name](chooser(rng))
    xs = [Tensor(rng.uniform(0.5, 2, shape), requires_grad=True) for shape in case.shapes]
    vs = [rng.standard_normal(shape) for shape in case.shapes]
    y, tangent = jvp(case.ours, xs, vs)
    u = rng.standard_normal(y.shape)
    pulled = grad(case.ours(*xs), xs, u)
    left, right = np.sum(u * tangent.data), sum(np.sum(g.data * v) for g, v in zip(pulled, vs, strict=True))
    assert left == pytest.approx(right, rel=1e-10, abs=1e-10)


# --- the formulas of the README ---------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000))
def test_adjoint_of_broadcasting(seed: int) -> None:
    """Equation (6), with the matrix B written out: one unit vector broadcast for each of its columns."""
    choose = chooser(np.random.default_rng(seed))
    shape = tuple(choose(range(4)) for _ in range(choose(range(4))))
    small = stretchable(choose, shape)
    g = RNG.standard_normal(shape)
    n = int(np.prod(small))
    columns = [np.broadcast_to(unit.reshape(small), shape).reshape(-1) for unit in np.eye(n)]
    B = np.stack(columns, axis=1) if n else np.zeros((g.size, 0))
    expected = (B.T @ g.reshape(-1)).reshape(small)
    assert error(unbroadcast(Tensor(g), small), expected) < 1e-12


def test_matmul_vjps() -> None:
    """Equation (7)."""
    A, B, G = leaf(3, 4), leaf(4, 2), RNG.standard_normal((3, 2))
    da, db = grad(A @ B, [A, B], G)
    assert error(da, G @ B.data.T) < 1e-14
    assert error(db, A.data.T @ G) < 1e-14


def test_step_of_central_differences() -> None:
    """Equation (8): the error is least near ε^(1/3), and there about ε^(2/3)."""
    x, steps = np.linspace(0.5, 1.5, 201)[:, None], 10.0 ** np.arange(-10, 0)
    differences = (np.exp(x + steps) - np.exp(x - steps)) / (2 * steps)
    errors = np.abs(differences - np.exp(x)).mean(0)  # of many points: at one the rounding can be lucky
    best = steps[np.argmin(errors)]
    assert 1e-6 <= best <= 1e-4
    assert errors.min() < 1e-9 < min(errors[0], errors[-1])


def test_softmax_does_not_change_by_a_shift() -> None:
    """Equation (9), and no overflow where e^x has one."""
    x = RNG.standard_normal((3, 5))
    assert error(functional.softmax(Tensor(x + 700)), functional.softmax(Tensor(x)).data) < 1e-12
    assert np.isfinite(functional.log_softmax(Tensor(x * 1e4)).data).all()


def test_cross_entropy_gradient_and_hessian() -> None:
    """Equations (10) and (11): (p - e) / N and (diag p - p pᵀ) / N."""
    logits, targets = leaf(4, 3), np.array([0, 2, 1, 1])
    p = functional.softmax(logits).data
    (g,) = grad(functional.cross_entropy(logits, targets), [logits])
    assert error(g, (p - np.eye(3)[targets]) / 4) < 1e-14
    v = RNG.standard_normal((4, 3))
    hv = hessian_vector_product(lambda z: functional.cross_entropy(z, targets), logits, v)
    expected = np.stack([(np.diag(q) - np.outer(q, q)) @ w for q, w in zip(p, v, strict=True)]) / 4
    assert error(hv, expected) < 1e-14


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_overlap_add_is_the_adjoint_of_windows(stride: int) -> None:
    """Equation (12): ⟨W x, g⟩ = ⟨x, Wᵀ g⟩."""
    x = RNG.standard_normal((2, 7, 6))
    w = windows(x, (3, 2), stride)
    g = RNG.standard_normal(w.shape)
    assert np.sum(w * g) == pytest.approx(np.sum(x * overlap_add(g, (7, 6), stride)), rel=1e-12)


def test_layer_norm_gradient() -> None:
    """Equation (14): (g - mean g - x̂ · mean(g x̂)) / σ."""
    x, g = leaf(3, 6), RNG.standard_normal((3, 6))
    (found,) = grad(functional.layer_norm(x, eps=1e-5), [x], g)
    sigma = np.sqrt(x.data.var(-1, keepdims=True) + 1e-5)
    hat = (x.data - x.data.mean(-1, keepdims=True)) / sigma
    expected = (g - g.mean(-1, keepdims=True) - hat * (g * hat).mean(-1, keepdims=True)) / sigma
    assert error(found, expected) < 1e-13


def test_relu_halves_the_mean_square() -> None:
    """Equation (16): E[relu(z)²] = Var(z) / 2 for a normal z, by quadrature."""
    half, _ = integrate.quad(lambda z: max(z, 0) ** 2 * stats.norm.pdf(z, scale=1.7), 0, 30)
    assert half == pytest.approx(1.7**2 / 2, rel=1e-8)


@pytest.mark.parametrize(("gain", "factor"), [(1.0, 1.0), (0.5, 0.5), (2.0, 2.0)])
def test_mean_square_by_layer(gain: float, factor: float) -> None:
    """Equation (17): one layer of variance gain · 2 / n_in and a ReLU multiply the mean square by the gain."""
    ratios = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((8, 300))
        y = np.maximum(x @ he_normal(rng, (200, 300), gain).T, 0)
        ratios.append(np.mean(y**2) / np.mean(x**2))
    assert np.mean(ratios) == pytest.approx(factor, rel=0.03)


def test_xavier_is_the_harmonic_mean_of_both_directions() -> None:
    """Equation (15)."""
    found = xavier_normal(np.random.default_rng(0), (400, 100)).var()
    assert found == pytest.approx(2 / (1 / (1 / 100) + 1 / (1 / 400)), rel=0.02)


def test_mode_curve_solves_its_equation() -> None:
    """Equation (19): du/dt = 2 u (s - u), by central differences."""
    t = np.linspace(0.1, 5, 50)
    h = 1e-5
    slope = (mode_curve(t + h, 1.5, 0.01) - mode_curve(t - h, 1.5, 0.01)) / (2 * h)
    u = mode_curve(t, 1.5, 0.01)
    assert slope == pytest.approx(2 * u * (1.5 - u), rel=1e-6)
    assert mode_curve(np.zeros(1), 1.5, 0.01)[0] == pytest.approx(0.01)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(choices=st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), min_size=1, max_size=30))
def test_topological_order(choices: list[tuple[int, int]]) -> None:
    """Section 2: each tensor once, after all that it was made from, in any graph; constants are left out."""
    tensors = [leaf(1), Tensor([2.0]), leaf(1)]
    for a, b in choices:
        tensors.append(tensors[a % len(tensors)] * tensors[b % len(tensors)])
    order = topological_order(tensors[-1] + tensors[0])
    place = {id(x): i for i, x in enumerate(order)}
    assert len(place) == len(order)
    assert all(x.requires_grad for x in order)
    assert all(place[id(x)] < place[id(y)] for y in order for _, x in edges(y))


# --- the engine itself ------------------------------------------------------------------------------------------------


def test_gradients_accumulate_over_uses_and_over_calls() -> None:
    x = Tensor([3.0], requires_grad=True)
    (x * x + x).backward()
    assert x.grad is not None and x.grad.data.tolist() == [7.0]
    (2 * x).backward()
    assert x.grad.data.tolist() == [9.0]


def test_a_chain_far_deeper_than_the_recursion_limit() -> None:
    x = y = Tensor(1.0, requires_grad=True)
    for _ in range(5000):
        y = y + 1
    y.backward()
    assert x.grad is not None and x.grad.item() == 1


def test_a_graph_is_freed_without_the_garbage_collector() -> None:
    gc.disable()
    try:
        x = leaf(3)
        middle = x.exp()
        alive = weakref.ref(middle)
        y = (middle * middle).sum()
        y.backward()
        del middle, y
        assert alive() is None
    finally:
        gc.enable()


def test_nothing_is_recorded_inside_no_grad() -> None:
    x = leaf(2)
    with no_grad():
        assert not (x * 2).requires_grad
        with enable_grad():
            assert (x * 2).requires_grad
        assert grad_of_square(x).data == pytest.approx(2 * x.data)
    assert (x * 2).requires_grad


def grad_of_square(x: Tensor) -> Tensor:
    """By forward mode, which must also work where nothing is recorded around it."""
    return jvp(lambda z: z * z, [x], [np.ones(x.shape)])[1]


def test_backward_leaves_no_graph_behind_and_create_graph_does() -> None:
    x = leaf(2)
    (x**3).sum().backward()
    assert x.grad is not None and not x.grad.requires_grad
    (g,) = grad((x**3).sum(), [x], create_graph=True)
    (second,) = grad(g.sum(), [x])
    assert second.data == pytest.approx(6 * x.data)


def test_gradient_with_respect_to_something_computed_and_to_something_unused() -> None:
    x, unused = leaf(2), leaf(3)
    middle = x * 2
    wanted = grad((middle * middle).sum(), [middle, unused])
    assert wanted[0].data == pytest.approx(4 * x.data)
    assert wanted[1].data.tolist() == [0, 0, 0]
    assert x.grad is None


def test_third_derivative() -> None:
    x = Tensor(0.7, requires_grad=True)
    y = x.sin()
    for _ in range(3):
        (y,) = grad(y, [x], create_graph=True)
    assert y.item() == pytest.approx(-np.cos(0.7), abs=1e-14)


def test_float32_stays_float32() -> None:
    x = Tensor(np.ones((2, 3), dtype=np.float32), requires_grad=True)
    y = functional.cross_entropy(functional.gelu(x @ x.T * 2 + np.ones(2)).softplus(), np.array([0, 1]))
    y.backward()
    assert y.dtype == np.float32 and x.grad is not None and x.grad.dtype == np.float32
    wide = x.astype(np.float64) * 3
    wide.sum().backward()
    assert wide.dtype == np.float64 and x.grad.dtype == np.float32


def test_arrays_on_the_left_leave_the_operation_to_the_tensor() -> None:
    x = leaf(2, 2)
    for y in (np.ones((2, 2)) * x, np.ones((2, 2)) + x, np.ones((2, 2)) @ x, np.float64(2) * x, 1 - x, 1 / x):
        assert isinstance(y, Tensor) and y.requires_grad


@pytest.mark.parametrize(
    ("what", "fault", "message"),
    [
        (lambda: leaf(2).backward(), ValueError, r"shape \(2,\) needs a seed"),
        (lambda: leaf(2).backward(np.ones(3)), ValueError, r"seed has shape \(3,\)"),
        (lambda: Tensor([1.0]).backward(), ValueError, "requires a gradient"),
        (lambda: leaf(2) * Tensor(np.ones(2, dtype=np.float32)), TypeError, "float32 and float64 do not mix"),
        (lambda: leaf(2) @ 3.0, ValueError, "no axes"),
        (lambda: jvp(Tensor.exp, [leaf(2)], [np.ones(3)]), ValueError, r"tangent has shape \(3,\)"),
        (lambda: functional.cross_entropy(leaf(2, 3), np.array([0, 3])), ValueError, "not among 0 to 2"),
        (lambda: functional.cross_entropy(leaf(2, 3), np.array([0])), ValueError, "do not fit"),
        (lambda: functional.embedding(np.array([-1]), leaf(2, 3)), ValueError, "not among 0 to 1"),
        (lambda: functional.dropout(leaf(2), 1.0, RNG), ValueError, "0 ≤ p < 1"),
        (lambda: conv2d(leaf(1, 2, 4, 4), leaf(1, 3, 2, 2)), ValueError, "2 channels, the kernel 3"),
        (lambda: leaf(0).max(), ValueError, "zero-size"),
    ],
)
def test_faults_are_told(what: Any, fault: type[Exception], message: str) -> None:
    with pytest.raises(fault, match=message):
        what()


def test_example_of_the_docstring() -> None:
    assert doctest.testmod(tensor).failed == 0 and doctest.testmod(tensor).attempted == 4


def test_shows_itself() -> None:
    assert repr(Tensor([1, 2])) == "Tensor([1., 2.])"
    assert repr(Tensor(1.5, requires_grad=True)) == "Tensor(1.5, requires_grad=True)"
    assert len(Tensor([1, 2])) == 2 and Tensor([[3.0]]).item() == 3.0
    assert (Tensor([1, 2]) > 1).tolist() == [False, True] and (Tensor([1, 2]) <= Tensor([1, 1])).tolist() == [
        True,
        False,
    ]


def test_reductions_of_nothing() -> None:
    x = leaf(0, 3)
    assert x.sum().item() == 0 and x.mean(axis=1).shape == (0,) and np.isnan(x.mean().item())
    x.sum().backward()
    assert x.grad is not None and x.grad.shape == (0, 3)


def test_joining_and_choosing_meet_numpy() -> None:
    a, b = leaf(2, 3), leaf(2, 3)
    assert error(concatenate([a, b], -1), np.concatenate([a.data, b.data], -1)) == 0
    assert error(stack([a, b], -1), np.stack([a.data, b.data], -1)) == 0
    assert error(where(a > b, a, b), maximum(a, b).data) == 0


# --- layers and training ----------------------------------------------------------------------------------------------


def test_parameters_are_found_once_and_in_order() -> None:
    class Tied(Module):
        def __init__(self) -> None:
            rng = np.random.default_rng(0)
            self.embedding = Embedding(4, 3, rng)
            self.blocks = [Linear(3, 3, rng), LayerNorm(3)]
            self.head = Linear(3, 4, rng, bias=False)
            self.head.weight = self.embedding.weight
            self.dropout = Dropout(0.5, rng)

        def forward(self, *inputs: Any) -> Tensor:
            x = self.embedding(inputs[0])
            for block in self.blocks:
                x = block(x)
            return self.head(self.dropout(x))

    model = Tied()
    names = ["embedding.weight", "blocks.0.weight", "blocks.0.bias", "blocks.1.weight", "blocks.1.bias"]
    assert list(model.named_parameters()) == names
    assert not model.eval().dropout.training and model.train().blocks[1].training
    ids = np.array([[0, 1, 1]])
    model.eval()(ids).sum().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in model.parameters())


def test_batch_norm_uses_the_batch_in_training_and_its_memory_in_evaluation() -> None:
    layer, x = BatchNorm(2), Tensor(5 + 3 * RNG.standard_normal((400, 2)))
    y = layer(x).data
    assert y.mean(0) == pytest.approx(0, abs=1e-12) and y.std(0) == pytest.approx(1, abs=1e-4)
    for _ in range(100):
        layer(x)
    assert layer.eval()(x).data == pytest.approx(y, abs=0.02)


def test_dropout_keeps_the_expectation() -> None:
    y = Dropout(0.25, np.random.default_rng(0))(Tensor(np.ones(100_000))).data
    assert set(np.unique(y)) == {0.0, 1 / 0.75}
    assert y.mean() == pytest.approx(1, abs=0.01)


def test_orthogonal_matrices_are_orthogonal() -> None:
    for shape in ((4, 4), (5, 3), (3, 5)):
        q = orthogonal(np.random.default_rng(0), shape)
        assert q.shape == shape
        gram = q.T @ q if shape[0] >= shape[1] else q @ q.T
        assert gram == pytest.approx(np.eye(min(shape)), abs=1e-12)


def test_a_network_trains_as_its_twin_in_torch() -> None:
    rng = np.random.default_rng(0)
    model = MLP([5, 8, 8, 3], rng)
    twin = torch.nn.Sequential(
        torch.nn.Linear(5, 8), torch.nn.ReLU(), torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)
    ).double()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        q.data = torch.tensor(p.data)
    ours, theirs = SGD(model.parameters(), 0.1, 0.9), torch.optim.SGD(twin.parameters(), 0.1, 0.9)
    x, labels = rng.standard_normal((30, 5)), rng.integers(3, size=30)
    for rows in minibatches(rng, 30, 7):
        loss = functional.cross_entropy(model(Tensor(x[rows])), labels[rows])
        torch_loss = torch.nn.functional.cross_entropy(twin(torch.tensor(x[rows])), torch.tensor(labels[rows]))
        ours.zero_grad()
        theirs.zero_grad()
        loss.backward()
        torch_loss.backward()
        ours.step()
        theirs.step()
        assert loss.item() == pytest.approx(torch_loss.item(), abs=1e-12)


def test_fit_learns_repeats_and_stops_when_told() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 2))
    labels = (x[:, 0] * x[:, 1] > 0).astype(int)
    config = TrainingConfig(epochs=60, batch_size=16, lr=0.1)
    runs = [(model := MLP([2, 32, 2], np.random.default_rng(1)), fit(model, x, labels, config)) for _ in range(2)]
    assert runs[0][1] == runs[1][1]
    assert accuracy(runs[0][0], x, labels) == 1.0
    assert len(fit(runs[0][0], x, labels, config, lambda epoch, loss: epoch == 2)) == 3


def test_minibatches_cover_everything_once() -> None:
    batches = list(minibatches(np.random.default_rng(0), 10, 4))
    assert [len(rows) for rows in batches] == [4, 4, 2]
    assert sorted(np.concatenate(batches)) == list(range(10))
