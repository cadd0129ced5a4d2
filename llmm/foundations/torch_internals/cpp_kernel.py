"""RMSNorm in one pass of C++: where a kernel of one's own pays, and what it takes to have one.

Op by op, RMSNorm on the CPU writes and reads x^2, its mean, x * r and the product with the weight: about nine passes
over memory for what needs one read and one write. The row fits into the cache, so the loop below reads it from memory
once. It is built against PyTorch's stable C interface (`torch/csrc/stable`), which compiles in a few seconds where
`torch/extension.h` takes half a minute, and registers an operator like any other: with a fake it compiles and traces.
"""

import functools
import hashlib
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llmm.foundations.torch_internals.compilers import require_compiler

SOURCE = r"""
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <cmath>

using torch::stable::Tensor;

// x (..., D) and weight (D,), both float32 and contiguous: y = x * (mean(x^2) + eps)^(-1/2) * weight
Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  Tensor y = torch::stable::empty_like(x);
  const int64_t D = weight.numel();
  const int64_t rows = D == 0 ? 0 : x.numel() / D;
  const float* in = static_cast<const float*>(x.data_ptr());
  const float* scale = static_cast<const float*>(weight.data_ptr());
  float* out = static_cast<float*>(y.data_ptr());
  for (int64_t row = 0; row < rows; ++row, in += D, out += D) {
    float squares = 0;
    for (int64_t d = 0; d < D; ++d) squares += in[d] * in[d];
    const float rstd = 1 / std::sqrt(squares / D + static_cast<float>(eps));
    for (int64_t d = 0; d < D; ++d) out[d] = in[d] * rstd * scale[d];
  }
  return y;
}

STABLE_TORCH_LIBRARY(llmm_cpp, m) { m.def("rms_norm(Tensor x, Tensor weight, float eps) -> Tensor"); }
STABLE_TORCH_LIBRARY_IMPL(llmm_cpp, CPU, m) { m.impl("rms_norm", TORCH_BOX(&rms_norm)); }
"""
# sums may be taken in another order (-ffast-math): without that the first loop is not vectorised
FLAGS = ["-O3", "-march=native", "-ffast-math"]


@functools.cache
def load() -> Any:
    """The kernel's operator, compiled and loaded once a process (a few seconds). UserError without a compiler."""
    require_compiler("the C++ kernel of RMSNorm")
    from torch.utils.cpp_extension import load_inline

    name = f"llmm_rms_norm_{hashlib.sha256(SOURCE.encode()).hexdigest()[:12]}"
    with tempfile.TemporaryDirectory() as folder:  # its own folder: no lock that a killed build could leave behind
        load_inline(
            name,
            cpp_sources=SOURCE,
            extra_cflags=FLAGS,
            build_directory=str(Path(folder)),
            is_python_module=False,
            no_implicit_headers=True,
        )
    operator = torch.ops.llmm_cpp.rms_norm.default
    torch.library.register_fake("llmm_cpp::rms_norm", lambda x, weight, eps: torch.empty_like(x))
    return operator


def rms_norm_cpp(x: Tensor, weight: Tensor, eps: float = 1e-6) -> Tensor:
    """RMSNorm of x (..., D) by weight (D,), float32 on the CPU, without a derivative; the result is contiguous.

    Raises UserError where no C++ compiler is there, ValueError for another dtype, device or shape.
    """
    if x.dtype != torch.float32 or weight.dtype != torch.float32 or x.is_cuda or x.ndim == 0:
        raise ValueError("float32 tensors on the CPU are expected")
    if weight.shape != x.shape[-1:]:
        raise ValueError(f"weight {tuple(weight.shape)} does not fit the last dimension of x {tuple(x.shape)}")
    result: Tensor = load()(x.contiguous(), weight.contiguous(), eps)
    return result
