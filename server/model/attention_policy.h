// Which keys each layer's attention keeps. Plain data; the same object for every model family.
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

  static AttentionPolicy Exact() { return {.top_k = 0, .layer_k = {}, .tail = Tail::kNone}; }

  int64_t KForLayer(int layer) const {
    return layer < static_cast<int>(layer_k.size()) ? layer_k[layer] : top_k;
  }
  // True if every layer of a model with `num_layers` layers is dense.
  bool IsExact(int num_layers) const {
    for (int layer = 0; layer < num_layers; ++layer) {
      if (KForLayer(layer) != 0) return false;
    }
    return true;
  }
  friend bool operator==(const AttentionPolicy&, const AttentionPolicy&) = default;
};

}  // namespace lectern
