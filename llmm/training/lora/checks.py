"""The exit criteria of M10 that a machine measures: one function each, no arguments, one number or truth value out.

The thresholds stand in milestone.yaml.
"""

import copy
import itertools
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmm.errors import UserError
from llmm.files import read_json, write_json
from llmm.foundations.optimizers import AdamW
from llmm.ladder.expect import expect_number, expect_shape, expect_type
from llmm.training.lora.adapter import TARGETS, _PeftConfig, attach_lora
from llmm.training.lora.adapter_files import read_adapter, write_adapter
from llmm.training.lora.block_quantisation import QuantisedMatrix, QuantisedScales, bits_per_parameter
from llmm.training.lora.dora import DoRALinear, weight_gradient
from llmm.training.lora.low_rank import LoRALinear, adapted_layers, attach, factor_gradients, lora_scale
from llmm.training.lora.many_adapters import NONE, serve_together
from llmm.training.lora.memory_cost import lora_parameters, training_bytes
from llmm.training.lora.nf4 import fp4_levels, nearest_level, normal_float_levels, pack, uniform_levels, unpack
from llmm.training.lora.preferences import (
    answer_log_p,
    best_of_n_kl,
    best_policy,
    dpo_gradient,
    dpo_loss,
    implicit_reward,
    regularised_reward,
)
from llmm.training.lora.quantised_linear import QuantisedLinear, quantise
from llmm.training.lora.spectrum import best_low_rank, effective_rank, intruder_dimensions, least_error
from llmm.training.pretraining.recipe import next_token_loss
from llmm.transformers.gpt import GPT, GPTConfig

KINDS: tuple[type[LoRALinear], ...] = (LoRALinear, DoRALinear)
CONFIG = GPTConfig(64, 2, 4, 2, 32, 80, 64)
# appendix E of 2305.14314
PUBLISHED_NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip


# --- the branch -------------------------------------------------------------------------------------------------------


def logits_changed_at_the_start() -> int:
    """Logits that are not the base model's to the last bit once adapters of each kind have been attached."""
    ids_BT = _ids(2, 20)
    changed = 0
    for kind, scaling in itertools.product(KINDS, ("lora", "rslora")):
        model = _gpt()
        before = model(ids_BT)
        attach(model, TARGETS, 4, 8.0, scaling, kind)  # type: ignore[arg-type]
        changed += int((expect_shape("logits", model(ids_BT), before.shape) != before).sum())
        empty = nn.Linear(8, 8, bias=False)
        nn.init.zeros_(empty.weight)  # as the matrices that write to the residual stream begin
        changed += int((kind(empty, 2, 8.0)(torch.ones(1, 8)) != 0).sum())
    return changed


def gradient_error() -> float:
    """Factor gradients by hand against autograd, float64: largest difference over the largest gradient."""
    layer, x_Nn = _layer(), _normal((40, 24), 5)
    output_grad_Nm = _normal((40, 16), 6)
    layer(x_Nn).backward(output_grad_Nm)
    by_hand = factor_gradients(x_Nn, output_grad_Nm, layer.lora_A.detach(), layer.lora_B.detach(), layer.scale)
    return max(
        _relative(expect_shape("a factor's gradient", found, parameter.shape), parameter.grad)
        for found, parameter in zip(by_hand, (layer.lora_A, layer.lora_B), strict=True)
    )


def first_gradient_of_a() -> float:
    """Largest entry of ∂L/∂A at the start, where B is zero; infinite where ∂L/∂B is zero as well."""
    layer = LoRALinear(_linear(), 4, 8.0, generator=torch.Generator().manual_seed(1))
    layer(_normal((10, 24), 2)).square().sum().backward()
    gradient_A, gradient_B = layer.lora_A.grad, layer.lora_B.grad
    if gradient_A is None or gradient_B is None or not bool(gradient_B.any()):
        return math.inf
    return float(gradient_A.abs().max())


def base_tensors_changed() -> int:
    """Tensors of the base that are not the same to the last bit after twenty steps of each kind, losses that did not
    fall, and layers left out."""
    changed = 0
    for kind in KINDS:
        model = _gpt()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        layers = attach(model, TARGETS, 4, 8.0, kind=kind)
        losses = _train(model, 20)
        after = {name.replace(".base_layer", ""): value for name, value in model.state_dict().items()}
        changed += sum(not torch.equal(after[name], value) for name, value in before.items())
        changed += int(losses[-1] >= losses[0]) + int(len(layers) != len(TARGETS) * CONFIG.n_layer)
    return changed


