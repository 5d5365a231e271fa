// Pseudo-random inputs of the kernels' tests and benchmarks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace lectern::kernels {

// Numbers of the normal distribution around 0; the same for the same seed.
inline std::vector<float> Normal(size_t count, uint32_t seed, float deviation = 1.0f) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  std::vector<float> values(count);
  for (float& value : values) value = normal(generator);
  return values;
}

}  // namespace lectern::kernels
