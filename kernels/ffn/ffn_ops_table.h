// The inner loops of activate and topk_ffn for each instruction set, one row at a time. Internal to
// kernels/.
#pragma once

#include <cstdint>

#include "kernels/ffn/ffn_activation.h"
#include "kernels/runtime/execution_context.h"

namespace lectern::kernels {

// The k largest keys of a row: those above `key`, and the first `ties` of those equal to it.
struct FfnCut {
  int32_t key;
  int64_t ties;
};

struct FfnOps {
  // out = f(z) * up (up null: f(z)); out may be z.
  void (*activate)(FfnActivation activation, const float* z, const float* up, int64_t count,
                   float* out);
  // Writes integers in the order of the values, or of their magnitudes. NaN is the smallest of all;
  // -0 equals 0.
  void (*keys)(const float* value, bool magnitude, int64_t count, int32_t* keys);
  // Finds the k largest keys; 0 < k < count.
  FfnCut (*find_cut)(const int32_t* keys, int64_t count, int64_t k);
  // Sets the values of the other units to 0.
  void (*zero_dropped)(const int32_t* keys, int64_t count, FfnCut cut, float* values);
};

extern const FfnOps kFfnOpsPortable;
extern const FfnOps kFfnOpsAvx2;
extern const FfnOps kFfnOpsAvx512;

// The operations for an instruction set that CheckContext has accepted.
const FfnOps& FfnOpsOf(Isa isa);

}  // namespace lectern::kernels
