#include <immintrin.h>

#include "kernels/int8_linear_isa.h"
#include "kernels/int8_quantize_row.h"

namespace lectern::kernels {
namespace {

// Activations are 7 bits wide, u8 = integer + 64 in 1..127: vpmaddubsw adds two products in 16
// bits, and 2 * 127 * 127 = 32258 < 2^15.
constexpr float kLimit = 63.0f;
constexpr int kOffset = 64;
constexpr int kLanes = 8;
constexpr int kBlockVectors = kInt8BlockChannels / kLanes;

float QuantizeRow(const float* x, int64_t k, uint8_t* q) {
  return QuantizeActivations(x, k, kLimit, kOffset, q);
}

inline __attribute__((always_inline)) __m256i BroadcastGroup(const uint8_t* x) {
  int32_t group;
  __builtin_memcpy(&group, x, sizeof(group));
  return _mm256_set1_epi32(group);
}

// Stores channels [first, first + 8) of one row, as many of them as exist.
inline void Store(const Int8Block& block, int64_t row, int first, __m256i sum) {
  const int channels = block.channels - first;
  if (channels <= 0) return;
  float* y = block.y + row * block.y_stride + first;
  const __m256i row_sum =
      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(block.row_sum + first));
  const __m256i exact = _mm256_sub_epi32(sum, _mm256_slli_epi32(row_sum, 6));  // 64 * row_sum
  const __m256 scale =
      _mm256_mul_ps(_mm256_set1_ps(block.x_scale[row]), _mm256_loadu_ps(block.w_scale + first));
  const __m256 value = _mm256_mul_ps(_mm256_cvtepi32_ps(exact), scale);
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(channels), lane);
  const __m256 old = block.accumulate ? _mm256_maskload_ps(y, mask) : _mm256_setzero_ps();
  _mm256_maskstore_ps(y, mask, block.accumulate ? _mm256_add_ps(old, value) : value);
}

// Rows [row, row + kRows) times kVectors vectors of channels, from vector `first` of the block on.
template <int kRows, int kVectors>
void Tile(const Int8Block& block, int64_t row, int first) {
  const int64_t width = block.groups * kInt8Group;
  const uint8_t* x = block.x + row * width;
  const int8_t* w = block.w + first * 32;
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i sum[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) sum[r][v] = _mm256_setzero_si256();
  }
  for (int64_t i = 0; i < width; i += kInt8Group, w += kInt8Group * kInt8BlockChannels) {
    __m256i weight[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      weight[v] = _mm256_load_si256(reinterpret_cast<const __m256i*>(w + v * 32));
    }
    for (int r = 0; r < kRows; ++r) {
      const __m256i group = BroadcastGroup(x + r * width + i);
      for (int v = 0; v < kVectors; ++v) {
        const __m256i pairs = _mm256_maddubs_epi16(group, weight[v]);
        sum[r][v] = _mm256_add_epi32(sum[r][v], _mm256_madd_epi16(pairs, ones));
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) Store(block, row + r, (first + v) * kLanes, sum[r][v]);
  }
}

// A single row streams whole groups (or half ones); several rows share two vectors of weights at a
// time.
template <int kRows>
void Rows(const Int8Block& block, int64_t row) {
  if constexpr (kRows == 1) {
    if (block.channels > kInt8BlockChannels / 2) return Tile<1, kBlockVectors>(block, row, 0);
  }
  constexpr int kVectors = kRows == 1 ? kBlockVectors / 2 : 2;
  for (int first = 0; first * kLanes < block.channels; first += kVectors) {
    Tile<kRows, kVectors>(block, row, first);
  }
}

void Block(const Int8Block& block) {
  constexpr int64_t kTileRows = 4;  // 4 rows x 2 vectors = 8 accumulators of 16 registers
  constexpr void (*kRowTiles[])(const Int8Block&, int64_t) = {Rows<1>, Rows<2>, Rows<3>, Rows<4>};
  const int64_t tiles = (block.rows + kTileRows - 1) / kTileRows;
  for (int64_t tile = 0; tile < tiles; ++tile) {  // tiles of nearly equal height
    const int64_t begin = block.rows * tile / tiles, end = block.rows * (tile + 1) / tiles;
    kRowTiles[end - begin - 1](block, begin);
  }
}

}  // namespace

extern const Int8LinearOps kInt8LinearAvx2 = {QuantizeRow, QuantizeWeights, Block};

}  // namespace lectern::kernels
