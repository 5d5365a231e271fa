#include <immintrin.h>

#include "kernels/linear/int8_linear_isa.h"
#include "kernels/linear/int8_quantize_row.h"

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

// Prefetches the weights that one step of a tile reads.
template <int kTileVectors>
inline __attribute__((always_inline)) void Prefetch(const int8_t* w) {
  for (int v = 0; v < kTileVectors; ++v) _mm_prefetch(w + v * 64, _MM_HINT_T0);
}

inline __attribute__((always_inline)) __m512i BroadcastGroup(const uint8_t* x) {
  int32_t group;
  __builtin_memcpy(&group, x, sizeof(group));
  return _mm512_set1_epi32(group);
}

// Scales the integer sums of rows [row, row + rows). It reads them from memory: were it to index
// the accumulators themselves in a loop, GCC would keep them in memory in the loop over k as well.
template <int kTileVectors>
void Store(const Int8Block& block, int64_t row, int rows,
           const int32_t (*sums)[kTileVectors * kLanes]) {
  for (int v = 0; v < kTileVectors; ++v) {
    const int channels = block.channels - v * kLanes;
    if (channels <= 0) break;
    const __mmask16 mask = channels >= kLanes ? 0xFFFF : (1u << channels) - 1;
    const __m512i excess =
        _mm512_slli_epi32(_mm512_loadu_si512(block.row_sum + v * kLanes), 7);  // 128 * row_sum
    const __m512 w_scale = _mm512_loadu_ps(block.w_scale + v * kLanes);
    for (int r = 0; r < rows; ++r) {
      float* y = block.y + (row + r) * block.y_stride + v * kLanes;
      const __m512 scale = _mm512_mul_ps(_mm512_set1_ps(block.x_scale[row + r]), w_scale);
      const __m512i sum = _mm512_sub_epi32(_mm512_load_si512(&sums[r][v * kLanes]), excess);
      __m512 value = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), scale);
      if (block.accumulate) value = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, y), value);
      _mm512_mask_storeu_ps(y, mask, value);
    }
  }
}

// One group of inputs of one row, times all channels of the tile.
template <int kTileVectors>
inline __attribute__((always_inline)) void MultiplyGroup(__m512i (&sum)[kTileVectors],
                                                         const uint8_t* x,
                                                         const __m512i (&weight)[kTileVectors]) {
  const __m512i group = BroadcastGroup(x);
  DotAccumulate(sum[0], group, weight[0]);
  DotAccumulate(sum[1], group, weight[1]);
  if constexpr (kTileVectors > 2) DotAccumulate(sum[2], group, weight[2]);
  if constexpr (kTileVectors > 2) DotAccumulate(sum[3], group, weight[3]);
}

// Rows [row, row + kRows) of the block. Loops over rows and vectors are written out: GCC takes an
// array for registers only if it sees constant indices early.
template <int kRows, int kTileVectors>
void Tile(const Int8Block& block, int64_t row) {
  const int64_t width = block.groups * kInt8Group;
  const uint8_t* x = block.x + row * width;
  const int8_t* w = block.w;
  __m512i sum[kRows][kTileVectors] = {};
  for (int64_t i = 0; i < width; i += kInt8Group, w += kInt8Group * kInt8BlockChannels) {
    __m512i weight[kTileVectors];
    weight[0] = _mm512_load_si512(w);
    weight[1] = _mm512_load_si512(w + 64);
    if constexpr (kTileVectors > 2) weight[2] = _mm512_load_si512(w + 128);
    if constexpr (kTileVectors > 2) weight[3] = _mm512_load_si512(w + 192);
    if constexpr (kRows == 1) Prefetch<kTileVectors>(w + kPrefetchBytes);
    MultiplyGroup(sum[0], x + i, weight);
    if constexpr (kRows > 1) MultiplyGroup(sum[1], x + i + width, weight);
    if constexpr (kRows > 2) MultiplyGroup(sum[2], x + i + 2 * width, weight);
    if constexpr (kRows > 3) MultiplyGroup(sum[3], x + i + 3 * width, weight);
    if constexpr (kRows > 4) MultiplyGroup(sum[4], x + i + 4 * width, weight);
    if constexpr (kRows > 5) MultiplyGroup(sum[5], x + i + 5 * width, weight);
  }
  alignas(64) int32_t sums[kRows][kTileVectors * kLanes];
  __builtin_memcpy(sums, sum, sizeof(sums));
  Store<kTileVectors>(block, row, kRows, sums);
}

template <int kTileVectors>
void Tiles(const Int8Block& block) {
  constexpr void (*kTiles[])(const Int8Block&, int64_t) = {
      Tile<1, kTileVectors>, Tile<2, kTileVectors>, Tile<3, kTileVectors>,
      Tile<4, kTileVectors>, Tile<5, kTileVectors>, Tile<6, kTileVectors>};
  const int64_t tiles = (block.rows + kTileRows - 1) / kTileRows;
  for (int64_t tile = 0; tile < tiles; ++tile) {  // tiles of nearly equal height
    const int64_t begin = block.rows * tile / tiles, end = block.rows * (tile + 1) / tiles;
    kTiles[end - begin - 1](block, begin);
  }
}

void Block(const Int8Block& block) {
  block.channels > 2 * kLanes ? Tiles<kVectors>(block) : Tiles<2>(block);
}

}  // namespace

extern const Int8LinearOps kInt8LinearAvx512 = {QuantizeRow, QuantizeWeights, Block};

}  // namespace lectern::kernels
