#include "kernels/ffn/ffn_ops_impl.h"

namespace lectern::kernels {

extern const FfnOps kFfnOpsPortable = kOps;

}  // namespace lectern::kernels
