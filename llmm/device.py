"""Where tensors live."""

import os

import torch

from llmm.errors import UserError


def pick_device() -> torch.device:
    """LLMM_DEVICE where it is set, else a CUDA GPU where there is one, else the CPU.

    Raises UserError where LLMM_DEVICE names no device that torch can use here.
    """
    name = os.environ.get("LLMM_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"LLMM_DEVICE = {name!r} cannot be used here: {str(error).splitlines()[0]}") from None
    return torch.device(name)
