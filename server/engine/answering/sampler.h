// Chooses the next token from logits.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "server/engine/api.h"

namespace lectern {

// One per answer; not thread-safe. The same options and logits give the same tokens.
class Sampler {
 public:
  explicit Sampler(const SamplingOptions& options) : options_(options), random_(options.seed) {}

  // Greedy (the lower id among equals) at temperature 0; otherwise from the smallest set of tokens
  // whose probabilities reach top_p (Holtzman et al. 2020, arXiv 1904.09751).
  int32_t Next(std::span<const float> logits);

 private:
  // The token at which the weights, summed in order of ids, exceed `draw`.
  int32_t Draw(double draw) const;
  // The same for `uniform` in [0, 1) of the smallest set of the likeliest that reaches top_p of
  // total.
  int32_t DrawFromNucleus(double uniform, double total);

  const SamplingOptions options_;
  std::mt19937_64 random_;
  std::vector<float> weights_;      // of every token: its probability relative to the best one's
  std::vector<double> block_sums_;  // of weights_
  std::vector<std::pair<float, int32_t>> candidates_;  // weight, token
};

}  // namespace lectern
