// The inner loops of the row kernels and of kv_pages for each instruction set: one row, head or
// block at a time, so that a row's result depends on that row alone. Internal to kernels/.
#pragma once

#include <cstdint>

namespace lectern::kernels {

struct RowOps {
  void (*rms_norm)(const float* x, int64_t cols, const float* weight, float eps, float* y);
  // (x - mean) / sqrt(variance + eps) * weight + bias.
  void (*layer_norm)(const float* x, int64_t cols, const float* weight, const float* bias,
                     float eps, float* y);
  // Applies RoPE to one head: rotates the pairs (x[i], x[half + i]).
  void (*rotate)(float* x, const float* cos, const float* sin, int64_t half);
  // x becomes cap * tanh(factor * x / cap), or factor * x where cap is 0.
  void (*cap)(float* x, int64_t count, float factor, float cap);
  // Transforms one block; `block` is a power of two.
  void (*hadamard)(float* x, int64_t block, float scale);
  // out[i] = round_to_even(x[i] * 127 / max|x|), and 0 for NaN; returns max|x| / 127. A row that
  // holds an infinity becomes zeros with an infinite scale, so that the error shows in the results.
  float (*quantize_int8)(const float* x, int64_t n, int8_t* out);
};

extern const RowOps kRowOpsPortable;
extern const RowOps kRowOpsAvx2;
extern const RowOps kRowOpsAvx512;

}  // namespace lectern::kernels
