// The inner loops of topk_ffn and sparse_ffn for each instruction-set class. Internal to kernels/.
//
// Every sum has one order, whatever rows, units or columns are asked for together: a dot product
// is one vector accumulator over the width, an output is one accumulator over the units in
// ascending order. So splitting work in any way changes no bit of any row.
#pragma once

#include <cstdint>

#include "kernels/ffn/ffn_activation.h"
#include "kernels/runtime/execution_context.h"

namespace lectern::kernels {

// Units (or positions in a list of units), columns: [begin, end).
struct FfnRange {
  int64_t begin = 0;
  int64_t end = 0;
};

// out[r * out_stride + p] = x_r . w_u for positions p of `range`; u = units[p], or p without units.
struct FfnDots {
  const float* x;  // [rows, width]
  int64_t rows;
  int64_t width;
  const float* w;        // [units, width]
  const int32_t* units;  // null: all, in order
  FfnRange range;
  float* out;
  int64_t out_stride;
};

// y_r[c] = sum over positions p of hidden[r * hidden_stride + p] * down[u, c], for columns c of
// `columns`; u as above. From 0 when the positions begin there, else on top of y.
struct FfnMix {
  const float* hidden;
  int64_t hidden_stride;
  int64_t rows;
  const int32_t* units;
  FfnRange positions;
  const float* down;  // [units, width]
  int64_t width;
  FfnRange columns;
  float* y;         // [rows, width]
  bool read_ahead;  // one row: ask for rows of `down` before they are used
};

// The k largest of a row: keys above `key`, and the first `ties` of the equal ones.
struct FfnCut {
  int32_t key;
  int64_t ties;
};

struct FfnOps {
  void (*dots)(const FfnDots& job);
  // out = f(z) * up (up null: f(z)); out may be z.
  void (*activate)(FfnActivation activation, const float* z, const float* up, int64_t count,
                   float* out);
  // Integers in the order of weight * value (or of its magnitude; weight null: 1). NaN is the
  // smallest of all; -0 equals 0.
  void (*keys)(const float* value, const float* weight, bool magnitude, int64_t count,
               int32_t* keys);
  // 0 < k < count.
  FfnCut (*find_cut)(const int32_t* keys, int64_t count, int64_t k);
  // The units that stay, ascending; returns how many. `units` has room for count.
  int64_t (*list_kept)(const int32_t* keys, int64_t count, FfnCut cut, int32_t* units);
  // The values of the other units become 0.
  void (*zero_dropped)(const int32_t* keys, int64_t count, FfnCut cut, float* values);
  // Several rows want units null: each row keeps its own.
  void (*mix)(const FfnMix& job);
};

extern const FfnOps kFfnOpsPortable;
extern const FfnOps kFfnOpsAvx2;
extern const FfnOps kFfnOpsAvx512;

// The operations of a class that CheckContext has accepted.
const FfnOps& FfnOpsOf(Isa isa);

}  // namespace lectern::kernels
