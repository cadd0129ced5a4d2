"""The optimizers against torch's own, fast versions against plain ones, and what a training needs of them."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmm.foundations.optimizers import AdamW, Muon, checks, plain
from llmm.foundations.optimizers.clipping import clip_by_global_norm
from llmm.foundations.optimizers.foreach import SGD, Adam, Lion
from llmm.foundations.optimizers.muon import orthogonalise
from llmm.foundations.optimizers.one_by_one import OneByOne
from llmm.foundations.optimizers.oracles import MUON, MUON_LOSS_SCALE, OTHERS, TORCH, torch_muon_without_rounding
from llmm.foundations.optimizers.problems import MATRICES, Perceptron, counterexample, digits, farthest, follow
from llmm.foundations.optimizers.schedule_free import ScheduleFreeAdamW
from llmm.foundations.optimizers.schedules import cosine, warmup_stable_decay
from llmm.foundations.optimizers.shapes import ADAMW_SHAPES, MUON_SHAPES
from llmm.foundations.optimizers.sharpness import sharpness
from llmm.foundations.optimizers.soap import SOAP
from llmm.foundations.optimizers.training import CANDIDATES, judge, train

# --- oracles ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TORCH)
def test_plain_and_fast_agree_with_torch_over_200_steps(name):
    ours, fast, theirs = (follow(make) for make in TORCH[name])
    assert farthest(ours, theirs) <= 1e-12
    assert farthest(fast, theirs) <= 1e-12


@pytest.mark.parametrize("shapes", [MATRICES, checks.WIDE_AND_TALL], ids=["mixed", "wide and tall"])
def test_muon_agrees_with_torch_over_200_steps_once_torch_does_not_round(shapes):
    def run(make):
        return follow(make, shapes=shapes, loss_scale=MUON_LOSS_SCALE)

    rounded = run(MUON[2])
    with torch_muon_without_rounding():
        theirs = run(MUON[2])
    assert farthest(rounded, theirs) > 1e-5  # so the rounding was switched off, and comes back
    assert farthest(run(MUON[2]), rounded) == 0.0
    assert farthest(run(MUON[0]), theirs) <= 1e-12
    assert farthest(run(MUON[1]), theirs) <= 1e-12


@pytest.mark.parametrize("name", OTHERS)
def test_what_torch_does_not_have_agrees_with_its_plain_version(name):
    arguments = {"shapes": shapes} if (shapes := checks.ONLY_SHAPES.get(name)) else {}
    ours, fast = (follow(make, **arguments) for make in OTHERS[name])
    assert farthest(ours, fast) <= 1e-12


def test_lion_agrees_with_its_unrolled_sums():
    assert checks.lion_from_equations() <= 1e-12


def test_a_parameter_that_begins_late_has_its_own_bias_correction():
    assert checks.late_start_from_torch() <= 1e-12


@pytest.mark.parametrize("fast", [Adam, Lion, SGD, ScheduleFreeAdamW])
def test_a_parameter_without_a_gradient_stays(fast):
    moved, still = (torch.ones(3, requires_grad=True) for _ in range(2))
    moved.grad = torch.ones(3)
    fast([moved, still], lr=0.1).step()
    assert (still == 1).all() and (moved < 1).all()


# --- SOAP where its bases are not determined --------------------------------------------------------------------------


def test_30_soaps_bases_on_a_wide_matrix_are_arbitrary_and_decide_its_steps():
    """The first gradient leaves a null space, in which the eigenvectors are anybody's; given one choice all agree."""

    def run(make, bases=None):
        """The end, and the bases that were used in step 2 (those given, where some are)."""
        made, used = [], []

        def keep(params):
            made.append(make(params))
            return made[0]

        def at_step_2(t, params):
            if t == 2:
                states = [made[0].state[p] for p in params]
                for state, given_ in zip(states, bases or [], strict=bool(bases)):
                    state["Q_L"].copy_(given_[0])
                    state["Q_R"].copy_(given_[1])
                used.extend((state["Q_L"].clone(), state["Q_R"].clone()) for state in states)

        return follow(keep, shapes=MATRICES, before_step=at_step_2), used

    plain_, fast = OTHERS["soap"]
    end, bases = run(plain_)
    assert farthest(end, run(fast, bases)[0]) <= 1e-9
    generator = torch.Generator().manual_seed(0)
    others = []
    for Q_L, Q_R in bases:  # turn the null space of R, nothing else
        rank = min(len(Q_L), len(Q_R))
        Q_R = Q_R.clone()
        if rank < len(Q_R):
            null = len(Q_R) - rank  # the smallest eigenvalues come last
            Q_R[:, rank:] @= torch.linalg.qr(torch.randn(null, null, dtype=torch.float64, generator=generator)).Q
        others.append((Q_L, Q_R))
    assert farthest(end, run(plain_, others)[0]) > 1e-3


# --- Muon -------------------------------------------------------------------------------------------------------------


class OneOptimizerEach:
    def __init__(self, params):
        self.optimizers = [MUON[1]([p]) for p in params]

    def step(self):
        for optimizer in self.optimizers:
            optimizer.step()


def test_muon_in_batches_moves_as_one_matrix_at_a_time():
    together = follow(MUON[1], steps=50, shapes=checks.SQUARE)
    assert farthest(together, follow(OneOptimizerEach, steps=50, shapes=checks.SQUARE)) <= 1e-12


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
    assert values.min() > 0.68 and values.max() < 1.21
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


# --- state, clipping, schedules, refusals -----------------------------------------------------------------------------


