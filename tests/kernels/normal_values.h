// Pseudo-random inputs for tests and benchmarks of kernels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace lectern::kernels {

// Returns normally distributed numbers around 0, which depend only on the seed.
inline std::vector<float> Normal(size_t count, uint32_t seed, float deviation = 1.0f) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  std::vector<float> values(count);
  for (float& value : values) value = normal(generator);
  return values;
}

}  // namespace lectern::kernels