def scale_slope_error() -> float:
    """Slope of the branch's size against the rank, on logarithms: distance from 0 under α / √r, from -½ under α / r.

    The factors are random, so that B A sums r terms that do not know each other: README (2.3).
    """
    x_Nn = _normal((64, 256), 0)
    worst = 0.0
    for scaling, slope in (("rslora", 0.0), ("lora", -0.5)):
        sizes = []
        for rank in (4, 64):
            A, B = _normal((rank, 256), rank), _normal((256, rank), rank + 1)
            s = expect_number("lora_scale", lora_scale(2.0, rank, scaling))  # type: ignore[arg-type]
            sizes.append(float((s * x_Nn @ A.mT @ B.mT).square().mean().sqrt()))
        worst = max(worst, _size(math.log(sizes[1] / sizes[0]) / math.log(16) - slope))
    return worst


# --- merging ----------------------------------------------------------------------------------------------------------


def merge_error() -> float:
    """Logits of merged adapters against those of the branches, float64, relative, the largest of both kinds."""
    return max(_merged_and_back(kind, torch.float64)[0] for kind in KINDS)


def unmerge_error() -> float:
    """Weights of the base after merging twice and unmerging twice, float32, relative, the largest of both kinds."""
    return max(_merged_and_back(kind, torch.float32)[1] for kind in KINDS)


def reload_faults() -> int:
    """Merged layers that answer otherwise once a fresh one has read their state dict, do not unmerge, or have another
    tuned matrix than before."""
    faults, x = 0, _normal((5, 24), 3)
    for kind in KINDS:
        layer = kind(_linear(), 4, 8.0)
        _randomise(layer)
        answer, tuned = layer(x), layer.tuned_weight().detach().clone()
        layer.merge()
        again = kind(_linear(), 4, 8.0)
        again.load_state_dict(layer.state_dict())
        faults += int(_relative(again(x), answer) > 1e-12) + int(_relative(again.tuned_weight(), tuned) > 1e-12)
        again.unmerge()
        faults += int(_relative(again.base_layer.weight, _linear().weight) > 1e-12)
        faults += int(_relative(again(x), answer) > 1e-12)
    return faults


def _merged_and_back(kind: type[LoRALinear], dtype: torch.dtype) -> tuple[float, float]:
    model, ids_BT = _gpt().to(dtype), _ids(2, 20)
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    layers = attach(model, TARGETS, 4, 8.0, kind=kind)
    _randomise(model)
    unmerged = model(ids_BT)
    for layer in layers.values():
        layer.merge()
        layer.merge()  # which must not add the change once more
    merged = model(ids_BT)
    for layer in layers.values():
        layer.unmerge()
        layer.unmerge()
    back = max(_relative(layer.base_layer.weight, kept[f"{name}.weight"]) for name, layer in layers.items())
    return _relative(merged, unmerged), back


# --- peft -------------------------------------------------------------------------------------------------------------


def peft_error() -> float:
    """Outputs and gradients of LoRA and rsLoRA against peft's with the same factors, float64: largest difference."""
    return max(_beside_peft(LoRALinear, scaling) for scaling in ("lora", "rslora"))


def peft_dora_error() -> float:
    """The same of DoRA, relative to the largest."""
    return _beside_peft(DoRALinear, "rslora")


def peft_dora_layer_error() -> float:
    """Output of one DoRA layer against peft's, float64, relative to the largest."""
    ours, theirs, x_BTn = _gpt().double(), _gpt().double(), _normal((4, 10, CONFIG.d_model), 0)
    attach(ours, TARGETS, 4, 8.0, kind=DoRALinear)
    _randomise(ours)
    _peft(theirs, DoRALinear, "rslora")
    _copy_into_peft(ours, theirs)
    return max(_relative(layer(x_BTn), theirs.get_submodule(name)(x_BTn))
               for name, layer in adapted_layers(ours) if layer.lora_A.shape[1] == CONFIG.d_model)  # fmt: skip


def _beside_peft(kind: type[LoRALinear], scaling: str) -> float:
    ids_BT = _ids(2, 20)
    ours = _gpt().double()
    attach(ours, TARGETS, 4, 8.0, scaling, kind)  # type: ignore[arg-type]
    _randomise(ours)
    theirs = _peft(_gpt().double(), kind, scaling)
    _copy_into_peft(ours, theirs)
    worst = 0.0
    for model in (ours, theirs):
        next_token_loss(model, ids_BT).backward()
    found = dict(theirs.named_parameters())
    for name, layer in adapted_layers(ours):
        for part, parameter in _parts(layer).items():
            compare = _difference if kind is LoRALinear else _relative
            worst = max(worst, compare(parameter.grad, found[f"{name}.{part}"].grad))
    return max(worst, _difference(ours(ids_BT), theirs(ids_BT)))


