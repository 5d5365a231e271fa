// The attention kernels for one instruction set; flags in CMakeLists.txt.
#define LECTERN_ISA_AVX2 1
#include "kernels/attention/attention_impl.h"

namespace lectern::kernels::internal {

const AttentionOps& Avx2AttentionOps() { return kOps; }

}  // namespace lectern::kernels::internal
