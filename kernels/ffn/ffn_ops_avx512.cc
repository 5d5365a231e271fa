#include "kernels/ffn/ffn_ops_impl.h"

namespace lectern::kernels {

extern const FfnOps kFfnOpsAvx512 = kOps;

}  // namespace lectern::kernels
