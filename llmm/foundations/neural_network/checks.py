"""What an engine must satisfy, and the networks on it: one function a criterion of milestone.yaml."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from llmm.foundations.neural_network import convolution, functional, oracle, tiny_gpt, torch_twin
from llmm.foundations.neural_network.autograd import grad, jvp
from llmm.foundations.neural_network.data import digits
from llmm.foundations.neural_network.gradcheck import gradcheck, gradgradcheck
from llmm.foundations.neural_network.initialisation import he_normal, xavier_normal
from llmm.foundations.neural_network.layers import (
    MLP,
    BatchNorm,
    Conv2d,
    Dropout,
    Embedding,
    LayerNorm,
    Linear,
    Module,
)
from llmm.foundations.neural_network.tensor import Tensor, concatenate, no_grad
from llmm.foundations.neural_network.training import SGD, TrainingConfig, accuracy, fit
from llmm.ladder.expect import WrongAnswer, expect_number, expect_shape, expect_type

ROUNDS = 6  # random cases of each operation
SEEDS = range(5)


# --- the engine against torch --------------------------------------------------------------------------------------


def value_error() -> float:
    return _worst(oracle.value_error)


def vjp_error() -> float:
    return _worst(oracle.vjp_error)


def jvp_error() -> float:
    return _worst(oracle.jvp_error)


def double_error() -> float:
    return _worst(oracle.double_error)


def _worst(measure: Callable[[oracle.Case, np.random.Generator], float]) -> float:
    worst = 0.0
    for name, case, rng in oracle.random_cases(seed=2, rounds=ROUNDS):
        found = measure(case, rng)
        if not found < 1e-3:  # no rounding: say where
            shapes = " and ".join(map(str, case.shapes))
            raise WrongAnswer(f"{name} of {shapes}: off by {found:.2g} from torch (inf: another shape, dtype or a NaN)")
        worst = max(worst, found)
    return worst


def gpt_error() -> float:
    ours, theirs = tiny_gpt.losses_of_both(seed=0, steps=20)
    if not theirs[-1] < theirs[0]:
        raise AssertionError("torch's own loss does not fall: the task is broken")
    return float(np.abs(np.subtract(ours, theirs)).max())


# --- the engine against finite differences and against itself ------------------------------------------------------


def first_order_error() -> float:
    return max(gradcheck(f, *points) for f, points in _smooth_functions())


def second_order_error() -> float:
    return max(gradgradcheck(f, *points) for f, points in _smooth_functions())


def _smooth_functions() -> list[tuple[Callable[..., Tensor], list[np.ndarray]]]:
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return np.asarray(rng.standard_normal(shape))

    targets = np.array([1, 0, 3])
    ids = np.array([[0, 2], [2, 2]])
    return [
        (lambda a, b: (a @ b).tanh(), [normal(2, 3, 4), normal(4, 5)]),
        (lambda a, b: (a * b + a / (b * b + 1)).sin(), [normal(3, 1), normal(1, 4)]),
        (lambda x: functional.cross_entropy(x, targets), [normal(3, 4)]),
        (lambda x, w, b: functional.layer_norm(x, w, b), [normal(2, 5), normal(5), normal(5)]),
        (lambda x, w, b: convolution.conv2d(x, w, b, 2, 1), [normal(2, 3, 5, 4), normal(2, 3, 3, 2), normal(2)]),
        (lambda t: functional.gelu(functional.embedding(ids, t)), [normal(3, 2)]),
        (lambda a, b: concatenate([a.exp(), b], 1).max(axis=0), [normal(3, 2), normal(3, 1)]),
        (lambda x: functional.softmax(x * x.sum(-1, keepdims=True)), [normal(2, 3)]),
    ]


def diamond_error() -> float:
    x = Tensor(np.array([1.5, -2.0]), requires_grad=True)
    a = x * x
    y = (a * x + a.exp() * a + x).sum()  # x has three uses and a four
    y.backward()
    v = x.data
    expected = 3 * v**2 + 2 * v * np.exp(v**2) * (1 + v**2) + 1
    expect_shape("x.grad", x.grad, (2,), Tensor)
    first = np.abs(x.grad.data / expected - 1).max()  # type: ignore[union-attr]
    (x * 1).sum().backward()  # a second backward adds to the first
    second = np.abs(x.grad.data / (expected + 1) - 1).max()  # type: ignore[union-attr]
    return float(max(first, second))


def long_chain_error() -> float:
    x = Tensor(np.array(1.0), requires_grad=True)
    y = x
    for _ in range(20_000):
        y = y + x * 1e-4
    y.backward()
    expect_shape("x.grad", x.grad, (), Tensor)
    return abs(x.grad.item() - 3.0)  # type: ignore[union-attr]


def records_only_when_asked() -> bool:
    x = Tensor(np.ones(3), requires_grad=True)
    with no_grad():
        inside = (x * 2).requires_grad
        with no_grad():
            pass
        still_inside = (x * 2).requires_grad
    try:
        with no_grad():
            raise KeyError
    except KeyError:
        pass
    constant = (Tensor(np.ones(3)) * 2).requires_grad
    after = x * 2
    detached = after.detach().requires_grad
    return bool(not (inside or still_inside or constant or detached) and after.requires_grad)


def nested_jvp_error() -> float:
    """Derivatives inside derivatives, where an engine may take one variable for the other (perturbation confusion)."""

    def outer(x: Tensor) -> Tensor:  # x · d/dy (x + y) = x
        return x * jvp(lambda y: x + y, [Tensor(1.0)], [1.0])[1]

    x = Tensor(np.array([0.5, -1.0, 2.0]), requires_grad=True)
    _, one = jvp(outer, [Tensor(2.0)], [1.0])
    _, partial = jvp(lambda y: (x * y).sum(), [x], [np.ones(3)])  # d/dy (x · y) at y = x: x is a constant here
    _, hessian = jvp(lambda z: grad((z**3).sum(), [z], create_graph=True)[0], [x], [np.ones(3)])
    errors = [one.item() - 1, partial.item() - x.data.sum(), *(hessian.data - 6 * x.data)]
    return float(np.abs(errors).max())


# --- functions and layers ------------------------------------------------------------------------------------------


def cross_entropy_error() -> float:
    rng = np.random.default_rng(0)
    logits = Tensor(3 * rng.standard_normal((6, 5)), requires_grad=True)
    targets = rng.integers(5, size=6)
    expect_number("cross_entropy", functional.cross_entropy(logits, targets).data)
    functional.cross_entropy(logits, targets).backward()
    p = np.exp(logits.data) / np.exp(logits.data).sum(-1, keepdims=True)
    expected = (p - np.eye(5)[targets]) / 6
    return oracle.error(expect_shape("logits.grad", logits.grad, (6, 5), Tensor), expected)


def extreme_logits_error() -> float:
    logits = Tensor(np.array([[1000.0, -1000.0, 0.0], [-1000.0, 0.0, -1000.0]]), requires_grad=True)
    loss = functional.cross_entropy(logits, np.array([1, 1]))
    loss.backward()
    expected = np.array([[1.0, -1.0, 0.0], [0.0, 0.0, 0.0]]) / 2
    errors = [abs(loss.item() - 1000.0), oracle.error(logits.grad, expected)]  # type: ignore[arg-type]
    ends = Tensor(np.array([-1000.0, 1000.0]))
    errors += [oracle.error(ends.sigmoid(), np.array([0.0, 1.0])), oracle.error(ends.softplus(), np.array([0, 1e3]))]
    largest = max(errors)
    return largest if np.isfinite(largest) else np.inf


def normalisation_error() -> float:
    """Layer norm and batch norm beside torch's: outputs, gradients, running statistics, evaluation mode."""
    rng = np.random.default_rng(0)
    worst = 0.0
    for shape in ((7, 3), (4, 3, 5, 2)):
        ours, theirs = BatchNorm(3), (torch.nn.BatchNorm1d if len(shape) == 2 else torch.nn.BatchNorm2d)(3).double()
        weight, bias = rng.standard_normal(3), rng.standard_normal(3)
        ours.weight.data[...], ours.bias.data[...] = weight, bias
        theirs.weight.data, theirs.bias.data = torch.tensor(weight), torch.tensor(bias)
        for _ in range(3):
            worst = max(worst, _layer_error(ours, theirs, 2 + 3 * rng.standard_normal(shape)))
        worst = max(worst, oracle.error(Tensor(ours.running_mean), theirs.running_mean))
        worst = max(worst, oracle.error(Tensor(ours.running_var), theirs.running_var))
        worst = max(worst, _layer_error(ours.eval(), theirs.eval(), rng.standard_normal(shape)))
    return max(worst, _layer_error(LayerNorm(4), torch.nn.LayerNorm(4).double(), 1e-3 * rng.standard_normal((2, 3, 4))))


