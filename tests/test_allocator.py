"""Freed memory is kept where the C library can be told to."""

import platform
import subprocess
import sys

import pytest

# whether malloc(3) still holds a block of 20 MiB after it was freed
PROGRAM = """
import ctypes, sys
from llmm.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]
libc = ctypes.CDLL(None)
libc.mallinfo.restype, libc.malloc.restype, libc.free.argtypes = Info, ctypes.c_void_p, [ctypes.c_void_p]
held = libc.malloc(20 << 20)
libc.free(held)
print(libc.mallinfo().fordblks >= 20 << 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
@pytest.mark.parametrize(("way", "kept"), [("keep", "True"), ("leave", "False")])
def test_a_freed_block_is_kept(way: str, kept: str) -> None:
    run = subprocess.run([sys.executable, "-c", PROGRAM, way], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == kept
