// The attention kernels for one instruction set; flags in CMakeLists.txt.
#include "kernels/attention/attention_impl.h"

namespace lectern::kernels::internal {

const AttentionOps& Avx512AttentionOps() { return kOps; }

}  // namespace lectern::kernels::internal
