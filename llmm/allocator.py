"""Memory that a program has freed, kept for its next tensor instead of handed back to the system."""

import ctypes
import sys

# parameters of mallopt(3), from glibc's malloc.h
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_MIB = 1 << 20


def keep_freed_memory() -> bool:
    """Have glibc keep freed blocks of up to 32 MiB, 512 MiB in all; returns whether it is glibc and does so.

    Left alone it hands large blocks back and gets them again, empty, for the next tensor of that size: each page is
    then a fault, and the system zeroes it. A training step makes the same tensors again and again, and on a virtual
    machine, where a fault is dear, that takes a tenth of the step.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and bool(mallopt(_MMAP_THRESHOLD, 32 * _MIB) and mallopt(_TRIM_THRESHOLD, 512 * _MIB))
