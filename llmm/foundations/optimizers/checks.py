"""What the check of this milestone measures: one function a criterion of milestone.yaml, largest differences mostly."""

import io
import math
from collections.abc import Callable
from functools import cache, partial
from itertools import product
from typing import Any, get_args

import torch
from torch import Tensor

from llmm.foundations.optimizers import AdamW, Muon, plain
from llmm.foundations.optimizers.clipping import clip_by_global_norm
from llmm.foundations.optimizers.muon import Norm, orthogonalise
from llmm.foundations.optimizers.oracles import (
    MATRICES_ONLY,
    MUON,
    MUON_LOSS_SCALE,
    OTHERS,
    TORCH,
    Make,
    by_rule,
    torch_muon_without_rounding,
)
from llmm.foundations.optimizers.problems import MATRICES, MIXED, farthest, follow
from llmm.foundations.optimizers.schedule_free import ScheduleFreeAdamW
from llmm.foundations.optimizers.schedules import cosine, warmup_stable_decay
from llmm.foundations.optimizers.seconds import (
    fast_over_plain,
    torch_over_adamw,
    torch_over_fused_adamw,
    torch_over_muon,
)
from llmm.foundations.optimizers.sharpness import sharpness
from llmm.foundations.optimizers.soap import SOAP

# criteria too, measured in seconds.py
__all__ = ["fast_over_plain", "torch_over_adamw", "torch_over_fused_adamw", "torch_over_muon"]

SQUARE = [
    (6, 6),
    (4, 4),
    (6, 6),
]  # of full rank at once, so that SOAP's bases are determined: README (30)
WIDE_AND_TALL = [(20, 7), (7, 20), (4, 9)]
ONLY_SHAPES = {
    "soap": SQUARE,
    "muon_schatten4": MATRICES,
    "normuon": MATRICES,
}  # of those that are compared to their plain versions


# --- against torch --------------------------------------------------------------------------------------------------


def plain_from_torch() -> float:
    """Over seven rules, one of them beside two of torch's versions, after 200 steps in float64."""
    return max(farthest(follow(ours), _end_of_torchs(name)) for name, (ours, _, _) in TORCH.items())


def fast_from_torch() -> float:
    """Over the fast versions of the same seven; of AdamW there are two."""
    return max(farthest(follow(ours), _end_of_torchs(name)) for name, (_, ours, _) in TORCH.items())


def muon_from_torch() -> float:
    """Plain and fast Muon, on square, wide and tall matrices, with torch's iteration in float64."""
    largest = 0.0
    for shapes in (MATRICES, WIDE_AND_TALL):
        ours, fast, theirs = (
            follow(make, shapes=shapes, loss_scale=MUON_LOSS_SCALE) for make in (*MUON[:2], _Unrounded)
        )
        largest = max(largest, farthest(ours, theirs), farthest(fast, theirs))
    return largest


def late_start_from_torch() -> float:
    """AdamW, plain and fast, where some have no gradient before step 30: each parameter counts its own steps."""

    def freeze(t: int, params: list[Tensor]) -> None:
        if t < 30:
            for p in params[3:]:
                p.grad = None

    ours, fast, theirs = (follow(make, steps=60, before_step=freeze) for make in TORCH["adamw"])
    return max(farthest(ours, theirs), farthest(fast, theirs))


def clipping_from_torch() -> float:
    """SGD with gradients clipped to a norm that binds in some steps and not in others; the norms must agree too."""

    def run(clip: Callable[[list[Tensor], float], Tensor]) -> list[Tensor]:
        norms: list[Tensor] = []
        end = follow(
            by_rule(plain.sgd, lr=0.05), steps=100, before_step=lambda t, params: norms.append(clip(params, 0.4))
        )
        return [*end, torch.stack(norms)]

    return farthest(run(clip_by_global_norm), run(torch.nn.utils.clip_grad_norm_))


# --- fast against plain, and against equations where torch has nothing ----------------------------------------------


def fast_from_plain() -> float:
    """Lion, Muon by the other norm, NorMuon, SOAP on square matrices, Schedule-Free AdamW; torch has none of them."""
    largest = 0.0
    for name, (ours, fast) in OTHERS.items():
        arguments: dict[str, Any] = {"shapes": shapes} if (shapes := ONLY_SHAPES.get(name)) else {}
        largest = max(largest, farthest(follow(ours, **arguments), follow(fast, **arguments)))
    return largest


