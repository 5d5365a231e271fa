// The products of gathered_ops.h, compiled once for each instruction set. Include it as simd.h.
#pragma once

#include <cstdint>

#include "bench/gathered_ffn/gathered_ops.h"
#include "kernels/runtime/simd.h"

namespace lectern::bench {
namespace {

using kernels::Floats;
using kernels::kLanes;
using kernels::Load;
using kernels::Store;

// Accumulators that fit into the registers next to the operands: rows x units, or rows x vectors of
// columns.
#if defined(__AVX512F__)
constexpr int kTileRows = 6, kTileVectors = 4;
#elif defined(__AVX2__)
constexpr int kTileRows = 6, kTileVectors = 2;
#else
constexpr int kTileRows = 4, kTileVectors = 2;
#endif
constexpr int kDotRows = kLanes == 16 ? 6 : 2;
constexpr int kDotUnits = 4;
// All rows pass over this many units before the next ones, whose weights stay in the L1 cache.
constexpr int kDotGroup = 8;
// All rows and columns pass over this many units before the next ones: few enough for the L2 cache
// and the TLB.
constexpr int64_t kWeighedUnits = 64;

using Quad = float __attribute__((vector_size(16)));

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

// The weights of kDotUnits units, and those to prefetch.
struct UnitRows {
  const float* now[kDotUnits];
  const float* later[kDotUnits];
};

LECTERN_INLINE void StoreSums(const Floats* sum, int64_t count, float* out) {
  const Quad four = SumFour(sum[0], sum[1], sum[2], sum[3]);
  if (count >= kDotUnits) {
    __builtin_memcpy(out, &four, sizeof(four));
  } else {
    for (int64_t u = 0; u < count; ++u) out[u] = four[u];
  }
}

// One row waits for its weights, which arrive fastest as one stream: unit after unit.
LECTERN_INLINE void DotSingle(const float* x, int64_t width, const UnitRows& units, int64_t count,
                              float* out) {
  Floats sum[kDotUnits] = {};
#pragma GCC unroll 4
  for (int u = 0; u < kDotUnits; ++u) {
    int64_t i = 0;
    for (; i + kLanes <= width; i += kLanes) {
      __builtin_prefetch(units.later[u] + i);
      sum[u] += Load(x + i) * Load(units.now[u] + i);
    }
    if (i < width) sum[u] += Load(x + i, width - i) * Load(units.now[u] + i, width - i);
  }
  StoreSums(sum, count, out);
}

template <int kRows>
LECTERN_INLINE void DotTile(const float* x, int64_t width, const UnitRows& units, int64_t count,
                            float* out, int64_t out_stride) {
  Floats sum[kRows][kDotUnits] = {};
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) {
    Floats w[kDotUnits];
#pragma GCC unroll 4
    for (int u = 0; u < kDotUnits; ++u) {
      __builtin_prefetch(units.later[u] + i);
      w[u] = Load(units.now[u] + i);
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Floats v = Load(x + r * width + i);
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
    StoreSums(sum[r], count, out + r * out_stride);
  }
}

// Multiplies the rows from `row` on with the units of `group`, in tiles of at most kRows.
template <int kRows>
void DotRows(const DotProducts& job, IndexRange group, int64_t row) {
  const auto row_of = [&job](int64_t position) {
    const int64_t p = position < job.range.end ? position : job.range.end - 1;
    return job.w + (job.units == nullptr ? p : job.units[p]) * job.width;
  };
  for (; row + kRows <= job.rows; row += kRows) {
    for (int64_t p = group.begin; p < group.end; p += kDotUnits) {
      UnitRows units;
      for (int u = 0; u < kDotUnits; ++u) {
        units.now[u] = row_of(p + u);
        units.later[u] = row_of(p + kDotGroup + u);
      }
      const float* x = job.x + row * job.width;
      float* out = job.out + row * job.out_stride + p;
      if constexpr (kRows == 1) {
        DotSingle(x, job.width, units, job.range.end - p, out);
      } else {
        DotTile<kRows>(x, job.width, units, job.range.end - p, out, job.out_stride);
      }
    }
  }
  if constexpr (kRows > 1) {
    if (row < job.rows) DotRows<kRows - 1>(job, group, row);
  }
}

void ComputeDotProducts(const DotProducts& job) {
  for (int64_t p = job.range.begin; p < job.range.end; p += kDotGroup) {
    const int64_t end = p + kDotGroup < job.range.end ? p + kDotGroup : job.range.end;
    DotRows<kDotRows>(job, {p, end}, 0);
  }
}

// y[c] += hidden[0] * row 0 [c] + ... over the columns, which stay in the cache. For a single row,
// and for the columns that no tile covers.
template <int kUnits>
LECTERN_INLINE void AddUnits(const float* hidden, const float* const* rows,
                             const float* const* next, IndexRange columns, float* y) {
  int64_t c = columns.begin;
  for (; c + kLanes <= columns.end; c += kLanes) {
    if (next != nullptr) {
#pragma GCC unroll 4
      for (int u = 0; u < kUnits; ++u) __builtin_prefetch(next[u] + c);
    }
    Floats sum = Load(y + c);
#pragma GCC unroll 4
    for (int u = 0; u < kUnits; ++u) sum += Load(rows[u] + c) * hidden[u];
    Store(y + c, sum);
  }
  if (c < columns.end) {
    const int64_t count = columns.end - c;
    Floats sum = Load(y + c, count);
#pragma GCC unroll 4
    for (int u = 0; u < kUnits; ++u) sum += Load(rows[u] + c, count) * hidden[u];
    Store(y + c, sum, count);
  }
}

void WeighRow(const WeightedRows& job, const float* hidden, IndexRange columns, float* y) {
  constexpr int kUnits = 4;
  if (job.positions.begin == 0) {
    for (int64_t c = columns.begin; c < columns.end; ++c) y[c] = 0.0f;
  }
  const auto row_of = [&job](int64_t position) {
    const int64_t p = position < job.positions.end ? position : job.positions.end - 1;
    return job.down + (job.units == nullptr ? p : job.units[p]) * job.width;
  };
  int64_t p = job.positions.begin;
  for (; p + kUnits <= job.positions.end; p += kUnits) {
    const float *rows[kUnits], *next[kUnits];
    for (int u = 0; u < kUnits; ++u) {
      rows[u] = row_of(p + u);
      next[u] = row_of(p + kUnits + u);
    }
    AddUnits<kUnits>(hidden + p, rows, job.read_ahead ? next : nullptr, columns, y);
  }
  for (; p < job.positions.end; ++p) {
    const float* row = row_of(p);
    AddUnits<1>(hidden + p, &row, nullptr, columns, y);
  }
}

// Adds units [units.begin, units.end) to y, or to 0 if they are the first.
template <int kRows>
LECTERN_INLINE void WeighTile(const WeightedRows& job, IndexRange units, int64_t row,
                              int64_t column) {
  Floats sum[kRows][kTileVectors] = {};
  float* y = job.y + row * job.width + column;
  if (units.begin > 0) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int i = 0; i < kTileVectors; ++i) sum[r][i] = Load(y + r * job.width + i * kLanes);
    }
  }
  const float* hidden = job.hidden + row * job.hidden_stride;
  const float* down = job.down + units.begin * job.width + column;
  const int64_t later =
      units.end + kWeighedUnits <= job.positions.end ? kWeighedUnits * job.width : 0;
  for (int64_t p = units.begin; p < units.end; ++p, down += job.width) {
    Floats v[kTileVectors];
#pragma GCC unroll 4
    for (int i = 0; i < kTileVectors; ++i) {
      __builtin_prefetch(down + later + i * kLanes);
      v[i] = Load(down + i * kLanes);
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Floats h = Floats{} + hidden[r * job.hidden_stride + p];
#pragma GCC unroll 4
      for (int i = 0; i < kTileVectors; ++i) sum[r][i] += v[i] * h;
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int i = 0; i < kTileVectors; ++i) Store(y + r * job.width + i * kLanes, sum[r][i]);
  }
}

