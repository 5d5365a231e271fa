#include <cmath>

#include "kernels/attention/attention_task.h"

namespace lectern::kernels::internal {

const AttentionOps& AttentionOpsFor(Isa isa) {
  switch (isa) {
    case Isa::kAvx512:
      return Avx512AttentionOps();
    case Isa::kAvx2:
      return Avx2AttentionOps();
    case Isa::kPortable:
      break;
  }
  return PortableAttentionOps();
}

LaunchStatus CheckArgs(const AttentionArgs& a) {
  if (!ValidLayout(a.layout) || a.rows < 0 || a.num_q_heads <= 0 || a.q_offset < 0 ||
      a.table.num_tokens < 0 || a.table.num_tokens > INT32_MAX || a.layer < 0 ||
      a.layer >= a.layout.num_layers || a.num_q_heads % a.layout.num_kv_heads != 0 ||
      a.num_q_heads / a.layout.num_kv_heads > 256) {
    return LaunchStatus::kBadShape;
  }
  if (a.q_stride < static_cast<int64_t>(a.num_q_heads) * a.layout.head_dim ||
      a.out_stride < static_cast<int64_t>(a.num_q_heads) * a.layout.value_dim) {
    return LaunchStatus::kBadShape;
  }
  if (!(a.scale > 0) || !std::isfinite(a.scale)) return LaunchStatus::kBadArgument;
  if (!(a.score_cap >= 0) || !std::isfinite(a.score_cap)) return LaunchStatus::kBadArgument;
  if (a.score_cap > 0 && a.bias != nullptr) return LaunchStatus::kUnsupported;
  if (a.rows == 0) return LaunchStatus::kOk;
  if (a.q == nullptr || a.out == nullptr) return LaunchStatus::kBadArgument;
  if (a.table.num_tokens > 0 && a.table.pages == nullptr) return LaunchStatus::kBadArgument;
  return LaunchStatus::kOk;
}

}  // namespace lectern::kernels::internal