def peft_training_difference() -> float:
    """Factors after ten steps of AdamW beside peft's after the same ten, LoRA, float64: largest difference."""
    ours = _gpt().double()
    attach(ours, TARGETS, 4, 8.0)
    theirs = _peft(_gpt().double(), LoRALinear, "rslora")
    _copy_into_peft(ours, theirs)
    _train(ours, 10)
    _train(theirs, 10)
    found = dict(theirs.named_parameters())
    return max(
        _difference(parameter, found[f"{name}.{part}"])
        for name, layer in adapted_layers(ours)
        for part, parameter in _parts(layer).items()
    )


def pipeline_error() -> float:
    """Logits and gradients of ours against the pipeline's `attach_lora`, which multiplies wide LoRAs as sums: float64,
    relative, a rank below and one above."""
    worst, ids_BT = 0.0, _ids(2, 20)
    for rank in (2, 16):
        ours, theirs = _gpt().double(), _gpt().double()
        attach(ours, TARGETS, rank, 8.0)
        _randomise(ours)
        attach_lora(theirs, rank, 8.0, 0.0, 0)
        _copy_into_peft(ours, theirs)
        for model in (ours, theirs):
            next_token_loss(model, ids_BT).backward()
        found = dict(theirs.named_parameters())
        errors = [
            _relative(parameter.grad, found[f"{name}.{part}"].grad)
            for name, layer in adapted_layers(ours)
            for part, parameter in _parts(layer).items()
        ]
        worst = max(worst, *errors, _relative(ours(ids_BT), theirs(ids_BT)))
    return worst


def read_by_peft_error() -> float:
    """Logits of peft with the files that we wrote against ours, float64, relative, both kinds."""
    from peft import PeftModel

    worst, ids_BT = 0.0, _ids(2, 20)
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            ours = _gpt().double()
            attach(ours, TARGETS, 4, 8.0, kind=kind)
            _randomise(ours)
            write_adapter(ours, Path(folder))
            base = _gpt().double()
            base.config = _PeftConfig(**vars(base.config))
            theirs = PeftModel.from_pretrained(base, folder).get_base_model()
            worst = max(worst, _relative(theirs(ids_BT), ours(ids_BT)))
    return worst


def reads_peft_error() -> float:
    """Our logits with the files that peft wrote against peft's, float64, relative, both kinds and both scales."""
    worst, ids_BT = 0.0, _ids(2, 20)
    for kind, scaling in itertools.product(KINDS, ("lora", "rslora")):
        with tempfile.TemporaryDirectory() as folder:
            gpt = _gpt().double()
            theirs = _peft(gpt, kind, scaling, whole=True)
            _randomise(gpt)
            theirs.save_pretrained(folder)
            ours = _gpt().double()
            expect_type("read_adapter", read_adapter(ours, Path(folder)), dict)
            worst = max(worst, _relative(ours(ids_BT), gpt(ids_BT)))
    return worst


