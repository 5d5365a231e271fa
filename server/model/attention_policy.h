// What each layer keeps: which keys its attention, which units its feed-forward part. Plain data;
// the same object for every model family.
#pragma once

#include <cstdint>
#include <vector>

namespace lectern {

struct AttentionPolicy {
  enum class Tail {
    kNone,  // renormalise over the kept keys (Gupta et al. 2021)
    kMean,  // the dropped mass goes to the mean of the dropped values (SparQ, Ribar et al. 2023)
  };

  int64_t top_k = 128;           // keys kept per query; 0 = dense
  std::vector<int64_t> layer_k;  // overrides for layers 0, 1, ...; 0 = dense in that layer
  Tail tail = Tail::kMean;
  // Full pages of keys that a token and KV head reads in layers that are not dense, 0 = all
  // (kernels/attention/topk_attention.h): an approximation whose cost hardly grows with the
  // document.
  int64_t page_budget = 0;
  // A token that sees at most so many keys attends to all of them, in every layer: behind so few,
  // selection costs more than it saves (docs/measurements/attention.md).
  int64_t dense_up_to = 0;

  // Feed-forward units kept per token, in every layer; 0 = all (Gupta et al. 2021, section 2.2).
  enum class FfnRank {
    kProduct,  // by |f(gate) * up|: the most faithful on SwiGLU models
               // (docs/measurements/quality.md)
    kGateAbs,  // by |f(gate)|
    kPre,      // by the gate before its activation, signed: the rule of the paper
  };
  int64_t ffn_top_k = 0;
  FfnRank ffn_rank = FfnRank::kProduct;

  static AttentionPolicy Exact() { return {.top_k = 0, .layer_k = {}, .tail = Tail::kNone}; }

  int64_t KForLayer(int layer) const {
    return layer < static_cast<int>(layer_k.size()) ? layer_k[layer] : top_k;
  }
  // True if nothing is left out in a model with `num_layers` layers.
  bool IsExact(int num_layers) const {
    if (ffn_top_k != 0) return false;
    for (int layer = 0; layer < num_layers; ++layer) {
      if (KForLayer(layer) != 0) return false;
    }
    return true;
  }
  friend bool operator==(const AttentionPolicy&, const AttentionPolicy&) = default;
};

}  // namespace lectern