def layers_error() -> float:
    """Linear, convolution and embedding beside torch's with the same weights; parameters have torch's names."""
    rng = np.random.default_rng(0)
    pairs = [
        (Linear(4, 3, rng), torch.nn.Linear(4, 3).double(), rng.standard_normal((2, 5, 4))),
        (Conv2d(2, 3, 3, rng, 2, 1), torch.nn.Conv2d(2, 3, 3, 2, 1).double(), rng.standard_normal((2, 2, 6, 5))),
    ]
    worst = 0.0
    for ours, theirs, x in pairs:
        theirs.load_state_dict({name: torch.tensor(p.data) for name, p in ours.named_parameters().items()})
        worst = max(worst, _layer_error(ours, theirs, x))
    table = Embedding(5, 2, rng)
    table(np.array([[1, 1], [4, 1]])).sum().backward()
    counts = np.array([0.0, 3, 0, 0, 1])[:, None] * np.ones((5, 2))
    return max(worst, oracle.error(table.weight.grad, counts))  # type: ignore[arg-type]


def _layer_error(ours: Module, theirs: torch.nn.Module, x: np.ndarray) -> float:
    a, b = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, z = expect_type(type(ours).__name__, ours(a), Tensor), theirs(b)
    theirs.zero_grad()
    for p in ours.parameters():
        p.grad = None
    (y * y.sin()).sum().backward()
    (z * z.sin()).sum().backward()
    pairs = [(y, z), (a.grad, b.grad)]
    named = ours.named_parameters()
    pairs += [(named[name].grad, p.grad) for name, p in theirs.named_parameters()]
    return max(oracle.error(*pair) for pair in pairs)