def bad_files_let_through() -> int:
    """Damaged or foreign adapters that are opened or leave the model changed, and impossible requests that are not
    refused in one line."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "adapter"
        model = _gpt()
        attach(model, TARGETS, 4, 8.0)
        _randomise(model)
        write_adapter(model, folder)
        config = read_json(folder / "adapter_config.json")
        weights = (folder / "adapter_model.safetensors").read_bytes()

        def reading(change: dict[str, Any] | None = None, data: bytes = weights, into: GPTConfig = CONFIG) -> bool:
            write_json(folder / "adapter_config.json", {**config, **(change or {})})
            (folder / "adapter_model.safetensors").write_bytes(data)
            plain = _gpt(into)
            refused = _refused(lambda: read_adapter(plain, folder))
            untouched = not dict(adapted_layers(plain)) and all(p.requires_grad for p in plain.parameters())
            return refused and untouched

        changes: list[dict[str, Any]] = [
            {"modules_to_save": ["lm_head"]},
            {"trainable_token_indices": {"embed_tokens": [0]}},
            {"rank_pattern": {"q_proj": 2}},
            {"alora_invocation_tokens": [1]},
            {"layer_replication": [[0, 1]]},
            {"init_lora_weights": "pissa"},
            {"use_qalora": True},
            {"bias": "all"},
            {"peft_type": "IA3"},
            {"r": 8},
            {"r": "4"},
            {"r": True},
            {"lora_alpha": None},
            {"use_dora": True},
            {"target_modules": ["q_proj"]},
            {"target_modules": "all-linear"},
        ]
        narrower, deeper = GPTConfig(64, 2, 4, 2, 16, 80, 64), GPTConfig(64, 3, 4, 2, 32, 80, 64)
        refusals = [reading(change) for change in changes]
        refusals += [reading(data=weights[:-100]), reading(into=narrower), reading(into=deeper), not reading()]
        (folder / "adapter_config.json").write_text("[]")
        refusals.append(_refused(lambda: read_adapter(_gpt(), folder)))
        (folder / "adapter_config.json").unlink()
        refusals.append(_refused(lambda: read_adapter(_gpt(), folder)))
        refusals.append(_refused(lambda: write_adapter(_gpt(), folder)))
        next(layer for _, layer in adapted_layers(model)).scaling = "lora"
        refusals.append(_refused(lambda: write_adapter(model, folder)))
    quantised = _gpt()
    quantise(quantised, set(TARGETS))
    in_four_bits = attach(quantised, TARGETS, 4, 8.0)["model.layers.0.mlp.up_proj"]
    rows = serve_together(_gpt(), [attach(_gpt(), TARGETS, 4, 8.0)])
    requests: list[Callable[[], object]] = [
        in_four_bits.merge,
        lambda: attach(_gpt(), ["no_proj"], 4, 8.0),
        lambda: attach(_gpt(), ["embed_tokens"], 4, 8.0),
        lambda: attach(model, TARGETS, 4, 8.0),
        lambda: attach(_gpt(), TARGETS, 0, 8.0),
        lambda: attach(_gpt(), TARGETS, 33, 8.0),
        lambda: quantise(_gpt(), {"no_proj"}),
        lambda: rows.choose([1]),
        lambda: rows.choose([-2]),
        lambda: training_bytes(100, 0, 50),
        lambda: training_bytes(100, 10, 101),
    ]
    return sum(not refused for refused in [*refusals, *map(_refused, requests)])


# --- DoRA -------------------------------------------------------------------------------------------------------------


def dora_gradient_error() -> float:
    """∂L/∂V by hand against autograd, with the length as a constant and without, float64, relative."""
    V_mn, magnitude_m, x_Nn = _normal((16, 24), 0), _normal((16,), 1).abs() + 0.5, _normal((40, 24), 2)
    target = _normal((40, 16), 3)
    worst = 0.0
    for through_length in (True, False):
        leaf = V_mn.clone().requires_grad_()
        length = leaf.norm(dim=1) if through_length else leaf.norm(dim=1).detach()
        weight = (magnitude_m / length)[:, None] * leaf
        weight.retain_grad()
        ((x_Nn @ weight.mT - target) ** 2).sum().backward()
        found = weight_gradient(weight.grad, leaf.detach(), magnitude_m, through_length)
        worst = max(worst, _relative(expect_shape("weight_gradient", found, (16, 24)), leaf.grad))
    layer = DoRALinear(_linear(), 4, 8.0)
    _randomise(layer)
    ((layer(x_Nn) - target) ** 2).sum().backward()
    weight = layer.tuned_weight().detach().requires_grad_()
    ((x_Nn @ weight.mT + layer.base_layer.bias - target) ** 2).sum().backward()
    V = layer.base_layer.weight.detach() + layer.change().detach()
    to_V = weight_gradient(weight.grad, V, layer.magnitude.detach(), False)
    worst = max(worst, _relative(layer.scale * to_V @ layer.lora_A.detach().mT, layer.lora_B.grad))
    along = (weight.grad * V).sum(1) / V.norm(dim=1)
    return max(worst, _relative(along, layer.magnitude.grad))


def dora_length_error() -> float:
    """Lengths of the tuned matrix's rows against its magnitudes, relative."""
    layer = DoRALinear(_linear(), 4, 8.0)
    _randomise(layer)
    return _relative(layer.tuned_weight().norm(dim=1), layer.magnitude.abs())


# --- several adapters -------------------------------------------------------------------------------------------------


def mixed_batch_error() -> float:
    """Rows of one batch with adapters of several ranks, or none, against each row's own model, float64, relative."""
    ids_BT, chosen = _ids(6, 12), [1, NONE, 0, 2, 1, 0]
    tuned, adapters = [], []
    for k, rank in enumerate((2, 5, 3)):
        model = _gpt().double()
        adapters.append(attach(model, TARGETS, rank, 4.0, "lora" if k else "rslora"))
        _randomise(model, k)
        tuned.append(model)
    together = _gpt().double()
    rows = serve_together(together, adapters)
    rows.choose(chosen)
    with torch.inference_mode():
        found = together(ids_BT)
        alone = [*tuned, _gpt().double()]
        return max(_relative(found[row], alone[k](ids_BT[row : row + 1])[0]) for row, k in enumerate(chosen))


