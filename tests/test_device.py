"""Which dtype a machine's matrix products take, and how fast they can be."""

import pytest
import torch

from llmm import device, peaks
from llmm.transformers.attention.rope import rope_tables, rotate, rotate_swapped

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("float32", "bfloat16", "expected"),
    [(1.0, 0.5, torch.bfloat16), (1.0, 2.0, torch.float32), (1.0, 0.9, torch.float32)],
)
def test_auto_is_bfloat16_only_where_it_is_clearly_faster(monkeypatch, float32, bfloat16, expected):
    monkeypatch.setattr(device, "_seconds", lambda dtype, _: float32 if dtype == torch.float32 else bfloat16)
    device._faster_dtype.cache_clear()
    assert device.pick_dtype("auto", CPU) == expected
    device._faster_dtype.cache_clear()


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), torch.float32), ((8, 0), torch.bfloat16)])
def test_auto_on_a_gpu_asks_what_it_can(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    device._faster_dtype.cache_clear()
    assert device.pick_dtype("auto", torch.device("cuda")) == expected
    device._faster_dtype.cache_clear()


def test_no_vector_unit_is_tried_before_the_first_graph(monkeypatch):
    from torch._inductor import config, cpu_vec_isa

    monkeypatch.setattr(config.cpp, "vec_isa_ok", None)
    device.compiled(torch.sin, CPU)
    monkeypatch.setattr(cpu_vec_isa.VecISA, "check_build", lambda *_: pytest.fail("builds a program to try it"))
    assert bool(cpu_vec_isa.VecAVX2())


def test_a_named_dtype_is_taken_at_its_word():
    assert device.pick_dtype("float32", CPU) == torch.float32
    assert device.pick_dtype("bfloat16", CPU) == torch.bfloat16


@pytest.mark.parametrize(
    ("name", "expected"),
    [("NVIDIA H100 PCIe", 756e12), ("NVIDIA H100 80GB HBM3", 989.4e12), ("NVIDIA H200 NVL", 835e12), ("Other", None)],
)
def test_the_longer_name_on_a_data_sheet_goes_first(monkeypatch, name, expected):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: name)
    assert peaks.data_sheet_peak(torch.device("cuda")) == expected
    assert peaks.data_sheet_peak(CPU) is None


def test_a_measured_peak_is_of_a_product_that_was_taken(monkeypatch):
    sizes = []
    product = torch.mm
    monkeypatch.setattr(torch, "mm", lambda a, b: sizes.append(len(a)) or product(a, b))
    measured = peaks._gflops
    # a machine that others starve may look as slow as one that emulates
    monkeypatch.setattr(peaks, "_gflops", lambda size, *rest: max(100.0 * (size == 256), measured(size, *rest)))
    assert peaks.matmul_peak(torch.float32, CPU, 0.01) > 0
    assert sizes[-1] == 2048 and len(sizes) > 10
    monkeypatch.setattr(peaks, "_gflops", lambda size, dtype, device, seconds: size / 256)  # 1 GFLOP/s: emulated
    assert peaks.matmul_peak(torch.bfloat16, CPU) == 1.0


@pytest.mark.parametrize("ragged", [False, True])
def test_angles_are_turned_alike_on_every_device(ragged):
    x_BHTd = torch.randn(2, 3, 7, 16, requires_grad=True)
    cos, sin = (table[:7] for table in rope_tables(16, 32, 10_000.0))
    if ragged:
        cos, sin = (table.expand(2, 1, 7, 16).contiguous() for table in (cos, sin))
    turned = [form(x_BHTd, cos, sin) for form in (rotate, rotate_swapped)]
    assert torch.equal(*turned)
    upstream = torch.randn_like(turned[0])
    gradients = [torch.autograd.grad(one, x_BHTd, upstream)[0] for one in turned]
    assert torch.allclose(*gradients, rtol=1e-6, atol=1e-6)


def test_only_a_gpu_is_told_how_to_take_a_softmax(monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "compile", lambda function, **options: asked.append(options) or function)
    for name in ("cpu", "cuda"):
        assert device.compiled(len, torch.device(name), dynamic=False) is len
    assert [options["options"] for options in asked] == [None, {"online_softmax": False}]
    assert all(options["dynamic"] is False for options in asked)
