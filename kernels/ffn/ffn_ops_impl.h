// The loops of ffn_ops_table.h, compiled once for each instruction set. Include it as simd.h.
#pragma once

#include <cstdint>

#include "kernels/ffn/ffn_ops_table.h"
#include "kernels/runtime/simd_exp.h"

namespace lectern::kernels {
namespace {

// erfc(t) e^(t^2) for t >= 0: w (c0 + c1 w + ...), w = 2 / (2 + t). A minimax fit (Remez) of the
// relative error on [0, 9.4], below 5e-8; beyond, e^(-t^2) is 0 here.
LECTERN_INLINE Floats ScaledErfc(Floats t) {
  const Floats w = 2.0f / (t + 2.0f);
  Floats p = w * -0.0588470399f + 0.28348732f;
  p = p * w - 0.484936297f;
  p = p * w + 0.275462329f;
  p = p * w - 0.0248191245f;
  p = p * w + 0.201916516f;
  p = p * w + 0.243300244f;
  p = p * w + 0.282348007f;
  p = p * w + 0.282087982f;
  return p * w;
}

LECTERN_INLINE Floats Gelu(Floats z) {
  const Ints negative = z < 0.0f;
  const Floats t = (negative ? -z : z) * 0.707106781186547524f;
  const Floats tail = ScaledErfc(t) * ExpOfNegative(-t * t) * 0.5f;  // Phi(-|z|)
  return z * (negative ? tail : 1.0f - tail);
}

template <FfnActivation kActivation>
LECTERN_INLINE Floats Activated(Floats z) {
  if constexpr (kActivation == FfnActivation::kRelu) return z < 0.0f ? Floats{} : z;
  if constexpr (kActivation == FfnActivation::kGelu) return Gelu(z);
  if constexpr (kActivation == FfnActivation::kGeluTanh) {
    // (1 + tanh a) / 2 = 1 / (1 + e^-2a)
    return TimesSigmoid(z, (z * z * 0.044715f + 1.0f) * z * 1.59576912160573071f);
  }
  if constexpr (kActivation == FfnActivation::kSilu) return TimesSigmoid(z, z);
  return z;
}

template <FfnActivation kActivation>
void ActivateAs(const float* z, const float* up, int64_t count, float* out) {
  for (int64_t i = 0; i < count; i += kLanes) {
    const Floats f = Activated<kActivation>(Load(z + i, count - i));
    Store(out + i, up == nullptr ? f : f * Load(up + i, count - i), count - i);
  }
}

void Activate(FfnActivation activation, const float* z, const float* up, int64_t count,
              float* out) {
  switch (activation) {
    case FfnActivation::kIdentity:
      return ActivateAs<FfnActivation::kIdentity>(z, up, count, out);
    case FfnActivation::kRelu:
      return ActivateAs<FfnActivation::kRelu>(z, up, count, out);
    case FfnActivation::kGelu:
      return ActivateAs<FfnActivation::kGelu>(z, up, count, out);
    case FfnActivation::kGeluTanh:
      return ActivateAs<FfnActivation::kGeluTanh>(z, up, count, out);
    case FfnActivation::kSilu:
      return ActivateAs<FfnActivation::kSilu>(z, up, count, out);
  }
}

void Keys(const float* value, bool magnitude, int64_t count, int32_t* keys) {
  const Ints kept_bits = Ints{} + (magnitude ? 0x7fffffff : -1);
  for (int64_t i = 0; i < count; i += kLanes) {
    Floats v = Load(value + i, count - i);
    Ints bits;
    __builtin_memcpy(&bits, &v, sizeof(v));
    bits &= kept_bits;
    __builtin_memcpy(&v, &bits, sizeof(v));
    v += 0.0f;  // -0 to 0
    __builtin_memcpy(&bits, &v, sizeof(v));
    Ints key = bits >= 0 ? bits : bits ^ 0x7fffffff;
    key = v != v ? Ints{} + INT32_MIN : key;
    if (count - i >= kLanes) {
      __builtin_memcpy(keys + i, &key, sizeof(key));
    } else {
      for (int64_t lane = 0; i + lane < count; ++lane) keys[i + lane] = key[lane];
    }
  }
}

int64_t CountAtLeast(const int32_t* keys, int64_t count, int32_t bound) {
  Ints minus = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) minus += LoadInts(keys + i) >= bound;
  int64_t total = 0;
  for (int lane = 0; lane < kLanes; ++lane) total -= minus[lane];
  for (; i < count; ++i) total += keys[i] >= bound;
  return total;
}

// Bisects the values while the two ends are far apart (ranks are spread evenly, their bits are
// not), and the bits when that makes no more progress.
FfnCut FindCut(const int32_t* keys, int64_t count, int64_t k) {
  int32_t smallest = keys[0], largest = keys[0];
  for (int64_t i = 1; i < count; ++i) {
    smallest = keys[i] < smallest ? keys[i] : smallest;
    largest = keys[i] > largest ? keys[i] : largest;
  }
  // At least k keys are >= low, fewer than k are >= high.
  int64_t low = smallest, high = static_cast<int64_t>(largest) + 1;
  int64_t from_low = count, from_high = 0;
  while (high - low > 1 && from_low > k) {
    const float a = FromOrderedKey(static_cast<int32_t>(low));
    const float b = FromOrderedKey(static_cast<int32_t>(high - 1));
    int64_t middle = OrderedKey(a * 0.5f + b * 0.5f);
    if (middle <= low || middle >= high) middle = low + (high - low) / 2;
    const int64_t n = CountAtLeast(keys, count, static_cast<int32_t>(middle));
    (n >= k ? low : high) = middle;
    (n >= k ? from_low : from_high) = n;
  }
  return {static_cast<int32_t>(low), from_low > k ? k - from_high : count};
}

void ZeroDropped(const int32_t* keys, int64_t count, FfnCut cut, float* values) {
  int64_t i = 0;
  if (cut.ties >= count) {
    for (; i + kLanes <= count; i += kLanes) {
      const Floats v = Load(values + i);
      Store(values + i, LoadInts(keys + i) >= cut.key ? v : Floats{});
    }
  }
  for (; i < count; ++i) {
    if (keys[i] < cut.key || (keys[i] == cut.key && cut.ties-- <= 0)) values[i] = 0.0f;
  }
}

constexpr FfnOps kOps = {Activate, Keys, FindCut, ZeroDropped};

}  // namespace
}  // namespace lectern::kernels
