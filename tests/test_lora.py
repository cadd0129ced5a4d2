"""M10: every derived formula against an independent source, each criterion, and what small wrong uses say."""

import math
from pathlib import Path

import pytest
import torch
from derivations import assert_derivations_are_tested
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from llmm.errors import UserError
from llmm.foundations.optimizers import Muon
from llmm.ladder.milestones import find_milestone
from llmm.ladder.records import read_records
from llmm.training.lora import checks
from llmm.training.lora.block_quantisation import QuantisedMatrix, QuantisedScales, bits_per_parameter
from llmm.training.lora.dora import DoRALinear, weight_gradient
from llmm.training.lora.experiments import COMPARED
from llmm.training.lora.low_rank import LoRALinear, attach, lora_scale
from llmm.training.lora.many_adapters import serve_together
from llmm.training.lora.memory_cost import lora_parameters, training_bytes
from llmm.training.lora.nf4 import nearest_level, normal_float_levels
from llmm.training.lora.preference_runs import START, Taste, share_of_letters
from llmm.training.lora.preferences import best_of_n_kl, best_policy, dpo_gradient, dpo_loss, implicit_reward
from llmm.training.lora.spectrum import best_low_rank, effective_rank, least_error
from llmm.training.lora.summed import SummedLora

README = Path("llmm/training/lora/README.md")
MEASURED = [criterion for criterion in find_milestone("m10").spec.criteria if criterion.check]


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear(m=16, n=24):
    layer = nn.Linear(n, m, bias=False).double()
    layer.weight.data = normal(m, n, seed=9)
    return layer


def test_every_section_of_the_derivations_names_its_tests():
    assert_derivations_are_tested(README, globals())


@pytest.mark.parametrize("criterion", MEASURED, ids=lambda criterion: criterion.id)
def test_the_reference_meets_the_criterion(criterion):
    assert criterion.holds(getattr(checks, criterion.check)())


# 1. two factors


def test_each_factor_learns_through_the_other():
    assert checks.gradient_error() <= 1e-12
    layer, x, delta = LoRALinear(linear(), 3, 6.0), normal(10, 24), normal(10, 16, seed=1)
    layer.lora_B.data = normal(16, 3, seed=2)
    layer(x).backward(delta)
    G = delta.mT @ x
    assert torch.allclose(layer.lora_A.grad, layer.scale * layer.lora_B.mT @ G)
    assert torch.allclose(layer.lora_B.grad, layer.scale * G @ layer.lora_A.mT)


def test_the_first_step_is_the_gradient_seen_through_a():
    layer, x, delta, rate = LoRALinear(linear(), 3, 6.0), normal(10, 24), normal(10, 16, seed=1), 0.1
    A = layer.lora_A.detach().clone()
    layer(x).backward(delta)
    with torch.no_grad():
        for factor in (layer.lora_A, layer.lora_B):
            factor -= rate * factor.grad
    assert torch.equal(layer.lora_A, A)
    assert torch.allclose(layer.change(), -rate * layer.scale**2 * (delta.mT @ x) @ A.mT @ A)


@pytest.mark.parametrize(("tokens", "rank"), [(4096, 31), (4096, 34), (64, 100), (64, 130)])
def test_a_branch_is_more_work_than_a_sum_above_a_rank(tokens, rank):
    from peft import LoraConfig, get_peft_model
    from peft.tuners.lora import Linear

    width, spent = 192, {}
    for kind in (Linear, SummedLora):
        model = nn.Sequential(nn.Linear(width, width, bias=False))
        get_peft_model(model, LoraConfig(r=rank, target_modules=["0"]))
        model[0].__class__ = kind
        x = torch.zeros(tokens, width, requires_grad=True)
        with FlopCounterMode(display=False) as counter:
            model(x).sum().backward()
        spent[kind] = counter.get_total_flops()
    assert spent[Linear] == 4 * tokens * width**2 + 6 * tokens * rank * 2 * width
    assert spent[SummedLora] == 6 * tokens * width**2 + 6 * width**2 * rank
    even = tokens * width**2 / (3 * (tokens * 2 * width - width**2)) if tokens > width / 2 else math.inf
    assert (spent[SummedLora] < spent[Linear]) == (rank > even)


def test_gradients_go_down_through_what_is_frozen():
    layer, delta = LoRALinear(linear(), 3, 6.0), normal(10, 16, seed=1)
    layer.lora_B.data = normal(16, 3, seed=2)
    x = normal(10, 24).requires_grad_()
    layer(x).backward(delta)
    assert torch.allclose(x.grad, delta @ (linear().weight + layer.change()).detach())


