// The loops of row_ops_table.h, compiled once for each instruction set. Everything has internal
// linkage; included by row_ops_*.cc only.
#pragma once

#include <cstdint>
#include <utility>

#include "kernels/rows/row_ops_table.h"
#include "kernels/runtime/simd_exp.h"

namespace lectern::kernels {
namespace {

void RmsNormRow(const float* x, int64_t cols, const float* weight, float eps, float* y) {
  Floats squares = {};
  for (int64_t i = 0; i < cols; i += kLanes) {
    const Floats v = Load(x + i, cols - i);
    squares += v * v;
  }
  const float inverse =
      1.0f / __builtin_sqrtf(SumInOrder(squares) / static_cast<float>(cols) + eps);
  for (int64_t i = 0; i < cols; i += kLanes) {
    const int64_t count = cols - i;
    const Floats v = Load(x + i, count) * inverse;
    Store(y + i, weight == nullptr ? v : v * Load(weight + i, count), count);
  }
}

void LayerNormRow(const float* x, int64_t cols, const float* weight, const float* bias, float eps,
                  float* y) {
  Floats sum = {};
  for (int64_t i = 0; i < cols; i += kLanes) sum += Load(x + i, cols - i);
  const float mean = SumInOrder(sum) / static_cast<float>(cols);
  Floats squares = {};
  int64_t whole = 0;
  for (; whole + kLanes <= cols; whole += kLanes) {
    const Floats v = Load(x + whole) - mean;
    squares += v * v;
  }
  float rest = 0;
  for (int64_t i = whole; i < cols; ++i) rest += (x[i] - mean) * (x[i] - mean);
  const float variance = (SumInOrder(squares) + rest) / static_cast<float>(cols);
  const float inverse = 1.0f / __builtin_sqrtf(variance + eps);
  for (int64_t i = 0; i < cols; i += kLanes) {
    const int64_t count = cols - i;
    const Floats v = (Load(x + i, count) - mean) * inverse;
    Store(y + i, v * Load(weight + i, count) + Load(bias + i, count), count);
  }
}

void Rotate(float* x, const float* cos, const float* sin, int64_t half) {
  for (int64_t i = 0; i < half; i += kLanes) {
    const int64_t count = half - i;
    const Floats c = Load(cos + i, count), s = Load(sin + i, count);
    const Floats a = Load(x + i, count), b = Load(x + half + i, count);
    Store(x + i, a * c - b * s, count);
    Store(x + half + i, b * c + a * s, count);
  }
}

void Cap(float* x, int64_t count, float factor, float cap) {
  const Floats scale = Floats{} + (cap > 0 ? factor / cap : factor);
  for (int64_t i = 0; i < count; i += kLanes) {
    const Floats v = Load(x + i, count - i) * scale;
    Store(x + i, cap > 0 ? Tanh(v) * cap : v, count - i);
  }
}

// Lane i of the result is lane i ^ kDistance added to lane i, or, in the upper of the two, taken
// minus lane i.
template <int kDistance, int... kLane>
LECTERN_INLINE Floats ButterflyWithin(Floats v, std::integer_sequence<int, kLane...>) {
  const Floats sign = {((kLane & kDistance) != 0 ? -1.0f : 1.0f)...};
  return v * sign + __builtin_shufflevector(v, v, (kLane ^ kDistance)...);
}

void HadamardSmall(float* x, int64_t block, float scale) {
  for (int64_t distance = 1; distance < block; distance *= 2) {
    for (int64_t i = 0; i < block; ++i) {
      if ((i & distance) != 0) continue;
      const float a = x[i], b = x[i + distance];
      x[i] = a + b;
      x[i + distance] = a - b;
    }
  }
  for (int64_t i = 0; i < block; ++i) x[i] *= scale;
}

void Hadamard(float* x, int64_t block, float scale) {
  if (block < kLanes) return HadamardSmall(x, block, scale);
  constexpr std::make_integer_sequence<int, kLanes> lanes;
  for (int64_t i = 0; i < block; i += kLanes) {
    Floats v = Load(x + i) * scale;
    v = ButterflyWithin<1>(v, lanes);
    v = ButterflyWithin<2>(v, lanes);
    if constexpr (kLanes > 4) v = ButterflyWithin<4>(v, lanes);
    if constexpr (kLanes > 8) v = ButterflyWithin<8>(v, lanes);
    Store(x + i, v);
  }
  for (int64_t distance = kLanes; distance < block; distance *= 2) {
    for (int64_t base = 0; base < block; base += 2 * distance) {
      for (int64_t i = base; i < base + distance; i += kLanes) {
        const Floats a = Load(x + i), b = Load(x + i + distance);
        Store(x + i, a + b);
        Store(x + i + distance, a - b);
      }
    }
  }
}

using Bytes = int8_t __attribute__((vector_size(kLanes)));

float QuantizeInt8(const float* x, int64_t n, int8_t* out) {
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  Floats largest = {};
  for (int64_t i = 0; i < n; i += kLanes) {
    const Floats v = Load(x + i, n - i);
    const Floats magnitude = v < 0.0f ? -v : v;
    largest = magnitude > largest ? magnitude : largest;
  }
  float max = 0;
  for (int lane = 0; lane < kLanes; ++lane) max = largest[lane] > max ? largest[lane] : max;
  const float inverse = max > 0 && max <= kLargest ? 127.0f / max : 0.0f;
  for (int64_t i = 0; i < n; i += kLanes) {
    Floats v = Load(x + i, n - i) * inverse;
    v = v == v ? v : Floats{};
    v = v < 127.0f ? v : Floats{} + 127.0f;
    v = v > -127.0f ? v : Floats{} - 127.0f;
    const Floats rounded = v + kMagic;
    Ints bits;
    __builtin_memcpy(&bits, &rounded, sizeof(bits));
    const Bytes bytes = __builtin_convertvector(bits - 0x4B400000, Bytes);
    const int64_t count = n - i < kLanes ? n - i : kLanes;
    if (count == kLanes) {
      __builtin_memcpy(out + i, &bytes, kLanes);
    } else {
      for (int64_t lane = 0; lane < count; ++lane) out[i + lane] = bytes[lane];
    }
  }
  return max / 127.0f;
}

constexpr RowOps kOps = {RmsNormRow, LayerNormRow, Rotate, Cap, Hadamard, QuantizeInt8};

}  // namespace
}  // namespace lectern::kernels