# --- four bits --------------------------------------------------------------------------------------------------------


def nf4_levels_error() -> float:
    """Distance of the sixteen levels from the published ones."""
    levels = expect_shape("normal_float_levels", normal_float_levels(), (16,), Tensor)
    return float((levels - torch.tensor(PUBLISHED_NF4, dtype=torch.float64)).abs().max())


def packing_faults() -> int:
    """Values whose index is not that of the nearest level, and indices that do not come back from their bytes."""
    faults = 0
    values = torch.cat([torch.linspace(-1.1, 1.1, 997, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)])
    for levels in (normal_float_levels(), uniform_levels(), fp4_levels()):
        indices = nearest_level(values, levels)
        nearest = (values[:, None] - levels).abs().amin(1)
        faults += int(((values - levels[indices.long()]).abs() > nearest + 1e-12).sum())
        for count in (997, 998):
            packed = pack(indices[:count])
            faults += int(len(packed) != (count + 1) // 2)
            faults += int((unpack(packed, count) != indices[:count]).sum())
    return faults


def quantisation_faults() -> int:
    """Numbers further off than half the gap of their levels times their block's scale, and zeros that are none."""
    faults = 0
    levels = normal_float_levels()
    gap = float((levels[1:] - levels[:-1]).max()) / 2
    for shape, block in (((48, 40), 64), ((7, 9), 16), ((1, 5), 64)):
        weight = _normal(shape, 0).float()
        weight[0, :3] = 0
        matrix = QuantisedMatrix(weight, block=block, double=False)
        back = expect_shape("QuantisedMatrix.back", matrix.back(), shape)
        flat = F.pad(weight.flatten(), (0, -weight.numel() % block)).view(-1, block)
        allowed = (gap * flat.abs().amax(1, keepdim=True)).expand_as(flat).flatten()[: weight.numel()].view(shape)
        faults += int(((back - weight).abs() > allowed * (1 + 1e-5)).sum()) + int((back[weight == 0] != 0).sum())
    empty = QuantisedMatrix(torch.zeros(8, 64)).back()
    return faults + int((empty != 0).sum()) + int(empty.isnan().sum())


def scales_error() -> float:
    """Error of scales that were quantised again, in steps of 1 / 127 of what is furthest from the mean in a block."""
    worst = 0.0
    for count in (1000, 256, 100):
        scales = _normal((count,), 0).abs().float() + 2
        furthest = [block.abs().max().expand(len(block)) for block in (scales - scales.mean()).split(256)]
        worst = max(worst, _difference(127 * QuantisedScales(scales).back() / torch.cat(furthest),
                                       127 * scales / torch.cat(furthest)))  # fmt: skip
    outlier = QuantisedScales(torch.cat([torch.full((255,), 0.01), torch.tensor([100.0])])).back()
    return math.inf if bool((outlier < 0).any()) else worst


def double_error() -> float:
    """RMSE of numbers in four bits with scales in eight over that with scales in 32, less one."""
    weight = _normal((256, 512), 0).float()
    single, double = (
        float((QuantisedMatrix(weight, double=double).back() - weight).square().mean().sqrt())
        for double in (False, True)
    )
    return double / single - 1


def bits_error() -> float:
    """Bits a parameter that are stored against the formula, relative, for blocks of several sizes."""
    worst = 0.0
    for block, double in itertools.product((32, 64, 128), (True, False)):
        matrix = QuantisedMatrix(torch.ones(1024, 1024), block=block, double=double)
        expected = expect_number("bits_per_parameter", bits_per_parameter(block, double))
        worst = max(worst, _size(8 * matrix.bytes / 1024**2 / expected - 1))
    return worst


def quantised_base_error() -> float:
    """Logits and adapter gradients over a base in four bits against those over it unpacked, float64; infinite where
    something of the base is trained, or a whole matrix is kept for the backward pass."""
    packed, unpacked, ids_BT = _gpt(), _gpt().double(), _ids(2, 20)
    for name, module in unpacked.named_modules():
        if name.rpartition(".")[2] in TARGETS:
            module.weight.data = QuantisedMatrix(module.weight.float()).double().back(torch.float64)
    quantise(packed, set(TARGETS))
    packed.double()
    for model in (packed, unpacked):
        attach(model, TARGETS, 4, 8.0)
        _randomise(model)
    sizes: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel() if tensor.ndim == 2 else 0)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        packed_loss = next_token_loss(packed, ids_BT)
    kept = sum(size in (32 * 32, 32 * 16, 32 * 80) for size in sizes)
    packed_loss.backward()
    next_token_loss(unpacked, ids_BT).backward()
    pairs = list(zip(adapted_layers(packed), adapted_layers(unpacked), strict=True))
    if kept or sum(p.requires_grad for p in packed.parameters()) != 2 * len(pairs):
        return math.inf
    errors = [
        _relative(getattr(ours, part).grad, getattr(theirs, part).grad)
        for (_, ours), (_, theirs) in pairs
        for part in ("lora_A", "lora_B")
    ]
    return max(*errors, _relative(packed(ids_BT), unpacked(ids_BT)))


