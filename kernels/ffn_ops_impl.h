// The loops of ffn_ops_table.h in vectors as wide as the registers of the class that this is
// compiled for. Everything has internal linkage; included by ffn_ops_<class>.cc only.
#pragma once

#include <cstdint>

#include "kernels/ffn_ops_table.h"
#include "kernels/row_simd.h"

namespace lectern::kernels {
namespace {

// What the register files hold beside the operands: rows x units (or vectors of columns) of
// accumulators.
#if defined(__AVX512F__)
constexpr int kTileRows = 6, kTileVectors = 4;
#elif defined(__AVX2__)
constexpr int kTileRows = 6, kTileVectors = 2;
#else
constexpr int kTileRows = 4, kTileVectors = 2;
#endif
constexpr int kDotRows = kLanes == 16 ? 6 : 2;
constexpr int kDotUnits = 4;

using Quad = float __attribute__((vector_size(16)));

LECTERN_INLINE Floats LoadWhole(const float* x) {
  Floats v;
  __builtin_memcpy(&v, x, sizeof(v));
  return v;
}

// Lanes i, i + 4, i + 8, ... added up.
LECTERN_INLINE Quad Fold(Floats v) {
#if defined(__AVX512F__)
  const auto half = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
                    __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
#elif defined(__AVX2__)
  const Floats half = v;
#endif
#if defined(__AVX2__)
  return __builtin_shufflevector(half, half, 0, 1, 2, 3) +
         __builtin_shufflevector(half, half, 4, 5, 6, 7);
#else
  return v;
#endif
}

// The sums of four vectors, lane by lane of the result.
LECTERN_INLINE Quad SumFour(Floats a, Floats b, Floats c, Floats d) {
  const Quad a4 = Fold(a), b4 = Fold(b), c4 = Fold(c), d4 = Fold(d);
  const Quad ab =
      __builtin_shufflevector(a4, b4, 0, 4, 1, 5) + __builtin_shufflevector(a4, b4, 2, 6, 3, 7);
  const Quad cd =
      __builtin_shufflevector(c4, d4, 0, 4, 1, 5) + __builtin_shufflevector(c4, d4, 2, 6, 3, 7);
  return __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
}

// The rows of four units, and of the four to come.
struct UnitRows {
  const float* now[kDotUnits];
  const float* next[kDotUnits];
  bool read_ahead;
};

template <int kRows>
LECTERN_INLINE void DotTile(const float* x, int64_t width, const UnitRows& units, int64_t count,
                            float* out, int64_t out_stride) {
  Floats sum[kRows][kDotUnits] = {};
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) {
    if (kRows == 1 && units.read_ahead) {
#pragma GCC unroll 4
      for (int u = 0; u < kDotUnits; ++u) __builtin_prefetch(units.next[u] + i);
    }
    Floats w[kDotUnits];
#pragma GCC unroll 4
    for (int u = 0; u < kDotUnits; ++u) w[u] = LoadWhole(units.now[u] + i);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Floats v = LoadWhole(x + r * width + i);
#pragma GCC unroll 4
      for (int u = 0; u < kDotUnits; ++u) sum[r][u] += v * w[u];
    }
  }
  if (i < width) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Floats v = Load(x + r * width + i, width - i);
#pragma GCC unroll 4
      for (int u = 0; u < kDotUnits; ++u) sum[r][u] += v * Load(units.now[u] + i, width - i);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    const Quad four = SumFour(sum[r][0], sum[r][1], sum[r][2], sum[r][3]);
    if (count >= kDotUnits) {
      __builtin_memcpy(out + r * out_stride, &four, sizeof(four));
    } else {
      for (int64_t u = 0; u < count; ++u) out[r * out_stride + u] = four[u];
    }
  }
}