# 2. the scale


def test_a_gradient_step_keeps_its_size_under_one_scale_and_a_sign_step_under_the_other():
    base, x, delta = linear(64, 256), normal(1, 256), normal(1, 64, seed=1)
    moved = {}
    for scaling, signed in (("rslora", False), ("lora", True), ("lora", False), ("rslora", True)):
        for rank in (4, 64):
            sizes = []
            for seed in range(200):
                A = LoRALinear(base, rank, 1.0, generator=torch.Generator().manual_seed(seed)).lora_A.detach()
                s = lora_scale(1.0, rank, scaling)
                gradient = s * delta.mT @ (x @ A.mT)
                step = gradient.sign() if signed else gradient
                sizes.append(float((s * step @ A @ x.mT).norm()))
            moved[scaling, signed, rank] = sum(sizes) / len(sizes)
    growth = {key[:2]: moved[(*key[:2], 64)] / moved[(*key[:2], 4)] for key in moved}
    assert growth["rslora", False] == pytest.approx(1, abs=0.15)
    assert growth["lora", True] == pytest.approx(1, abs=0.15)
    assert growth["lora", False] == pytest.approx(1 / 16, rel=0.2)  # s² r
    assert growth["rslora", True] == pytest.approx(4, rel=0.2)  # s r


def test_an_orthogonal_step_keeps_its_size_at_every_rank():
    tokens, x, deltas = normal(400, 192, seed=1), normal(1, 192), normal(400, 192, seed=2)
    sizes = {}
    for rank in (4, 16, 64, 128):
        A = normal(rank, 192, seed=3) / (3 * 192) ** 0.5
        B = torch.nn.Parameter(torch.zeros(192, rank, dtype=torch.float64))
        B.grad = deltas.mT @ (tokens @ A.mT)
        U, _, Vh = torch.linalg.svd(B.grad, full_matrices=False)
        expected = (192 / rank) ** 0.5 * float((A @ x.mT).norm())
        assert (192 / rank) ** 0.5 * float((U @ Vh @ A @ x.mT).norm()) == pytest.approx(expected, rel=1e-9)
        Muon([B], lr=1.0, momentum=0.0).step()
        sizes[rank] = float((B.detach() @ A @ x.mT).norm())
        assert sizes[rank] == pytest.approx(expected, rel=0.3)  # five steps of Newton-Schulz are that exact
    assert max(sizes.values()) / min(sizes.values()) < 1.5  # a scale of 1/√r would have it fall to a sixth


def test_unrelated_factors_grow_with_the_root_of_the_rank():
    assert checks.scale_slope_error() <= 0.05
    assert lora_scale(16, 64, "lora") == 0.25 and lora_scale(16, 64, "rslora") == 2


# 3. the best that a rank can do


def test_no_matrix_of_a_rank_comes_nearer_than_the_singular_values_left_out():
    M = normal(12, 9)
    for rank in (1, 4, 8):
        assert float((M - best_low_rank(M, rank)).square().sum()) == pytest.approx(least_error(M, rank))
        for seed in range(10):
            B = normal(12, rank, seed=seed)
            Q = torch.linalg.qr(B)[0]
            assert float((M - Q @ Q.mT @ M).square().sum()) >= least_error(M, rank)  # the best A for this B
            left = torch.linalg.svdvals(M - B @ normal(rank, 9, seed=seed + 50))
            assert bool((torch.linalg.svdvals(M)[rank:] <= left[: 9 - rank] + 1e-12).all())  # (3.2)


def test_with_white_inputs_the_loss_is_the_distance_of_the_matrices():
    M, X = normal(6, 5), normal(6, 5, seed=1)
    x = normal(400, 5, seed=2)
    white = torch.linalg.qr(x)[0] * 400**0.5  # x xᵀ averages to the identity exactly
    assert float(((white @ (M - X).mT) ** 2).sum(1).mean()) == pytest.approx(float((M - X).square().sum()))


def test_effective_rank_counts_equal_directions():
    assert checks.effective_rank_error() <= 1e-12
    direction = torch.outer(normal(128), normal(128, seed=1))
    noise = normal(128, 128, seed=2)
    noisy = direction / direction.norm() + 0.1 * noise / noise.norm()
    assert int(torch.linalg.matrix_rank(noisy)) == 128 and effective_rank(noisy) == pytest.approx(1, abs=0.05)


# 4. length and direction