def quantised_state_faults() -> int:
    """Layers in four bits that answer otherwise with a bias, from a state dict read by a fresh one, or in another
    precision."""
    layer = nn.Linear(64, 48)
    quantised, x = QuantisedLinear(layer), torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    answer = quantised(x)
    expected = F.linear(x, QuantisedMatrix(layer.weight).back(), layer.bias)
    faults = int(_relative(answer, expected) > 1e-6)
    fresh = QuantisedLinear(nn.Linear(64, 48))
    fresh.load_state_dict(quantised.state_dict())
    faults += int(_relative(fresh(x), answer) > 0)
    faults += int(_relative(fresh.double()(x.double()).float(), answer) > 1e-5)
    return faults + int(_relative(fresh.bfloat16()(x.bfloat16()).float(), answer) > 0.1)


# --- spectra ----------------------------------------------------------------------------------------------------------


def low_rank_error() -> float:
    """The best approximation's error against the singular values left out, relative; infinite where another matrix of
    the rank comes nearer, or the rank is not that."""
    matrix = _normal((20, 14), 0)
    worst = 0.0
    for rank in (1, 3, 13):
        best = expect_shape("best_low_rank", best_low_rank(matrix, rank), (20, 14))
        error, least = float((matrix - best).square().sum()), least_error(matrix, rank)
        strongest = torch.linalg.svd(matrix)[0][:, :rank]
        others = [torch.linalg.qr(strongest + 0.05 * _normal((20, rank), seed))[0] for seed in range(20)]
        nearest = min(float((matrix - Q @ (Q.mT @ matrix)).square().sum()) for Q in others)
        if nearest < least or int(torch.linalg.matrix_rank(best)) != rank:
            return math.inf
        worst = max(worst, _size(error / least - 1))
    return worst


def intruder_faults() -> int:
    """Intruders counted wrongly in matrices that were built to have none, one, or two of them."""
    U, _ = torch.linalg.qr(_normal((32, 32), 0))
    V, _ = torch.linalg.qr(_normal((32, 32), 1))
    base = (U[:, :16] * torch.linspace(2, 1, 16, dtype=torch.float64)) @ V[:, :16].mT
    outside = [3.0 * torch.outer(U[:, 20 + i], V[:, 20 + i]) for i in range(2)]
    inside = 3.0 * torch.outer(U[:, 3], V[:, 3])
    flipped = -base
    cases = [(base, 0), (flipped, 0), (base + inside, 0), (base + outside[0], 1), (base + sum(outside), 2)]
    weak = base + 0.01 * outside[0]  # an intruder, and not among the strongest ten
    wide = (base.mT, (base + outside[0]).mT, 1)
    faults = sum(intruder_dimensions(_rank_16(base), tuned) != expected for tuned, expected in cases)
    faults += int(intruder_dimensions(_rank_16(base), weak) != 0)
    return faults + int(intruder_dimensions(_rank_16(wide[0]), wide[1]) != wide[2])


def _rank_16(matrix: Tensor) -> Tensor:
    """The matrix without its directions of no strength, which an SVD would fill with any."""
    U, S, _ = torch.linalg.svd(matrix, full_matrices=False)
    return U[:, :16] * S[:16]


def effective_rank_error() -> float:
    """Effective rank of matrices with k equal singular values against k, relative."""
    U, _ = torch.linalg.qr(_normal((20, 20), 0))
    return max(_size(expect_number("effective_rank", effective_rank(3 * U[:, :k] @ U[:k])) / k - 1) for k in (1, 4, 20))


# --- memory -----------------------------------------------------------------------------------------------------------


