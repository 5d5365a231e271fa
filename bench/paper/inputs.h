// Pseudo-random inputs that do not depend on the order in which they are made.
#pragma once

#include <cstdint>
#include <random>

#include "kernels/runtime/launch_status.h"

namespace lectern::bench {

enum class Input : uint32_t { kQuery = 1, kKey, kValue, kTokens, kUp, kDown, kProjection };

// Fills row `row` of an input: `width` numbers of the normal distribution of standard deviation
// `scale`.
inline void FillRow(Input input, int64_t row, int64_t width, float scale, float* out) {
  std::minstd_rand generator(static_cast<uint32_t>(row) * 2654435761u +
                             static_cast<uint32_t>(input));
  generator.discard(2);
  std::normal_distribution<float> normal(0.0f, scale);
  for (int64_t i = 0; i < width; ++i) out[i] = normal(generator);
}

inline void FillRows(Input input, int64_t rows, int64_t width, float scale, float* out) {
  for (int64_t row = 0; row < rows; ++row) FillRow(input, row, width, scale, out + row * width);
}

// The shapes given to the kernels here are valid: anything else is a mistake in the benchmark.
void Require(kernels::LaunchStatus status);

}  // namespace lectern::bench