def test_what_a_constant_length_adds_lies_along_the_row():
    V, magnitude, g = normal(5, 7), normal(5, seed=1), normal(5, 7, seed=2)
    added = weight_gradient(g, V, magnitude, False) - weight_gradient(g, V, magnitude, True)
    expected = magnitude * (g * V).sum(1) / V.norm(dim=1) ** 3
    assert torch.allclose(added, expected[:, None] * V)
    A = LoRALinear(linear(5, 7), 2, 1.0).lora_A.detach()
    through_factors = added @ A.mT @ A  # what a step of B makes of it, (1.6)
    along = (through_factors * V).sum(1, keepdim=True) / V.norm(dim=1, keepdim=True) ** 2 * V
    assert float((through_factors - along).norm()) > 0.2 * float(through_factors.norm())


def test_directions_do_not_change_along_themselves():
    V, step = normal(1, 7)[0], 1e-6
    jacobian = torch.autograd.functional.jacobian(lambda v: v / v.norm(), V)
    by_hand = (torch.eye(7) - torch.outer(V, V) / V.dot(V)) / V.norm()
    assert torch.allclose(jacobian, by_hand.double())
    assert float((jacobian @ V).abs().max()) < 1e-12
    longer = V * (1 + step)
    assert torch.allclose(longer / longer.norm(), V / V.norm(), atol=1e-12)


def test_gradients_of_dora_are_those_by_hand():
    assert checks.dora_gradient_error() <= 1e-12


# 5. four bits


def test_levels_are_the_published_ones_and_zero_is_one_of_them():
    levels = normal_float_levels()
    assert checks.nf4_levels_error() <= 1e-6
    assert levels[7] == 0 and levels[0] == -1 and levels[15] == 1 and bool((levels.diff() > 0).all())
    probabilities = torch.special.ndtr(levels * torch.special.ndtri(torch.tensor(1 - (1 / 16 + 1 / 15) / 4).double()))
    assert torch.allclose(probabilities[7:].diff(), probabilities[8] - probabilities[7])
    assert torch.allclose(probabilities[:8].diff(), probabilities[1] - probabilities[0])
    assert len(normal_float_levels(3)) == 8


def test_levels_are_used_about_equally_often_until_a_block_is_divided():
    def shares(values):
        return torch.bincount(nearest_level(values.flatten(), levels).long(), minlength=16) / values.numel()

    levels, numbers = normal_float_levels(), normal(4000, 64)
    end = torch.special.ndtri(torch.tensor(1 - (1 / 16 + 1 / 15) / 4).double())
    even, in_64 = shares(numbers / end), shares(numbers / numbers.abs().amax(1, keepdim=True))
    smaller = numbers.view(-1, 16)
    in_16 = shares(smaller / smaller.abs().amax(1, keepdim=True))
    assert even.min() > 0.05 and even.max() < 0.075
    assert in_64[[0, 15]].max() < 0.4 / 16 and in_64[4:8].min() > 1.25 / 16
    assert in_16.min() > 0.045 and in_16.max() < 0.08


def test_numbers_are_off_by_at_most_half_a_gap():
    assert checks.quantisation_faults() == 0
    weight = normal(64, 64).float()
    errors = [float((QuantisedMatrix(weight, block=K).back() - weight).square().mean()) for K in (16, 64, 256)]
    assert errors == sorted(errors)  # a larger block has a larger largest number


def test_scales_in_eight_bits_are_off_by_half_a_step():
    assert checks.scales_error() <= 0.501
    alike = torch.full((300,), 2.5)
    assert torch.allclose(QuantisedScales(alike).back(), alike)


def test_bits_are_those_that_are_stored():
    assert checks.bits_error() <= 1e-4
    assert bits_per_parameter() == pytest.approx(4.127, abs=5e-4)
    assert bits_per_parameter(double=False) == 4.5


# 6. memory


def test_training_holds_what_the_formula_says():
    assert checks.memory_error() <= 1e-3
    assert training_bytes(7_000_000_000).total == 16 * 7e9
    small = training_bytes(7_000_000_000, adapter=20_000_000, quantised=7_000_000_000)
    assert small.total == pytest.approx(4.127 / 8 * 7e9 + 16 * 2e7, rel=1e-4)
    assert 25 < training_bytes(7_000_000_000).total / small.total < 30
    assert checks.quantised_base_error() <= 1e-12  # no matrix is kept unpacked for the backward pass


def test_the_share_of_an_adapter_falls_with_the_width():
    for width in (64, 4096):
        assert lora_parameters([(width, width)] * 4, 8) / (4 * width**2) == pytest.approx(16 / width)


# 7. preferences


