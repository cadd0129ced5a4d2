"""Is there a C++ compiler? Inductor and hand-written kernels need one; everything else in this milestone does not."""

import os
import shutil

from llmm.errors import UserError

CANDIDATES = ("g++", "clang++", "c++")


def find_compiler() -> str | None:
    """The C++ compiler that PyTorch would use: what CXX names, else the first of CANDIDATES on the PATH; else None."""
    named = os.environ.get("CXX")
    return shutil.which(named) if named else next(filter(None, map(shutil.which, CANDIDATES)), None)


def require_compiler(purpose: str) -> str:
    """The compiler's path. Raises UserError, saying what for, where there is none."""
    found = find_compiler()
    if found is None:
        named = os.environ.get("CXX")
        looked = (
            f"CXX names {named}, which is not there" if named else f"none of {', '.join(CANDIDATES)} is on the PATH"
        )
        raise UserError(f"{purpose} needs a C++ compiler, and {looked}: install g++ or clang, or set CXX")
    return found