def memory_error() -> float:
    """Bytes of weights, gradients and AdamW's state after a step against the formula, relative: all weights, LoRA, LoRA
    over four bits."""
    worst, config = 0.0, GPTConfig(64, 1, 4, 4, 128, 256, 64)  # a multiple of 64 · 256 numbers a matrix
    for adapted, packed in ((False, False), (True, False), (True, True)):
        model = _gpt(config)
        matrices = [m for name, m in model.named_modules() if name.rpartition(".")[2] in TARGETS]
        shapes = [tuple(m.weight.shape) for m in matrices]
        total = sum(p.numel() for p in model.parameters())
        four_bit_bytes = quantise(model, set(TARGETS)) if packed else 0
        if adapted:
            attach(model, TARGETS, 4, 8.0)
        optimizer = AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
        next_token_loss(model, _ids(2, 20)).backward()
        optimizer.step()
        state = [t for per in optimizer.state.values() for t in per.values() if isinstance(t, Tensor) and t.ndim]
        weights = sum(4 * p.numel() for p in model.parameters()) + four_bit_bytes
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        found = weights + sum(4 * t.numel() for t in (*gradients, *state))
        quantised = sum(m * n for m, n in shapes) if packed else 0
        adapter = lora_parameters(shapes, 4) if adapted else 0
        expected = training_bytes(total, adapter, quantised)
        worst = max(worst, _size(expected.total / found - 1), _size(expected.weights / weights - 1))
    return worst


# --- what they share --------------------------------------------------------------------------------------------------


def _gpt(config: GPTConfig = CONFIG) -> GPT:
    """A model whose blocks do something: no matrix is zero, and the gains differ."""
    model = GPT(copy.copy(config))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0 if parameter.ndim > 1 else 1, 0.2, generator=generator)
    return model


def _ids(rows: int, length: int) -> Tensor:
    return torch.randint(CONFIG.vocab_size, (rows, length), generator=torch.Generator().manual_seed(3))