template <int kRows>
void WeighRows(const WeightedRows& job, IndexRange units, int64_t row, int64_t column) {
  for (; row + kRows <= job.rows; row += kRows) WeighTile<kRows>(job, units, row, column);
  if constexpr (kRows > 1) {
    if (row < job.rows) WeighRows<kRows - 1>(job, units, row, column);
  }
}

void AddWeightedRows(const WeightedRows& job) {
  constexpr int64_t kTileColumns = kTileVectors * kLanes;
  int64_t column = job.columns.begin;
  if (job.rows > 1) {
    const int64_t tiled = (job.columns.end - column) / kTileColumns * kTileColumns;
    const IndexRange all = job.positions;
    for (int64_t p = all.begin; p < all.end; p += kWeighedUnits) {
      const int64_t end = p + kWeighedUnits < all.end ? p + kWeighedUnits : all.end;
      for (int64_t c = 0; c < tiled; c += kTileColumns) {
        WeighRows<kTileRows>(job, {p, end}, 0, column + c);
      }
    }
    column += tiled;
  }
  for (int64_t row = 0; row < job.rows; ++row) {
    WeighRow(job, job.hidden + row * job.hidden_stride, {column, job.columns.end},
             job.y + row * job.width);
  }
}

constexpr GatheredOps kOps = {ComputeDotProducts, AddWeightedRows};

}  // namespace
}  // namespace lectern::bench
