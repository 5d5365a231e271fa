#include "server/engine/sampler.h"

#include <algorithm>
#include <cmath>

namespace lectern {

int32_t Sampler::Next(std::span<const float> logits) {
  const auto best = std::max_element(logits.begin(), logits.end());
  if (options_.temperature <= 0) return static_cast<int32_t>(best - logits.begin());
  weights_.clear();
  double total = 0;
  for (size_t id = 0; id < logits.size(); ++id) {
    const double weight =
        std::exp((static_cast<double>(logits[id]) - *best) / options_.temperature);
    if (weight < 1e-12) continue;  // never drawn from 53 random bits
    weights_.emplace_back(weight, static_cast<int32_t>(id));
    total += weight;
  }
  std::sort(weights_.begin(), weights_.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  });
  double reached = 0;
  size_t count = 0;
  while (count < weights_.size() && (count == 0 || reached < options_.top_p * total)) {
    reached += weights_[count++].first;
  }
  double draw = static_cast<double>(random_() >> 11) * 0x1p-53 * reached;
  for (size_t i = 0; i < count; ++i) {
    draw -= weights_[i].first;
    if (draw < 0) return weights_[i].second;
  }
  return weights_[count - 1].second;
}

}  // namespace lectern
