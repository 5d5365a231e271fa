#include <immintrin.h>

#include "kernels/int8_linear_isa.h"
#include "kernels/int8_quantize_row.h"

namespace lectern::kernels {
namespace {

constexpr int kOffset = 128;  // activations are u8 = integer + 128
constexpr int kLanes = 16;
constexpr int kVectors = kInt8BlockChannels / kLanes;
constexpr int kTileRows = 6;  // 6 rows x 4 vectors = 24 accumulators, 4 weights, 1 broadcast
constexpr int64_t kPrefetchBytes = 4096;

float QuantizeRow(const float* x, int64_t k, uint8_t* q) {
  return QuantizeActivations(x, k, 127.0f, kOffset, q);
}

// Inline assembly, because GCC 12 copies every accumulator around the in/out operand of the
// intrinsic once the tile is large (a third to a half of the speed).
inline __attribute__((always_inline)) void DotAccumulate(__m512i& sum, __m512i x, __m512i w) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
}

inline __attribute__((always_inline)) __m512i BroadcastGroup(const uint8_t* x) {
  int32_t group;
  __builtin_memcpy(&group, x, sizeof(group));
  return _mm512_set1_epi32(group);
}

// Rows [row, row + kRows) of the block.
template <int kRows>
void Tile(const Int8Block& block, int64_t row) {
  const int64_t width = block.groups * kInt8Group;
  const uint8_t* x = block.x + row * width;
  const int8_t* w = block.w;
  __m512i sum[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) sum[r][v] = _mm512_setzero_si512();
  }
  for (int64_t i = 0; i < width; i += kInt8Group, w += kInt8Group * kInt8BlockChannels) {
    __m512i weight[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      weight[v] = _mm512_load_si512(w + v * 64);
      if constexpr (kRows == 1) _mm_prefetch(w + v * 64 + kPrefetchBytes, _MM_HINT_T0);
    }
    for (int r = 0; r < kRows; ++r) {
      const __m512i group = BroadcastGroup(x + r * width + i);
      for (int v = 0; v < kVectors; ++v) DotAccumulate(sum[r][v], group, weight[v]);
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    const int channels = block.channels - v * kLanes;
    if (channels <= 0) break;
    const __mmask16 mask = channels >= kLanes ? 0xFFFF : (1u << channels) - 1;
    const __m512i excess =
        _mm512_slli_epi32(_mm512_loadu_si512(block.row_sum + v * kLanes), 7);  // 128 * row_sum
    const __m512 w_scale = _mm512_loadu_ps(block.w_scale + v * kLanes);
    for (int r = 0; r < kRows; ++r) {
      float* y = block.y + (row + r) * block.y_stride + v * kLanes;
      const __m512 scale = _mm512_mul_ps(_mm512_set1_ps(block.x_scale[row + r]), w_scale);
      __m512 value = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(sum[r][v], excess)), scale);
      if (block.accumulate) value = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, y), value);
      _mm512_mask_storeu_ps(y, mask, value);
    }
  }
}

void Block(const Int8Block& block) {
  constexpr void (*kTiles[])(const Int8Block&, int64_t) = {Tile<1>, Tile<2>, Tile<3>,
                                                           Tile<4>, Tile<5>, Tile<6>};
  const int64_t tiles = (block.rows + kTileRows - 1) / kTileRows;
  for (int64_t tile = 0; tile < tiles; ++tile) {  // tiles of nearly equal height
    const int64_t begin = block.rows * tile / tiles, end = block.rows * (tile + 1) / tiles;
    kTiles[end - begin - 1](block, begin);
  }
}

}  // namespace

extern const Int8LinearOps kInt8LinearAvx512 = {QuantizeRow, Block};

}  // namespace lectern::kernels
