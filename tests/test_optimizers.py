"""The optimizers against torch's own, and the properties that make them what they are."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmm.foundations.optimizers import AdamW, Muon
from llmm.foundations.optimizers.muon import orthogonalise
from llmm.foundations.optimizers.schedules import cosine, warmup_stable_decay

SHAPES = [(4, 6), (6, 4), (5, 5), (4, 6)]


def _quadratic(params, targets):
    return sum(
        ((p - t) ** 2 * (1 + torch.arange(p.numel(), dtype=p.dtype).view_as(p))).sum()
        for p, t in zip(params, targets, strict=True)
    )


def _run(make, steps=200):
    torch.manual_seed(0)
    params = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in SHAPES]
    targets = [torch.randn_like(p) for p in params]
    optimizer = make(params)
    for _ in range(steps):
        optimizer.zero_grad()
        _quadratic(params, targets).backward()
        optimizer.step()
    return params


def test_adamw_agrees_with_torch_over_200_steps():
    ours = _run(lambda p: AdamW(p, lr=0.01, betas=(0.9, 0.95), weight_decay=0.1))
    torchs = _run(lambda p: torch.optim.AdamW(p, lr=0.01, betas=(0.9, 0.95), weight_decay=0.1))
    for a, b in zip(ours, torchs, strict=True):
        assert (a - b).abs().max() <= 1e-12


def test_a_parameter_that_begins_late_has_its_own_bias_correction():
    def run(make):
        torch.manual_seed(0)
        early, late = (torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in range(2))
        optimizer = make([early, late])
        for step in range(20):
            optimizer.zero_grad()
            ((early**2).sum() + ((late**2).sum() if step >= 10 else 0)).backward()
            optimizer.step()
        return late

    assert (
        run(lambda p: AdamW(p, lr=0.1)) - run(lambda p: torch.optim.AdamW(p, lr=0.1, betas=(0.9, 0.95), weight_decay=0))
    ).abs().max() <= 1e-12


def test_muon_in_batches_moves_as_one_matrix_at_a_time():
    together = _run(lambda p: Muon(p, lr=0.02, weight_decay=0.1), steps=50)

    class Separate:
        def __init__(self, params):
            self.optimizers = [Muon([p], lr=0.02, weight_decay=0.1) for p in params]

        def zero_grad(self):
            for optimizer in self.optimizers:
                optimizer.zero_grad()

        def step(self):
            for optimizer in self.optimizers:
                optimizer.step()

    for a, b in zip(together, _run(Separate, steps=50), strict=True):
        assert (a - b).abs().max() <= 1e-10


def test_muon_agrees_with_torch():
    """torch.optim.Muon computes its iteration in bfloat16, so the directions agree to that precision."""
    torch.manual_seed(0)
    start, grad = torch.randn(32, 48), torch.randn(32, 48)
    moved = []
    for make in (lambda p: Muon(p, lr=1.0), lambda p: torch.optim.Muon(p, lr=1.0, weight_decay=0.0, momentum=0.95)):
        p = start.clone().requires_grad_()
        optimizer = make([p])
        p.grad = grad.clone()
        optimizer.step()
        moved.append(p.detach() - start)
    assert (moved[0] - moved[1]).norm() / moved[1].norm() < 0.02


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 40), st.integers(2, 40), st.integers(0, 1000))
def test_orthogonalise_brings_singular_values_near_one_and_keeps_the_directions(rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    u, _, vt = torch.linalg.svd(
        torch.randn(rows, columns, generator=generator, dtype=torch.float64), full_matrices=False
    )
    s = torch.linspace(0.1, 1.0, min(rows, columns), dtype=torch.float64)
    result = orthogonalise((u * s @ vt)[None])[0]
    values = torch.linalg.svdvals(result)
    assert values.min() > 0.6 and values.max() < 1.25
    assert ((u.mT @ result @ vt.mT) - torch.diag(torch.diag(u.mT @ result @ vt.mT))).abs().max() < 1e-8


@settings(deadline=None, max_examples=15)
@given(st.integers(2, 40), st.integers(2, 40), st.integers(0, 1000))
def test_muon_in_bfloat16_takes_nearly_the_same_step(rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    start, gradient = (torch.randn(rows, columns, generator=generator) for _ in range(2))
    moved = []
    for dtype in (torch.float32, torch.bfloat16):
        weight = torch.nn.Parameter(start.clone())
        weight.grad = gradient.clone()
        Muon([weight], lr=0.1, dtype=dtype).step()
        assert weight.dtype == torch.float32
        moved.append(weight.detach() - start)
    assert torch.nn.functional.cosine_similarity(*(step.flatten() for step in moved), dim=0) > 0.98


def test_muon_refuses_what_is_no_matrix():
    with pytest.raises(ValueError, match=r"\(3,\)"):
        Muon([torch.zeros(3, requires_grad=True)])


def test_schedules_start_low_peak_at_one_and_end_at_zero():
    wsd = [warmup_stable_decay(step, 1000, 40, 0.5) for step in range(1001)]
    assert (
        wsd[0] == pytest.approx(1 / 41)
        and wsd[40] == wsd[500] == 1.0
        and wsd[750] == pytest.approx(0.5)
        and wsd[1000] == 0
    )
    cos = [cosine(step, 1000, 10) for step in range(1001)]
    assert max(cos) == 1.0 and cos[1000] == pytest.approx(0) and cos[505] == pytest.approx(0.5)
