"""Memory for tensors: kept when a program has freed it, and in huge pages, where the C library and the kernel allow."""

import ctypes
import sys

# parameters of mallopt(3), from glibc's malloc.h
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_HUGE_PAGES = 14  # MADV_HUGEPAGE of madvise(2), from Linux's mman.h
_MIB = 1 << 20
_LARGEST_BLOCK, _KEPT, _HUGE_PAGE = 32 * _MIB, 512 * _MIB, 2 * _MIB


def keep_freed_memory() -> bool:
    """Have glibc keep freed blocks of up to 32 MiB, 512 MiB in all; returns whether it is glibc and does so.

    Left alone it hands large blocks back and gets them again, empty, for the next tensor of that size: each page is
    then a fault, and the system zeroes it. A training step makes the same tensors again and again, and on a virtual
    machine, where a fault is dear, that takes a tenth of the step. What is kept is asked for in pages of 2 MiB instead
    of 4 KiB: tensors of megabytes need 512 times fewer addresses translated.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None)
    mallopt = getattr(libc, "mallopt", None)  # musl has none
    if mallopt is None or not (mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK) and mallopt(_TRIM_THRESHOLD, _KEPT)):
        return False
    if mallopt(_TOP_PAD, _KEPT):
        _use_huge_pages(libc)
    return True


def _use_huge_pages(libc: ctypes.CDLL) -> None:
    """Ask for huge pages in the space by which the heap grows next; where the kernel refuses, pages stay small."""
    libc.sbrk.restype, libc.sbrk.argtypes = ctypes.c_void_p, [ctypes.c_ssize_t]
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    libc.madvise.restype, libc.madvise.argtypes = ctypes.c_int, [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    start = libc.sbrk(0)
    libc.free(libc.malloc(_LARGEST_BLOCK // 2))  # grows the heap by that much and the padding of its top
    start = -(-start // _HUGE_PAGE) * _HUGE_PAGE
    if (end := libc.sbrk(0)) > start:
        libc.madvise(start, end - start, _HUGE_PAGES)
