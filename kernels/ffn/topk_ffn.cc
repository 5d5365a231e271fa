#include "kernels/ffn/topk_ffn.h"

#include <memory>

#include "kernels/ffn/ffn_ops_table.h"
#include "kernels/rows/row_ops.h"

namespace lectern::kernels {

LaunchStatus TopKFfn(const float* gate, int64_t gate_stride, FfnActivation activation, FfnRank rank,
                     int64_t k, int64_t rows, int64_t cols, float* activated,
                     int64_t activated_stride, const ExecutionContext& context) {
  if (rows < 0 || cols <= 0 || activated_stride < cols) return LaunchStatus::kBadShape;
  if (k <= 0) return LaunchStatus::kBadArgument;
  if (LaunchStatus status = CheckContext(context); !Ok(status)) return status;
  if (k >= cols || rows == 0) return LaunchStatus::kOk;
  if (activated == nullptr) return LaunchStatus::kBadArgument;
  if (rank != FfnRank::kProduct && (gate == nullptr || gate_stride < cols)) {
    return LaunchStatus::kBadArgument;
  }
  const FfnOps& ops = FfnOpsOf(context.isa);
  ForRows(rows, cols, context, [&](ItemRange range) {
    const auto keys = std::make_unique_for_overwrite<int32_t[]>(cols);
    const auto acted = std::make_unique_for_overwrite<float[]>(cols);
    for (int64_t row = range.begin; row < range.end; ++row) {
      float* values = activated + row * activated_stride;
      const float* ranked = rank == FfnRank::kProduct ? values : gate + row * gate_stride;
      if (rank == FfnRank::kGateAbs) {
        ops.activate(activation, ranked, nullptr, cols, acted.get());
        ranked = acted.get();
      }
      ops.keys(ranked, rank != FfnRank::kPre, cols, keys.get());
      ops.zero_dropped(keys.get(), cols, ops.find_cut(keys.get(), cols, k), values);
    }
  });
  return LaunchStatus::kOk;
}

}  // namespace lectern::kernels