def test_no_policy_beats_the_tilted_base():
    assert checks.best_policy_error() <= 1e-12
    base, reward = normal(6).log_softmax(0), normal(6, seed=1)
    assert torch.allclose(best_policy(base, 0 * reward, 0.3), base)  # without a reward the base is best
    assert int(best_policy(base, reward, 1e-3).argmax()) == int(reward.argmax())
    assert best_policy(base, reward, 1e-3).max() == pytest.approx(0, abs=1e-12)


def test_a_policy_is_the_best_one_for_the_reward_it_implies():
    base, policy = normal(6).log_softmax(0), normal(6, seed=1).log_softmax(0)
    assert torch.allclose(best_policy(base, implicit_reward(policy, base, 0.4), 0.4), policy)


def test_pairs_push_by_how_wrong_they_are():
    assert checks.dpo_gradient_error() <= 1e-12
    base = torch.zeros(2, 2, dtype=torch.float64)
    right_and_wrong = torch.tensor([[0.0, -9.0], [-9.0, 0.0]], dtype=torch.float64)
    pushes = dpo_gradient(right_and_wrong, base, 1.0).abs()
    assert float(pushes[0].max()) < 1e-3 and float(pushes[1].min()) == pytest.approx(0.5, abs=1e-3)
    both_fall = torch.tensor([[-5.0, -20.0]], dtype=torch.float64)  # less likely than in the base, both of them
    assert dpo_loss(both_fall, base[:1], 1.0) < dpo_loss(torch.tensor([[1.0, 0.0]]).double(), base[:1], 1.0)


def test_a_fresh_adapter_prefers_nothing():
    assert checks.dpo_start_error() <= 1e-12
    assert checks.answer_log_p_error() <= 1e-5


def test_all_preferences_together_lead_to_the_best_policy():
    assert checks.dpo_policy_error() <= 1e-5


def test_the_best_of_n_is_known_by_its_rank():
    assert checks.best_of_n_error() <= 1e-4
    assert best_of_n_kl(1) == 0
    draws = torch.rand(40_000, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).amax(1)
    assert float((4 * draws**3).log().mean()) == pytest.approx(best_of_n_kl(4), abs=0.02)


def test_the_made_up_taste_is_for_letters():
    ids = torch.tensor([[0] * START + list(text) for text in (b"aZ" * 16, b"09@[`{ \n" * 4, b"a " * 16)])
    assert share_of_letters(ids).tolist() == [1, 0, 0.5]
    assert Taste(0.5, 0.25)(ids).tolist() == [2, -2, 0]


# uses


def test_a_merged_layer_can_be_trained_on_after_unmerging():
    layer = DoRALinear(linear(), 3, 6.0)
    layer.lora_B.data = normal(16, 3, seed=2)
    x, before = normal(4, 24), linear().weight
    out = layer(x)
    layer.merge()
    assert torch.allclose(layer(x), out)
    layer.unmerge()
    assert torch.allclose(layer.base_layer.weight, before) and torch.allclose(layer(x), out)
    layer(x).sum().backward()
    assert layer.lora_A.grad is not None and layer.base_layer.weight.grad is None


def test_rows_without_a_chosen_adapter_and_adapters_of_other_kinds_are_refused():
    def model():
        return nn.Sequential(linear())

    first, dora = model(), model()
    adapter = attach(first, ["0"], 2, 4.0)
    served = model()
    rows = serve_together(served, [adapter])
    with pytest.raises(UserError, match="chosen for none"):
        served(normal(2, 3, 24))
    rows.choose([0])
    with pytest.raises(UserError, match=r"batch of .2, 3, 24. and adapters chosen for 1"):
        served(normal(2, 3, 24))
    with pytest.raises(UserError, match="only LoRA"):
        serve_together(model(), [attach(dora, ["0"], 2, 4.0, kind=DoRALinear)])
    adapter["0"].merge()
    with pytest.raises(UserError, match="unmerge it first"):
        serve_together(model(), [adapter])


def test_the_intruders_are_counted_at_the_rates_that_were_found_best():
    chosen = read_records("m10")["experiments"]["forgetting"]["metrics"]["prose"]
    for variant in ("full", "rank_1", "rank_4", "rank_16"):
        assert COMPARED[variant] == chosen[variant]["rate"], variant


def test_the_same_seed_gives_the_same_adapter_and_another_one_another():
    def first(seed):
        return attach(nn.Sequential(linear()), ["0"], 2, 4.0, seed=seed)["0"].lora_A

    assert torch.equal(first(0), first(0)) and not torch.equal(first(0), first(1))
    assert float(first(0).detach().abs().max()) <= 1 / math.sqrt(24)
