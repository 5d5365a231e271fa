// A stack of transformer layers: x += attention(norm(x)) W_o; x += ffn(norm(x)), all fp32, ReLU,
// norms without weights. One set of weights serves all layers; every layer keeps its keys
// and values to the end, as a model needs them for answers.
//
// The methods differ only in attention, except that kPlain takes all tokens at once everywhere and
// the others `ffn_chunk` tokens at a time in the feed-forward layer, `chunk` in the projections.
// ATen computes all products outside attention.
#pragma once

#include <memory>

#include "bench/paper/workload.h"

namespace lectern::bench {

// Inputs are the tokens [tokens, width] and the weights.
std::unique_ptr<Workload> MakeLayerStack(Method method, const Shape& shape);

}  // namespace lectern::bench