def dropout_error() -> float:
    """How far the mean, the share of zeros and the survivors are from 1, p and 1 / (1 - p); in evaluation from x."""
    x = Tensor(np.ones((400, 500)), requires_grad=True)
    layer = Dropout(0.3, np.random.default_rng(0))
    y = layer(x)
    y.sum().backward()
    alive = y.data != 0
    errors = [
        abs(y.data.mean() - 1),
        abs((~alive).mean() - 0.3),
        np.abs(y.data[alive] - 1 / 0.7).max(),
        oracle.error(x.grad, y.data),  # type: ignore[arg-type]
        oracle.error(layer.eval()(x), x.data),
    ]
    return float(max(errors))


def sgd_error() -> float:
    rng = np.random.default_rng(0)
    start, target = rng.standard_normal(5), rng.standard_normal(5)
    x, t = Tensor(start.copy(), requires_grad=True), torch.tensor(start, requires_grad=True)
    ours, theirs = SGD([x], 0.05, 0.9), torch.optim.SGD([t], 0.05, 0.9)
    for _ in range(100):
        ours.zero_grad()
        theirs.zero_grad()
        ((x - target) ** 2 * Tensor(np.arange(1.0, 6))).sum().backward()
        ((t - torch.tensor(target)) ** 2 * torch.arange(1.0, 6, dtype=torch.float64)).sum().backward()
        ours.step()
        theirs.step()
    return oracle.error(x, t)


# --- networks ------------------------------------------------------------------------------------------------------


def initial_variance_error() -> float:
    """Largest relative distance of the sample variance from 2 / n_in (He) and 2 / (n_in + n_out) (Xavier)."""
    rng = np.random.default_rng(0)
    expected = [
        (he_normal, (500, 100), 2 / 100),
        (he_normal, (500, 10, 3, 3), 2 / 90),
        (xavier_normal, (500, 100), 2 / 600),
        (xavier_normal, (100, 20, 5, 5), 2 / 3000),
    ]
    return max(abs(float(np.var(draw(rng, shape))) / variance - 1) for draw, shape, variance in expected)


def he_ratio() -> float:
    """Mean square of the 50th ReLU layer of width 256 over that of the input, under He: geometric mean of 5 draws."""
    return _signal_ratio(he_normal)


def xavier_ratio() -> float:
    """The same under Xavier, times 2⁵⁰, by which it should have shrunk."""
    return _signal_ratio(xavier_normal) * 2.0**50


def _signal_ratio(initialise: Callable[..., np.ndarray]) -> float:
    logs = []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        x = Tensor(rng.standard_normal((64, 256)))
        y = x
        with no_grad():
            for _ in range(50):
                y = (y @ Tensor(initialise(rng, (256, 256))).T).relu()
        logs.append(np.log(np.mean(y.data**2) / np.mean(x.data**2)))
    return float(np.exp(np.mean(logs)))


def overfit_loss() -> float:
    """Cross-entropy of 32 digits after 200 steps on them."""
    split = digits(seed=0)
    model = MLP([64, 64, 64, 10], np.random.default_rng(0))
    config = TrainingConfig(epochs=200, batch_size=32, lr=0.1, decay=False)
    return fit(model, split.x_train[:32], split.y_train[:32], config)[-1]


def digits_accuracy() -> float:
    """Test accuracy of the MLP on the digits, mean of 5 seeds."""
    found = []
    for seed in SEEDS:
        split = digits(seed)
        model = MLP([64, 128, 128, 10], np.random.default_rng(seed))
        fit(model, split.x_train, split.y_train, TrainingConfig(epochs=15, seed=seed))
        found.append(accuracy(model, split.x_test, split.y_test))
    return float(np.mean(found))


def epoch_over_torch() -> float:
    """Time of an epoch on the digits over that of torch on one thread, median of 7 pairs."""
    pairs = torch_twin.seconds_of_both(*torch_twin.epochs_of_both(hidden=128), pairs=7)
    return float(np.median([ours / theirs for ours, theirs in pairs]))
