#include "kernels/rows/row_ops.h"

namespace lectern::kernels {

const RowOps& RowOpsOf(Isa isa) {
  switch (isa) {
    case Isa::kAvx512:
      return kRowOpsAvx512;
    case Isa::kAvx2:
      return kRowOpsAvx2;
    case Isa::kPortable:
      break;
  }
  return kRowOpsPortable;
}

LaunchStatus CheckContext(const ExecutionContext& context) {
  if (context.num_threads < 1) return LaunchStatus::kBadArgument;
  return context.isa <= BestIsa() ? LaunchStatus::kOk : LaunchStatus::kUnsupported;
}

}  // namespace lectern::kernels
