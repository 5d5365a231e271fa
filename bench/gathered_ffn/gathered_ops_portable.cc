#include "bench/gathered_ffn/gathered_ops_impl.h"

namespace lectern::bench {

extern const GatheredOps kGatheredOpsPortable = kOps;

}  // namespace lectern::bench
