// The input of a linear layer: rows of activations, and the step that is applied to each row before
// the product, while it is in the cache. A normalised or activated row is never stored.
#pragma once

#include <cstdint>

#include "kernels/ffn/ffn_activation.h"

namespace lectern::kernels {

struct LinearInput {
  enum class Step {
    kNone,
    kRmsNorm,  // x / sqrt(mean(x^2) + rms_eps) * rms_weight (rms_norm.h)
    kGated,    // activation(gate) * up (activate.h)
  };
  const float* x = nullptr;  // [m, k]; with kGated [m, 2, k]: gate and up
  int64_t m = 0;
  int64_t stride = 0;  // floats from row to row
  Step step = Step::kNone;
  FfnActivation activation = FfnActivation::kSilu;  // of kGated
  float rms_eps = 0;
  const float* rms_weight = nullptr;  // [k]; null: none
  // Width of the Hadamard blocks in which the row is transformed after the step (hadamard.h): a
  // power of two that divides k; 1 = none.
  int64_t hadamard = 1;
};

}  // namespace lectern::kernels
