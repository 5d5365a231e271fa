// Cases of golden/topk_ff, for the tests of the two implementations of top-k feed-forward.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "kernels/ffn/ffn_activation.h"
#include "tests/testing/golden.h"

namespace lectern::kernels {

inline FfnActivation ActivationOf(const std::string& name) {
  if (name == "relu") return FfnActivation::kRelu;
  if (name == "gelu") return FfnActivation::kGelu;
  if (name == "gelu_tanh") return FfnActivation::kGeluTanh;
  EXPECT_EQ(name, "silu");
  return FfnActivation::kSilu;
}

// Row `row` of x times row `unit` of w, in double precision.
inline double DotProduct(const test::GoldenTensor& x, int64_t row, const test::GoldenTensor& w,
                         int64_t unit) {
  const int64_t width = w.shape[1];
  double sum = 0;
  for (int64_t i = 0; i < width; ++i) {
    sum += static_cast<double>(x.f32[row * width + i]) * w.f32[unit * width + i];
  }
  return sum;
}

}  // namespace lectern::kernels