def lion_from_equations() -> float:
    """Plain Lion against its unrolled sums: w_T = (1-lr·λ)ᵀ w₀ - lr Σ (1-lr·λ)ᵀ⁻ᵗ sign(β₁m_{t-1} + (1-β₁)g_t)."""
    lr, beta1, beta2, decay, T = 0.01, 0.8, 0.95, 0.3, 60
    generator = torch.Generator().manual_seed(0)
    w0 = torch.randn(50, dtype=torch.float64, generator=generator)
    grads = torch.randn(T, 50, dtype=torch.float64, generator=generator)
    expected = (1 - lr * decay) ** T * w0
    for t in range(T):
        ages = torch.arange(t - 1, -1, -1, dtype=torch.float64)[:, None]
        mean = (1 - beta2) * (beta2**ages * grads[:t]).sum(0)
        expected -= lr * (1 - lr * decay) ** (T - 1 - t) * torch.sign(beta1 * mean + (1 - beta1) * grads[t])
    w = _drive(plain.lion, w0, grads, lr=lr, beta1=beta1, beta2=beta2, weight_decay=decay)
    return farthest([w], [expected])


def soap_from_adam() -> float:
    """With bases that never turn, SOAP is Adam on the gradients Q_LᵀGQ_R: compared with `torch.optim.Adam` there."""
    generator = torch.Generator().manual_seed(0)
    grads = torch.randn(40, 5, 5, dtype=torch.float64, generator=generator)
    w0 = torch.randn(5, 5, dtype=torch.float64, generator=generator)
    Q_L = torch.linalg.eigh(grads[0] @ grads[0].T).eigenvectors
    Q_R = torch.linalg.eigh(grads[0].T @ grads[0]).eigenvectors

    rotated = (Q_L.T @ w0 @ Q_R).requires_grad_()
    adam = torch.optim.Adam([rotated], lr=0.01, betas=(0.9, 0.95), eps=1e-3)
    for g in grads:
        rotated.grad = Q_L.T @ g @ Q_R
        adam.step()
    expected = [Q_L @ rotated.detach() @ Q_R.T]

    settings: dict[str, Any] = {"lr": 0.01, "eps": 1e-3, "weight_decay": 0.0, "every": 10**9}
    w = _drive(plain.soap, w0, grads, beta1=0.9, beta2=0.95, **settings)
    fast = _drive_optimizer(lambda p: SOAP(p, betas=(0.9, 0.95), **settings), w0, grads)
    return max(farthest([w], expected), farthest([fast], expected))


def soap_basis() -> float:
    """How far from diagonal Q_Lᵀ L Q_L and Q_Rᵀ R Q_R are after many steps with one gradient: README (29)."""
    generator = torch.Generator().manual_seed(0)
    g = torch.randn(6, 6, dtype=torch.float64, generator=generator)
    first = torch.randn(6, 6, dtype=torch.float64, generator=generator)  # whose bases are wrong for all that follows
    grads = torch.stack([first] + [g] * 400)
    s: dict[str, Any] = {}
    _drive(plain.soap, torch.zeros_like(g), grads, s, beta2=0.5, every=2)
    off = [Q.T @ M @ Q for Q, M in ((s["Q_L"], g @ g.T), (s["Q_R"], g.T @ g))]
    return max(float((M - M.diag().diag()).norm() / M.norm()) for M in off)


def soap_columns_kept() -> float:
    """What the first turn of SOAP's basis leaves of each column in its place: the smallest |q_before · q_after|.

    Each row of the gradients is a third as large as the one above, so eigenvectors are told apart and yet change with
    every gradient.
    """
    generator = torch.Generator().manual_seed(0)
    sizes = 3.0 ** -torch.arange(6, dtype=torch.float64)
    grads = sizes[:, None] * torch.randn(2, 6, 6, dtype=torch.float64, generator=generator)

    def basis(steps: int) -> Tensor:
        s: dict[str, Any] = {}
        _drive(plain.soap, torch.zeros_like(grads[0]), grads[:steps], s, beta2=0.5, every=2)
        return s["Q_L"]

    return float((basis(1) * basis(2)).sum(0).abs().min())


def schedule_free_from_equations() -> float:
    """Schedule-Free SGD on h/2 w²: the closed form where β = 0, products of 2 × 2 matrices else; README (32), (33)."""
    h, lr, T, w0 = 0.7, 0.2, 50, torch.tensor([2.0], dtype=torch.float64)

    def run(beta: float) -> Tensor:
        w, s = w0, dict[str, Any]()
        for t in range(1, T + 1):
            s["t"] = t
            w = plain.schedule_free(w, h * w, s, lr=lr, beta=beta)
        return torch.cat([s["x"], w])

    q = 1 - lr * h
    mean = w0 * q * (1 - q**T) / (T * (1 - q))
    closed = torch.cat([mean, w0 * q**T])

    beta, zx = 0.9, torch.stack([w0, w0])
    for t in range(1, T + 1):
        turn = torch.tensor([[1 - lr * h * (1 - beta), -lr * h * beta], [0, 1]], dtype=torch.float64)
        average = torch.tensor([[1, 0], [1 / t, 1 - 1 / t]], dtype=torch.float64)
        zx = average @ turn @ zx
    z, x = zx
    return max(farthest([run(0.0)], [closed]), farthest([run(beta)], [torch.cat([x, (1 - beta) * z + beta * x])]))


