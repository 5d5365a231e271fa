// The products of gathered_ffn for each instruction set. Private to this folder.
//
// Every sum has one order, whatever rows, units or columns are asked for together: a dot product
// is one vector accumulator over the width, and an output is one accumulator over the units in
// ascending order. So splitting the work in any way changes no bit of any row.
#pragma once

#include <cstdint>

#include "kernels/runtime/execution_context.h"

namespace lectern::bench {

// [begin, end) of units, of positions in a list of units, or of columns.
struct IndexRange {
  int64_t begin = 0;
  int64_t end = 0;
};

// out[r * out_stride + p] = x_r . w_u for the positions p of `range`, with u = units[p], or u = p
// if units is null.
struct DotProducts {
  const float* x;  // [rows, width]
  int64_t rows;
  int64_t width;
  const float* w;        // [units, width]
  const int32_t* units;  // or null: all, in order
  IndexRange range;
  float* out;
  int64_t out_stride;
};

// y_r[c] = sum over the positions p of hidden[r * hidden_stride + p] * down[u, c], for the columns
// c of `columns`; u as in DotProducts. The sum starts from 0 if the positions begin there,
// otherwise from y.
struct WeightedRows {
  const float* hidden;
  int64_t hidden_stride;
  int64_t rows;
  const int32_t* units;
  IndexRange positions;
  const float* down;  // [units, width]
  int64_t width;
  IndexRange columns;
  float* y;         // [rows, width]
  bool read_ahead;  // prefetches rows of `down`; used with one row
};

struct GatheredOps {
  void (*dot_products)(const DotProducts& job);
  // With several rows, units must be null: each row keeps different ones.
  void (*add_weighted_rows)(const WeightedRows& job);
};

extern const GatheredOps kGatheredOpsPortable;
extern const GatheredOps kGatheredOpsAvx2;
extern const GatheredOps kGatheredOpsAvx512;

}  // namespace lectern::bench
