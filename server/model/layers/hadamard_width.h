// Rotates queries and keys in Hadamard blocks before they are rounded to int8: in exact arithmetic
// scores stay the same, and outlier channels are spread (QuaRot, Ashkboos et al. 2024, arXiv
// 2404.00456).
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/kv/kv_pages.h"
#include "kernels/rows/hadamard.h"
#include "kernels/runtime/execution_context.h"
#include "server/model/kernel_status.h"

namespace lectern {

// Width of the blocks: the largest power of two that divides a head; 1, which changes nothing,
// where keys are fp32.
inline int64_t HadamardWidth(const kernels::KvPageLayout& layout) {
  int64_t block = 1;
  if (layout.type == kernels::KvType::kF32) return block;
  while (layout.head_dim % (2 * block) == 0) block *= 2;
  return block;
}

// Rotates the first `heads` heads of each row of x, whose rows are `stride` floats apart.
inline absl::Status RotateHeads(const kernels::KvPageLayout& layout, float* x, int64_t rows,
                                int64_t heads, int64_t stride,
                                const kernels::ExecutionContext& execution) {
  const int64_t block = HadamardWidth(layout);
  if (block == 1) return absl::OkStatus();
  return FromKernel(
      kernels::BlockHadamard(x, rows, heads * layout.head_dim, stride, block, execution),
      "hadamard");
}

}  // namespace lectern