def _normal(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _linear() -> nn.Linear:
    layer = nn.Linear(24, 16).double()
    layer.weight.data, layer.bias.data = _normal((16, 24), 10), _normal((16,), 11)
    return layer


def _layer() -> LoRALinear:
    layer = LoRALinear(_linear(), 4, 8.0)
    _randomise(layer)
    return layer


@torch.no_grad()
def _randomise(model: nn.Module, seed: int = 0) -> None:
    """Adapters that are not zero."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


# --- preferences ------------------------------------------------------------------------------------------------------


def best_policy_error() -> float:
    """What the best policy reaches against β ln Z, relative; infinite if any of a hundred others reaches more."""
    worst = 0.0
    for seed, beta in enumerate((0.1, 0.7, 3.0)):
        generator = torch.Generator().manual_seed(seed)
        base_V, reward_V = (torch.randn(9, generator=generator, dtype=torch.float64) for _ in range(2))
        base_V = base_V.log_softmax(0)
        best_V = expect_shape("log policy", best_policy(base_V, reward_V, beta), base_V.shape)
        reached = regularised_reward(best_V, base_V, reward_V, beta)
        worst = max(worst, _relative(reached, beta * torch.logsumexp(base_V + reward_V / beta, 0)))
        for scale in torch.logspace(-3, 1, 100).tolist():
            noise_V = scale * torch.randn(9, generator=generator, dtype=torch.float64)
            if regularised_reward((best_V + noise_V).log_softmax(0), base_V, reward_V, beta) > reached:
                return math.inf
    return worst


def dpo_gradient_error() -> float:
    """The gradient by hand against autograd's, float64, relative."""
    generator = torch.Generator().manual_seed(0)
    log_p_N2, log_base_N2 = (torch.randn(12, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    log_p_N2.requires_grad_()
    dpo_loss(log_p_N2, log_base_N2, 0.3).backward()
    return _relative(dpo_gradient(log_p_N2.detach(), log_base_N2, 0.3), log_p_N2.grad)


def dpo_start_error() -> float:
    """Distance of the loss from ln 2 where an adapter has just been attached; infinite if a step does not lower it."""
    model, ids_BT = _gpt().double(), _ids(8, 16)
    log_base_N2 = answer_log_p(model, ids_BT, 8).detach().view(4, 2)
    attach(model, TARGETS, 4, 8.0)
    loss = dpo_loss(answer_log_p(model, ids_BT, 8).view(4, 2), log_base_N2, 0.5)
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 1e-3 * parameter.grad
    after = dpo_loss(answer_log_p(model, ids_BT, 8).view(4, 2), log_base_N2, 0.5)
    return _size(float(loss.detach()) - math.log(2)) if after < loss else math.inf


def dpo_policy_error() -> float:
    """ln of the policy that DPO ends at, given every preference as often as its reward has it, less that of the best:
    largest difference."""
    generator = torch.Generator().manual_seed(3)
    base_V, reward_V = (torch.randn(5, generator=generator, dtype=torch.float64) for _ in range(2))
    base_V, beta = base_V.log_softmax(0), 0.6
    logits_V = base_V.clone().requires_grad_()
    pairs = torch.tensor(list(itertools.permutations(range(5), 2)))
    share_N = torch.sigmoid(reward_V[pairs[:, 0]] - reward_V[pairs[:, 1]])
    descent = torch.optim.LBFGS([logits_V], max_iter=200, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        descent.zero_grad()
        log_p_V = logits_V.log_softmax(0)
        losses = [dpo_loss(log_p_V[pair][None], base_V[pair][None], beta) for pair in pairs]
        loss = (torch.stack(losses) * share_N).sum()
        loss.backward()
        return loss

    descent.step(closure)
    found_V, best_V = logits_V.detach().log_softmax(0), best_policy(base_V, reward_V, beta)
    reward_error = implicit_reward(best_V, base_V, beta) - reward_V  # (7.3): the same number for all
    return max(_difference(found_V, best_V), _size(float(reward_error.max() - reward_error.min())))


def best_of_n_error() -> float:
    """KL of the best of n against the integral that it is, over the rank of the reward; largest of four n."""
    u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    density = {n: n * u ** (n - 1) for n in (1, 2, 7, 30)}
    return max(_size(best_of_n_kl(n) - float((d * d.log()).mean())) for n, d in density.items())


def answer_log_p_error() -> float:
    """ln p of answers against the sum over their tokens, one forward pass for each, relative."""
    model, ids_BT = _gpt(), _ids(3, 14)
    expected = torch.zeros(3)
    with torch.no_grad():
        for t in range(9, 14):
            expected += model(ids_BT[:, :t])[:, -1].log_softmax(-1).gather(1, ids_BT[:, t : t + 1])[:, 0]
        return _relative(expect_shape("ln p", answer_log_p(model, ids_BT, 9), expected.shape), expected)


def _train(model: nn.Module, steps: int) -> list[float]:
    optimizer = AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)
    losses = []
    for _ in range(steps):
        loss = next_token_loss(model, _ids(4, 16))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def _parts(layer: LoRALinear) -> dict[str, Tensor]:
    """peft's name of a parameter, below the layer's → ours."""
    parts = {"lora_A.default.weight": layer.lora_A, "lora_B.default.weight": layer.lora_B}
    if isinstance(layer, DoRALinear):
        parts["lora_magnitude_vector.default.weight"] = layer.magnitude
    return parts


def _peft(gpt: GPT, kind: type[LoRALinear], scaling: str, whole: bool = False) -> Any:
    """peft's adapters in `gpt`: the model itself, or peft's wrapper around it (`whole`)."""
    from peft import LoraConfig, get_peft_model

    gpt.config = _PeftConfig(**vars(gpt.config))
    config = LoraConfig(
        r=4,
        lora_alpha=8.0,
        target_modules=TARGETS,
        use_rslora=scaling == "rslora",
        use_dora=kind is DoRALinear,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # peft draws A from the global generator
        wrapped = get_peft_model(gpt, config)
    return wrapped if whole else gpt


@torch.no_grad()
def _copy_into_peft(ours: nn.Module, theirs: nn.Module) -> None:
    found = dict(theirs.named_parameters())
    for name, layer in adapted_layers(ours):
        for part, parameter in _parts(layer).items():
            found[f"{name}.{part}"].copy_(parameter)


def _refused(action: Callable[[], object]) -> bool:
    try:
        action()
    except UserError as error:
        return "\n" not in str(error)
    return False


def _relative(found: Tensor, expected: Tensor | None) -> float:
    """Largest difference over the largest expected value; infinite where something is no number."""
    return math.inf if expected is None else _difference(found, expected) / float(expected.detach().abs().max())


def _difference(found: Tensor, expected: Tensor | None) -> float:
    """Largest difference; infinite where something is no number, which `max` would let pass, or the shapes differ."""
    if expected is None or found.shape != expected.shape:
        return math.inf
    return _size(float((found - expected).detach().abs().max()))


def _size(error: float) -> float:
    """Without its sign; infinite where it is no number."""
    return abs(error) if math.isfinite(error) else math.inf
