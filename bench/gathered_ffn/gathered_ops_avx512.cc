#include "bench/gathered_ffn/gathered_ops_impl.h"

namespace lectern::bench {

extern const GatheredOps kGatheredOpsAvx512 = kOps;

}  // namespace lectern::bench
