#include "bench/gathered_ffn/gathered_ops_impl.h"

namespace lectern::bench {

extern const GatheredOps kGatheredOpsAvx2 = kOps;

}  // namespace lectern::bench
