#include <immintrin.h>

#include "kernels/linear/int8_linear_isa.h"
#include "kernels/linear/int8_quantize_row.h"

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

inline __attribute__((always_inline)) __m256i LoadWeights(const int8_t* w) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(w));
}

// Returns sum + x0 . w0 + x1 . w1, eight products a channel. Two vpmaddubsw are added in 16 bits:
// packing keeps four weights to kInt8QuadSum, and 127 * kInt8QuadSum < 2^15.
inline __attribute__((always_inline)) __m256i AddProducts(__m256i sum, __m256i x0, __m256i w0,
                                                          __m256i x1, __m256i w1) {
  static_assert(127 * kInt8QuadSum < 1 << 15);
  const __m256i quads =
      _mm256_add_epi16(_mm256_maddubs_epi16(x0, w0), _mm256_maddubs_epi16(x1, w1));
  const __m256i eights = _mm256_madd_epi16(quads, _mm256_set1_epi16(1));
  // With the intrinsic, GCC 12 adds in another order and keeps sums in memory.
  asm("vpaddd %1, %0, %0" : "+x"(sum) : "x"(eights));
  return sum;
}

// Adds the products of a single last group.
inline __attribute__((always_inline)) __m256i AddProducts(__m256i sum, __m256i x, __m256i w) {
  const __m256i none = _mm256_setzero_si256();
  return AddProducts(sum, x, w, none, none);
}

// y = or += the exact sums of channels [first, first + 8) of one row, as many of them as exist.
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
  if (channels >= kLanes) {  // masked stores are slow on some CPUs
    _mm256_storeu_ps(y, block.accumulate ? _mm256_add_ps(_mm256_loadu_ps(y), value) : value);
    return;
  }
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(channels), lane);
  const __m256 old = block.accumulate ? _mm256_maskload_ps(y, mask) : _mm256_setzero_ps();
  _mm256_maskstore_ps(y, mask, block.accumulate ? _mm256_add_ps(old, value) : value);
}

constexpr int kGroupBytes = kInt8Group * kInt8BlockChannels;  // of weights

// One row streams the weights of kVectors vectors of channels.
template <int kVectors>
void OneRow(const Int8Block& block) {
  __m256i sum[kVectors];
  for (__m256i& lanes : sum) lanes = _mm256_setzero_si256();
  const uint8_t* x = block.x;
  const int8_t* w = block.w;
  int64_t groups = block.groups;
  for (; groups > 1; groups -= 2, x += 2 * kInt8Group, w += 2 * kGroupBytes) {
    const __m256i x0 = BroadcastGroup(x), x1 = BroadcastGroup(x + kInt8Group);
    for (int v = 0; v < kVectors; ++v) {
      sum[v] = AddProducts(sum[v], x0, LoadWeights(w + v * 32), x1,
                           LoadWeights(w + kGroupBytes + v * 32));
    }
  }
  for (int v = 0; groups > 0 && v < kVectors; ++v) {
    sum[v] = AddProducts(sum[v], BroadcastGroup(x), LoadWeights(w + v * 32));
  }
  for (int v = 0; v < kVectors; ++v) Store(block, 0, v * kLanes, sum[v]);
}

// Several rows take the inputs in pieces whose weights and sums stay in the L1 cache.
constexpr int64_t kPieceGroups = 64;
constexpr int64_t kTileRows = 4;
constexpr int kTileVectors = 2;  // kTileRows * kTileVectors sums of 16 registers

struct Piece {
  const uint8_t* x = nullptr;  // [rows, groups * 4] in rows of `width` bytes
  int64_t width = 0;
  const int8_t* w = nullptr;
  int64_t groups = 0;
  alignas(64) int32_t sums[kInt8BlockRows][kInt8BlockChannels];
};

// Adds a piece to the sums of rows [row, row + kRows) and 16 channels.
template <int kRows>
void Tile(Piece& piece, int64_t row, int first) {
  __m256i sum[kRows][kTileVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kTileVectors; ++v) {
      const int32_t* sums = &piece.sums[row + r][first + v * kLanes];
      sum[r][v] = _mm256_load_si256(reinterpret_cast<const __m256i*>(sums));
    }
  }
  const int64_t width = piece.width;
  const uint8_t* x = piece.x + row * width;
  const int8_t* w = piece.w + first * kInt8Group;
  int64_t groups = piece.groups;
  for (; groups > 1; groups -= 2, x += 2 * kInt8Group, w += 2 * kGroupBytes) {
    for (int r = 0; r < kRows; ++r) {
      const __m256i x0 = BroadcastGroup(x + r * width);
      const __m256i x1 = BroadcastGroup(x + r * width + kInt8Group);
      for (int v = 0; v < kTileVectors; ++v) {
        sum[r][v] = AddProducts(sum[r][v], x0, LoadWeights(w + v * 32), x1,
                                LoadWeights(w + kGroupBytes + v * 32));
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kTileVectors; ++v) {
      if (groups > 0) {
        sum[r][v] = AddProducts(sum[r][v], BroadcastGroup(x + r * width), LoadWeights(w + v * 32));
      }
      int32_t* sums = &piece.sums[row + r][first + v * kLanes];
      _mm256_store_si256(reinterpret_cast<__m256i*>(sums), sum[r][v]);
    }
  }
}

void SeveralRows(const Int8Block& block) {
  constexpr void (*kTiles[])(Piece&, int64_t, int) = {Tile<1>, Tile<2>, Tile<3>, Tile<4>};
  const int64_t tiles = (block.rows + kTileRows - 1) / kTileRows;
  Piece piece;
  piece.width = block.groups * kInt8Group;
  __builtin_memset(piece.sums, 0, block.rows * sizeof(piece.sums[0]));
  for (int64_t begin = 0; begin < block.groups; begin += kPieceGroups) {
    piece.x = block.x + begin * kInt8Group;
    piece.w = block.w + begin * kGroupBytes;
    piece.groups = begin + kPieceGroups < block.groups ? kPieceGroups : block.groups - begin;
    for (int64_t t = 0; t < tiles; ++t) {  // tiles of nearly equal height
      const int64_t row = block.rows * t / tiles, end = block.rows * (t + 1) / tiles;
      for (int first = 0; first < block.channels; first += kTileVectors * kLanes) {
        kTiles[end - row - 1](piece, row, first);
      }
    }
  }
  for (int64_t row = 0; row < block.rows; ++row) {
    for (int first = 0; first < block.channels; first += kLanes) {
      const auto* sums = reinterpret_cast<const __m256i*>(&piece.sums[row][first]);
      Store(block, row, first, _mm256_load_si256(sums));
    }
  }
}

void Block(const Int8Block& block) {
  if (block.rows > 1) return SeveralRows(block);
  if (block.channels > kInt8BlockChannels / 2) return OneRow<kBlockVectors>(block);
  OneRow<kBlockVectors / 2>(block);
}

}  // namespace

extern const Int8LinearOps kInt8LinearAvx2 = {QuantizeRow, QuantizeWeights, Block};

}  // namespace lectern::kernels
