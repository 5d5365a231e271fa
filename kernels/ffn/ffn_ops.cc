#include "kernels/ffn/ffn_ops_table.h"

namespace lectern::kernels {

const FfnOps& FfnOpsOf(Isa isa) {
  switch (isa) {
    case Isa::kAvx512:
      return kFfnOpsAvx512;
    case Isa::kAvx2:
      return kFfnOpsAvx2;
    case Isa::kPortable:
      break;
  }
  return kFfnOpsPortable;
}

}  // namespace lectern::kernels
