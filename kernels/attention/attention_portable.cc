// The attention kernels for one instruction set; flags in CMakeLists.txt.
#define LECTERN_ISA_PORTABLE 1
#include "kernels/attention/attention_impl.h"

namespace lectern::kernels::internal {

const AttentionOps& PortableAttentionOps() { return kOps; }

}  // namespace lectern::kernels::internal
