// Chooses the next token from logits.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "server/engine/api.h"

namespace lectern {

// One per answer; not thread-safe. Equal options and logits give equal tokens.
class Sampler {
 public:
  explicit Sampler(const SamplingOptions& options) : options_(options), random_(options.seed) {}

  // At temperature 0, returns the likeliest token (the lowest id among equals). Otherwise draws
  // from the smallest set of tokens whose probabilities reach top_p (Holtzman et al. 2020, arXiv
  // 1904.09751).
  int32_t Next(std::span<const float> logits);

 private:
  // Returns the token at which the weights, summed in order of ids, exceed `draw`.
  int32_t Draw(double draw) const;
  // Draws from the smallest set of the likeliest tokens whose weights reach top_p of `total`;
  // `uniform` is in [0, 1).
  int32_t DrawFromNucleus(double uniform, double total);

  const SamplingOptions options_;
  std::mt19937_64 random_;
  std::vector<float> weights_;      // probability of each token relative to the best one
  std::vector<double> block_sums_;  // sums of blocks of weights_
  std::vector<std::pair<float, int32_t>> candidates_;  // weight, token
};

}  // namespace lectern
