"""Freed memory is kept where the C library can be told to, in huge pages where the kernel has them."""

import platform
import subprocess
import sys
from pathlib import Path

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


# MiB of the process's mappings whose flags ask for huge pages, as Linux lists them
HUGE_PAGES = """
import re, sys
from pathlib import Path
from llmm.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
mappings = re.findall(r"^Size: +([0-9]+) kB.*?^VmFlags:(.*?)$", Path("/proc/self/smaps").read_text(), re.M | re.S)
print(sum(int(kib) for kib, flags in mappings if "hg" in flags.split()) // 1024)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="the kernel has no huge pages")
def test_what_is_kept_is_asked_for_in_huge_pages() -> None:
    mib = {}
    for way in ("keep", "leave"):
        run = subprocess.run([sys.executable, "-c", HUGE_PAGES, way], capture_output=True, text=True, check=True)
        mib[way] = int(run.stdout)
    assert mib["leave"] == 0
    assert mib["keep"] > 500  # 512, less what the borders of pages cut off
