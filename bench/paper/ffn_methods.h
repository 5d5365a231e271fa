// One feed-forward layer y = W_out relu(W_in x) without biases, by every method of workload.h but
// SDPA. kNaiveTopK and kOurs keep the `kept` largest pre-activations of a token (section 2 of
// docs/specs/topk_attention_and_ff.md, rule "pre").
#pragma once

#include <memory>

#include "bench/paper/workload.h"

namespace lectern::bench {

// Inputs are the tokens [tokens, width] and both matrices, one row per hidden unit.
std::unique_ptr<Workload> MakeFeedForward(Method method, const Shape& shape);

}  // namespace lectern::bench