def schedule_free_average() -> float:
    """The fast version's average, after `eval()`, under a constant gradient: a weighted mean of places: README (34).

    `eval()` and `train()` must also undo each other, so both are called in the middle of the run.
    """
    lr, beta2, T = 0.1, 0.9, 30
    w0 = torch.tensor([1.0, -1.0], dtype=torch.float64)
    p = w0.clone().requires_grad_()
    optimizer = ScheduleFreeAdamW([p], lr=lr, betas=(0.8, beta2), eps=0.0)
    for t in range(T):
        if t == T // 2:
            optimizer.eval()
            optimizer.train()
        p.grad = torch.tensor([3.0, -0.01], dtype=torch.float64)
        optimizer.step()
    optimizer.eval()
    t = torch.arange(1, T + 1, dtype=torch.float64)
    weights = 1 - beta2**t
    mean = float((weights * t).sum() / weights.sum())
    return farthest([p.detach()], [w0 - lr * mean * w0])


# --- Newton-Schulz --------------------------------------------------------------------------------------------------


def orthogonalise_from_svd() -> float:
    """Against U pᵏ(S / ‖S‖) Vᵀ, p applied to the numbers: square, wide and tall batches, both norms, 1 to 6 steps."""
    generator = torch.Generator().manual_seed(0)
    a, b, c = 3.4445, -4.7750, 2.0315
    largest = 0.0
    for shape, steps in (((8, 8), 5), ((6, 20), 3), ((20, 6), 5), ((7, 9), 6), ((9, 7), 1), ((6, 40), 1), ((5, 30), 2)):
        G = torch.randn(3, *shape, dtype=torch.float64, generator=generator)
        U, S, Vt = torch.linalg.svd(G, full_matrices=False)
        norms: dict[Norm, Tensor] = {
            "frobenius": S.norm(dim=-1, keepdim=True) + 1e-7,
            "schatten4": S.norm(p=4, dim=-1, keepdim=True),
        }
        for norm, size in norms.items():
            s = S / size
            for _ in range(steps):
                s = a * s + b * s**3 + c * s**5
            largest = max(largest, farthest([orthogonalise(G, steps, norm)], [U * s[:, None] @ Vt]))
    return largest


def largest_after_low_rank() -> float:
    """The largest singular value that comes of matrices of rank 1 and 4 in bfloat16, over both norms, 1 to 8 steps."""
    generator = torch.Generator().manual_seed(0)
    largest = 0.0
    for rank in (1, 4):
        G = (torch.randn(4, 64, rank, generator=generator) @ torch.randn(4, rank, 256, generator=generator)).bfloat16()
        for norm, steps in product(get_args(Norm), range(1, 9)):
            result = orthogonalise(G, steps, norm).double()
            if not result.isfinite().all():
                return math.inf
            largest = max(largest, float(torch.linalg.matrix_norm(result, 2).max()))
    return largest


def muon_steps_from_equations() -> float:
    """The norm of a first step with lr 1, beside √max(1, rows / columns) ‖O‖, relative."""
    generator = torch.Generator().manual_seed(0)
    largest = 0.0
    for shape in ((12, 3), (3, 12), (6, 6)):
        G = 1e10 * torch.randn(shape, dtype=torch.float64, generator=generator)
        size = max(1, shape[0] / shape[1]) ** 0.5 * float(orthogonalise(G[None])[0].norm())
        fast = _drive_optimizer(lambda p: Muon(p, lr=1.0, dtype=torch.float64), torch.zeros_like(G), G[None])
        largest = max(largest, abs(float(fast.norm()) - size) / size)
    return largest


def normuon_rows_from_equations() -> float:
    """Of a first step: what separates its rows from one length, and its norm from Muon's, relative."""
    generator = torch.Generator().manual_seed(0)
    largest = 0.0
    for shape in ((12, 3), (3, 12), (6, 6)):
        G = 1e10 * torch.randn(shape, dtype=torch.float64, generator=generator)
        step, plain_step = (
            _drive_optimizer(partial(Muon, lr=1.0, dtype=torch.float64, neuron_beta=beta), torch.zeros_like(G), G[None])
            for beta in (0.9, 0.0)
        )
        rows = step.norm(dim=1)
        largest = max(largest, float((rows / rows.mean() - 1).abs().max()))
        largest = max(largest, abs(float(step.norm() / plain_step.norm()) - 1))
    return largest


# --- what a training needs besides steps ----------------------------------------------------------------------------