// `rows` rows in tiles of at most kRows.
template <int kRows>
void DotRows(const FfnDots& job, const UnitRows& units, int64_t row, int64_t position) {
  const int64_t count = job.range.end - position;
  for (; row + kRows <= job.rows; row += kRows) {
    DotTile<kRows>(job.x + row * job.width, job.width, units, count,
                   job.out + row * job.out_stride + position, job.out_stride);
  }
  if constexpr (kRows > 1) {
    if (row < job.rows) DotRows<kRows - 1>(job, units, row, position);
  }
}

void Dots(const FfnDots& job) {
  const int64_t last = job.range.end - 1;
  const auto row_of = [&job, last](int64_t position) {
    const int64_t p = position < last ? position : last;
    return job.w + (job.units == nullptr ? p : job.units[p]) * job.width;
  };
  UnitRows units;
  units.read_ahead = job.read_ahead;
  for (int64_t p = job.range.begin; p < job.range.end; p += kDotUnits) {
    for (int u = 0; u < kDotUnits; ++u) {
      units.now[u] = row_of(p + u);
      units.next[u] = row_of(p + kDotUnits + u);
    }
    DotRows<kDotRows>(job, units, 0, p);
  }
}

// erfc(t) e^(t^2) for t >= 0: w (c0 + c1 w + ...), w = 2 / (2 + t). Our own minimax fit (Remez) of
// the relative error on [0, 9.4], below 5e-8; beyond, e^(-t^2) is 0 here.
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

// Floats and integers in the same order.
LECTERN_INLINE int32_t OrderedKey(float x) {
  int32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  return bits >= 0 ? bits : bits ^ 0x7fffffff;
}
LECTERN_INLINE float FromOrderedKey(int32_t key) {
  const int32_t bits = key >= 0 ? key : key ^ 0x7fffffff;
  float x;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}

LECTERN_INLINE Ints LoadKeys(const int32_t* x) {
  Ints v;
  __builtin_memcpy(&v, x, sizeof(v));
  return v;
}