def test_every_optimizer_goes_on_bit_for_bit_after_a_resume():
    assert checks.resumed_from_uninterrupted() == 0.0


def test_schedule_free_can_be_saved_while_it_shows_its_average():
    def run(save):
        p = torch.ones(3, dtype=torch.float64, requires_grad=True)
        optimizer = ScheduleFreeAdamW([p], lr=0.1)
        for t in range(10):
            if save and t == 5:
                optimizer.eval()
                state, p = optimizer.state_dict(), p.detach().clone().requires_grad_()
                optimizer = ScheduleFreeAdamW([p], lr=0.3)
                optimizer.load_state_dict(state)
                optimizer.train()
            p.grad = 2 * p.detach()
            optimizer.step()
        return [p.detach()]

    assert farthest(run(save=True), run(save=False)) <= 1e-14


def test_schedule_free_may_begin_at_a_rate_of_zero():
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = ScheduleFreeAdamW([p], lr=0.0)
    seen = []
    for rate in (0.0, 0.1):
        optimizer.param_groups[0]["lr"] = rate
        p.grad = torch.ones(3)
        optimizer.step()
        seen.append(p.detach().clone())
    assert torch.equal(seen[0], torch.ones(3)) and (seen[1] < 1).all()


def test_schedule_free_refuses_a_step_on_its_average():
    p = torch.ones(3, requires_grad=True)
    optimizer = ScheduleFreeAdamW([p])
    optimizer.eval()
    p.grad = torch.ones(3)
    with pytest.raises(RuntimeError, match="train"):
        optimizer.step()


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=6), st.floats(0.1, 1e4))
def test_clipping_keeps_the_direction_and_never_exceeds_the_norm(values, most):
    params = [torch.zeros(1, dtype=torch.float64, requires_grad=True) for _ in values]
    for p, value in zip(params, values, strict=True):
        p.grad = torch.tensor([value], dtype=torch.float64)
    before = math.hypot(*values)
    assert float(clip_by_global_norm(params, most)) == pytest.approx(before)
    after = torch.cat([p.grad for p in params])
    assert math.hypot(*after.tolist()) <= min(before, most) * (1 + 1e-9)  # torch's norm squares 1e-160 to nothing
    assert float(after.norm()) == pytest.approx(min(before, most), rel=1e-4, abs=1e-5)
    assert float(after @ torch.tensor(values, dtype=torch.float64)) == pytest.approx(float(after.norm()) * before)


def test_clipping_agrees_with_torch():
    assert checks.clipping_from_torch() <= 1e-12
    assert float(clip_by_global_norm([torch.zeros(2, requires_grad=True)], 1.0)) == 0.0


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
    assert checks.schedules_from_equations() <= 1e-12


def test_mistakes_are_refused_with_a_word_about_them():
    vector = torch.zeros(3, requires_grad=True)
    for optimizer in (Muon, SOAP):
        with pytest.raises(ValueError, match=r"\(3,\)"):
            optimizer([vector])
    with pytest.raises(ValueError, match="momentum above 0"):
        SGD([vector], nesterov=True)
    with pytest.raises(TypeError, match="sgd has no beta1; it has lr, weight_decay"):
        OneByOne([vector], plain.sgd, beta1=0.9)
    for optimizer in (OneByOne([vector], plain.sgd), AdamW([vector]), Adam([vector])):
        with pytest.raises(ValueError, match="closure"):
            optimizer.step(lambda: None)
    assert checks.refusals() == 4


# --- what the experiments stand on ------------------------------------------------------------------------------------


def test_the_check_itself_sees_a_nan():
    assert farthest([torch.tensor([math.nan])], [torch.tensor([1.0])]) == math.inf


def test_shapes_are_those_of_the_default_pretraining():
    from llmm.params import load_params
    from llmm.training.pretraining.recipe import build_model

    params = load_params()
    model = build_model(params.pretrain, params.tokenizer.vocab_size, seed=0)
    matrices = sorted(tuple(p.shape) for p in model.model.layers.parameters() if p.ndim == 2)
    assert sorted(MUON_SHAPES) == matrices
    chosen = {id(p) for p in model.model.layers.parameters() if p.ndim == 2}
    assert sorted(ADAMW_SHAPES) == sorted(tuple(p.shape) for p in model.parameters() if id(p) not in chosen)


def test_adam_ends_at_the_wrong_end_of_the_counterexample_and_amsgrad_at_the_right_one():
    settings_ = {"C": 3.0, "cycles": 100, "beta1": 0.0, "beta2": 0.1, "eps": 0.0}
    assert counterexample(plain.adam, **settings_)[-1] > 0.9
    assert counterexample(plain.amsgrad, **settings_)[-1] < -0.9


def test_sharpness_of_a_quadratic_is_its_largest_curvature():
    w = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    h = torch.tensor([0.5, 4.0], dtype=torch.float64)
    assert sharpness(lambda: (h * w**2).sum() / 2, [w], [torch.ones(2, dtype=torch.float64)]) == pytest.approx(4.0)


@pytest.mark.parametrize("name", CANDIDATES)
def test_every_candidate_learns_digits(name):
    *_, (model, _) = train(CANDIDATES[name], CANDIDATES[name].middle, seed=0, steps=60)
    untrained, _ = judge(Perceptron((64, 48, 48, 10), 0))
    loss, accuracy = judge(model)
    assert loss < untrained / 3 and accuracy > 0.8


def test_digits_are_split_once_and_for_all():
    data = digits()
    assert data.train_images.shape == (1347, 64) and data.test_images.shape == (450, 64)
    assert len(data.train_labels) == 1347 and len(data.test_labels) == 450
