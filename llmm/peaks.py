"""How fast matrix products can be on this machine at most: measured, and by the data sheet."""

import statistics
import time

import torch

# dense bfloat16 products with float32 sums, in FLOP/s, by the makers' data sheets: what MFU is usually a share of
DATA_SHEET_PEAKS = {
    "A100": 312e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989.4e12,
    "H200 NVL": 835e12,
    "H200": 989.4e12,
}


def matmul_peak(dtype: torch.dtype, device: torch.device, seconds: float = 1.0) -> float:
    """GFLOP/s of a plain product of two square matrices, measured here and now."""
    size = 8192 if device.type == "cuda" else 2048
    if max(_gflops(256, dtype, device, 0) for _ in range(5)) < 5:  # emulated: a large product would take minutes
        size = 256
    return _gflops(size, dtype, device, seconds)


def _gflops(size: int, dtype: torch.dtype, device: torch.device, seconds: float) -> float:
    """The median product within `seconds`, one at least; one more before it finds out how."""
    a = torch.randn(size, size, device=device).to(dtype)  # a GPU is faster on zeros and ones than on real numbers
    taken: list[float] = []
    while len(taken) < 2 or sum(taken) < seconds:
        started = time.perf_counter()
        torch.mm(a, a)
        wait_for(device)
        taken.append(time.perf_counter() - started)
    return 2 * size**3 / statistics.median(taken[1:]) / 1e9


def data_sheet_peak(device: torch.device) -> float | None:
    """FLOP/s that the maker states for bfloat16 products on this GPU; None where this program does not know it."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return next((peak for part, peak in DATA_SHEET_PEAKS.items() if part in name), None)


def wait_for(device: torch.device) -> None:
    """Return when a GPU has done what it was asked for; a CPU has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
