// Dense (flash-style) attention over paged keys: softmax over all visible scores, computed tile by
// tile with a running maximum (Dao et al. 2022, arXiv 2205.14135, algorithm 1). The `exact` policy.
// kept_mass, when asked for, is 1 (0 for a row that sees no key, whose output is zeros). key_mass
// costs a second pass over the keys.
#pragma once

#include <span>

#include "kernels/attention/attention_args.h"

namespace lectern::kernels {

LaunchStatus DenseAttention(std::span<const AttentionArgs> batch, const ExecutionContext& context);

}  // namespace lectern::kernels
