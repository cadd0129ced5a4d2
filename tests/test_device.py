"""Which dtype a machine's matrix products take."""

import pytest
import torch

from llmm import device

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
