// Chooses the next token from logits.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "server/engine/types.h"

namespace lectern {

// One per answer; not thread-safe. The same options and logits give the same tokens.
class Sampler {
 public:
  explicit Sampler(const SamplingOptions& options) : options_(options), random_(options.seed) {}

  // Greedy (the lower id among equals) at temperature 0; otherwise from the smallest set of tokens
  // whose probabilities reach top_p (Holtzman et al. 2020, arXiv 1904.09751).
  int32_t Next(std::span<const float> logits);

 private:
  const SamplingOptions options_;
  std::mt19937_64 random_;
  std::vector<std::pair<double, int32_t>> weights_;
};

}  // namespace lectern
