"""Which dtype a machine's matrix products take, and how fast they can be."""

import pytest
import torch

from llmm import device, peaks

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
    assert peaks.matmul_peak(torch.float32, CPU, 0.01) > 0
    assert sizes[-1] == 2048 and len(sizes) > 10
    monkeypatch.setattr(peaks, "_gflops", lambda size, dtype, device, seconds: size / 256)  # 1 GFLOP/s: emulated
    assert peaks.matmul_peak(torch.bfloat16, CPU) == 1.0