def resumed_from_uninterrupted() -> float:
    """Every optimizer, plain and fast, saved after 12 steps, loaded into a new one, 12 more steps; against 24 steps."""
    made = {name: (ours, fast) for name, (ours, fast, _) in TORCH.items()}
    made |= {"muon": MUON[:2], "schedule_free": (by_rule(plain.schedule_free),) * 2} | OTHERS
    largest = 0.0
    for name, both in made.items():
        arguments: dict[str, Any] = {"shapes": MATRICES if name in MATRICES_ONLY else MIXED, "steps": 24}
        for make in both:
            cut = follow(partial(_Resumed, make, after=12), **arguments)
            largest = max(largest, farthest(cut, follow(make, **arguments)))
    return largest


def schedules_from_equations() -> float:
    """Both schedules at every step of a run, beside their equations written out another way."""
    largest = 0.0
    steps, warmup, share = 200, 20, 0.4
    for step in range(steps + 1):
        rise = (step + 1) / (warmup + 1)
        stable = rise if step < warmup else 1.0 if step <= (1 - share) * steps else (steps - step) / (share * steps)
        angle = math.pi * (step - warmup) / (steps - warmup)
        half_cosine = rise if step < warmup else 0.1 + 0.9 * math.cos(angle / 2) ** 2
        largest = max(
            largest,
            abs(warmup_stable_decay(step, steps, warmup, share) - stable),
            abs(cosine(step, steps, warmup, floor=0.1) - half_cosine),
        )
    return largest


def sharpness_from_hessian() -> float:
    """Power iteration against the eigenvalues of the whole Hessian of a small network, relative."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20, 3, dtype=torch.float64, generator=generator)
    y = torch.randn(20, dtype=torch.float64, generator=generator)
    flat = torch.randn(16, dtype=torch.float64, generator=generator)

    def loss(w: Tensor) -> Tensor:
        return (torch.tanh(x @ w[:12].view(3, 4)) @ w[12:] - y).square().mean()

    exact = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, flat)).abs().max()
    halves = [flat[:12].clone().requires_grad_(), flat[12:].clone().requires_grad_()]
    directions = [torch.randn(12, dtype=torch.float64, generator=generator), torch.ones(4, dtype=torch.float64)]
    found = sharpness(lambda: loss(torch.cat(halves)), halves, directions, most=2000, tolerance=1e-10)
    return abs(found - float(exact)) / float(exact)


def refusals() -> int:
    """How many of four mistakes are answered with a ValueError: a vector for Muon and for SOAP, closures, β₁ = 0."""
    vector, matrix = torch.zeros(3, requires_grad=True), torch.zeros(3, 3, requires_grad=True)
    mistakes: list[Callable[[], Any]] = [
        lambda: Muon([vector]),
        lambda: SOAP([vector]),
        lambda: AdamW([matrix]).step(lambda: None),
        lambda: ScheduleFreeAdamW([matrix], betas=(0.0, 0.9)),
    ]
    refused = 0
    for mistake in mistakes:
        try:
            mistake()
        except ValueError:
            refused += 1
    return refused


# --- helpers --------------------------------------------------------------------------------------------------------


@cache
def _end_of_torchs(name: str) -> list[Tensor]:
    return follow(TORCH[name][2])


def _drive(rule: Any, w: Tensor, grads: Tensor, s: dict[str, Any] | None = None, **hyperparameters: Any) -> Tensor:
    """`rule` along given gradients (T, ...), whatever w is."""
    s = {} if s is None else s
    for t, g in enumerate(grads, start=1):
        s["t"] = t
        w = rule(w, g, s, **hyperparameters)
    return w


def _drive_optimizer(make: Make, w: Tensor, grads: Tensor) -> Tensor:
    """The same with an optimizer."""
    p = w.clone().requires_grad_()
    optimizer = make([p])
    for g in grads:
        p.grad = g.clone()
        optimizer.step()
    return p.detach()


class _Unrounded:
    """torch.optim.Muon in float64."""

    def __init__(self, params: list[Tensor]) -> None:
        self.optimizer = MUON[2](params)

    def step(self) -> None:
        with torch_muon_without_rounding():
            self.optimizer.step()


class _Resumed:
    """An optimizer that is written to a file and read into a new one after so many steps."""

    def __init__(self, make: Make, params: list[Tensor], *, after: int) -> None:
        self.make, self.params, self.left, self.optimizer = make, params, after, make(params)

    def step(self) -> None:
        if self.left == 0:
            file = io.BytesIO()
            torch.save(self.optimizer.state_dict(), file)
            file.seek(0)
            self.optimizer = self.make(self.params)
            self.optimizer.load_state_dict(torch.load(file, weights_only=True))
        self.left -= 1
        self.optimizer.step()