void Keys(const float* value, const float* weight, bool magnitude, int64_t count, int32_t* keys) {
  const Ints kept_bits = Ints{} + (magnitude ? 0x7fffffff : -1);
  for (int64_t i = 0; i < count; i += kLanes) {
    Floats v = Load(value + i, count - i);
    if (weight != nullptr) v *= Load(weight + i, count - i);
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
  for (; i + kLanes <= count; i += kLanes) minus += LoadKeys(keys + i) >= bound;
  int64_t total = 0;
  for (int lane = 0; lane < kLanes; ++lane) total -= minus[lane];
  for (; i < count; ++i) total += keys[i] >= bound;
  return total;
}

// Bisection: between the values while the two ends are far apart (ranks are spread evenly, their
// bits are not), between the bits when that no longer moves.
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

int64_t ListKept(const int32_t* keys, int64_t count, FfnCut cut, int32_t* units) {
  int64_t kept = 0;
  if (cut.ties >= count) {
    for (int64_t i = 0; i < count; ++i) {
      units[kept] = static_cast<int32_t>(i);
      kept += keys[i] >= cut.key;
    }
    return kept;
  }
  for (int64_t i = 0; i < count; ++i) {
    if (keys[i] > cut.key || (keys[i] == cut.key && cut.ties-- > 0)) {
      units[kept++] = static_cast<int32_t>(i);
    }
  }
  return kept;
}

void ZeroDropped(const int32_t* keys, int64_t count, FfnCut cut, float* values) {
  int64_t i = 0;
  if (cut.ties >= count) {
    for (; i + kLanes <= count; i += kLanes) {
      const Floats v = LoadWhole(values + i);
      Store(values + i, LoadKeys(keys + i) >= cut.key ? v : Floats{}, kLanes);
    }
  }
  for (; i < count; ++i) {
    if (keys[i] < cut.key || (keys[i] == cut.key && cut.ties-- <= 0)) values[i] = 0.0f;
  }
}

// y[c] += hidden[0] * row 0 [c] + ... over the columns, kept in the cache: for a row that keeps its
// own units, and for what a tile leaves over.
template <int kUnits>
LECTERN_INLINE void AddUnits(const float* hidden, const float* const* rows,
                             const float* const* next, FfnRange columns, float* y) {
  int64_t c = columns.begin;
  for (; c + kLanes <= columns.end; c += kLanes) {
    if (next != nullptr) {
#pragma GCC unroll 4
      for (int u = 0; u < kUnits; ++u) __builtin_prefetch(next[u] + c);
    }
    Floats sum = LoadWhole(y + c);
#pragma GCC unroll 4
    for (int u = 0; u < kUnits; ++u) sum += LoadWhole(rows[u] + c) * hidden[u];
    Store(y + c, sum, kLanes);
  }
  if (c < columns.end) {
    const int64_t count = columns.end - c;
    Floats sum = Load(y + c, count);
#pragma GCC unroll 4
    for (int u = 0; u < kUnits; ++u) sum += Load(rows[u] + c, count) * hidden[u];
    Store(y + c, sum, count);
  }
}

void MixRow(const FfnMix& job, const float* hidden, FfnRange columns, float* y) {
  constexpr int kUnits = 4;
  for (int64_t c = columns.begin; c < columns.end; ++c) y[c] = 0.0f;
  const auto row_of = [&job](int64_t position) {
    const int64_t p = position < job.count ? position : job.count - 1;
    return job.down + (job.units == nullptr ? p : job.units[p]) * job.width;
  };
  int64_t p = 0;
  for (; p + kUnits <= job.count; p += kUnits) {
    const float *rows[kUnits], *next[kUnits];
    for (int u = 0; u < kUnits; ++u) {
      rows[u] = row_of(p + u);
      next[u] = row_of(p + kUnits + u);
    }
    AddUnits<kUnits>(hidden + p, rows, job.read_ahead ? next : nullptr, columns, y);
  }
  for (; p < job.count; ++p) {
    const float* row = row_of(p);
    AddUnits<1>(hidden + p, &row, nullptr, columns, y);
  }
}

template <int kRows>
LECTERN_INLINE void MixTile(const FfnMix& job, int64_t row, int64_t column) {
  Floats sum[kRows][kTileVectors] = {};
  const float* hidden = job.hidden + row * job.hidden_stride;
  const float* down = job.down + column;
  for (int64_t p = 0; p < job.count; ++p, down += job.width) {
    Floats v[kTileVectors];
#pragma GCC unroll 4
    for (int i = 0; i < kTileVectors; ++i) v[i] = LoadWhole(down + i * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Floats h = Floats{} + hidden[r * job.hidden_stride + p];
#pragma GCC unroll 4
      for (int i = 0; i < kTileVectors; ++i) sum[r][i] += v[i] * h;
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    float* y = job.y + (row + r) * job.width + column;
#pragma GCC unroll 4
    for (int i = 0; i < kTileVectors; ++i) Store(y + i * kLanes, sum[r][i], kLanes);
  }
}

template <int kRows>
void MixRows(const FfnMix& job, int64_t row, int64_t column) {
  for (; row + kRows <= job.rows; row += kRows) MixTile<kRows>(job, row, column);
  if constexpr (kRows > 1) {
    if (row < job.rows) MixRows<kRows - 1>(job, row, column);
  }
}

void Mix(const FfnMix& job) {
  constexpr int64_t kTileColumns = kTileVectors * kLanes;
  int64_t column = job.columns.begin;
  if (job.rows > 1) {
    for (; column + kTileColumns <= job.columns.end; column += kTileColumns) {
      MixRows<kTileRows>(job, 0, column);
    }
  }
  for (int64_t row = 0; row < job.rows; ++row) {
    MixRow(job, job.hidden + row * job.hidden_stride, {column, job.columns.end},
           job.y + row * job.width);
  }
}

constexpr FfnOps kOps = {Dots, Activate, Keys, FindCut, ListKept, ZeroDropped, Mix};

}  // namespace
}  // namespace lectern::kernels
