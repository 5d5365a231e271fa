// The input of a linear layer: rows of activations, and what happens to each on its way into the
// product, while it is in the cache: a normalised or activated row is never stored.
#pragma once

#include <cstdint>

namespace lectern::kernels {

struct LinearInput {
  enum class Step {
    kNone,
    kRmsNorm,  // x / sqrt(mean(x^2) + rms_eps) * rms_gain (rms_norm.h)
    kSwiGlu,   // silu(gate) * up (silu_mul.h)
  };
  const float* x = nullptr;  // [m, k]; with kSwiGlu [m, 2, k]: gate and up
  int64_t m = 0;
  int64_t stride = 0;  // floats from row to row
  Step step = Step::kNone;
  float rms_eps = 0;
  const float* rms_gain = nullptr;  // [k]; null: none
  // After the step the row is mixed in blocks of so many (hadamard.h): a power of two that divides
  // k; 1 = not.
  int64_t hadamard = 1;
};

}  // namespace lectern::kernels
