#include <immintrin.h>

#include "kernels/linear/q4q8_linear_isa.h"
#include "kernels/linear/q4q8_quantize_row.h"

namespace lectern::kernels {
namespace {

constexpr int kLanes = 8;  // channels of one vector
constexpr int kGroupBytes = 4 * kBlockChannels;
constexpr int kTileVectors = 2;  // of one tile of several rows
constexpr int kTileChannels = kTileVectors * kLanes;

inline __attribute__((always_inline)) __m256i Broadcast4(const int8_t* x) {
  int32_t bytes;
  __builtin_memcpy(&bytes, x, sizeof(bytes));
  return _mm256_set1_epi32(bytes);
}

inline __attribute__((always_inline)) __m256i Load(const uint8_t* bytes) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes));
}

inline __attribute__((always_inline)) __m256 LoadHalves(const uint8_t* halves) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(halves)));
}

// Adds four products a channel: to 16 bits with 4-bit codes, to 32 with 8-bit codes.
template <int kBits>
inline __attribute__((always_inline)) __m256i AddProducts(__m256i sum, __m256i w, __m256i x) {
  if constexpr (kBits == 4) {
    // With the intrinsic, GCC 12 makes a tree of the sums of a block and keeps its leaves in
    // memory.
    asm("vpaddw %1, %0, %0" : "+x"(sum) : "x"(_mm256_maddubs_epi16(w, x)));
    return sum;
  } else {
    // |w| times x signed by w: a pair of products stays within 2 * 128 * 127 < 2^15.
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
}

// Finishes the integer sums of a block and converts them to floats.
template <int kBits>
inline __attribute__((always_inline)) __m256 Sums(__m256i sum) {
  if constexpr (kBits == 4) sum = _mm256_madd_epi16(sum, _mm256_set1_epi16(1));
  return _mm256_cvtepi32_ps(sum);
}

// Adds the part of a block to the total, always in this order of operations.
template <int kBits>
inline __attribute__((always_inline)) __m256 AddBlock(__m256 total, __m256i sum, __m256 scale,
                                                      __m256 minimum, __m256 x_scale,
                                                      __m256 x_sum) {
  total = _mm256_fmadd_ps(Sums<kBits>(sum), _mm256_mul_ps(scale, x_scale), total);
  if constexpr (kBits == 4) total = _mm256_fmadd_ps(minimum, x_sum, total);
  return total;
}

// Writes channels [first, first + 8) after p.first of one row, as many of them as exist.
inline void Store(const Q4Q8Product& p, int64_t row, int first, __m256 value) {
  const int channels = p.channels - first;
  if (channels <= 0) return;
  float* y = p.y + row * p.y_stride + first;
  if (channels >= kLanes) {  // masked stores are slow on some CPUs
    _mm256_storeu_ps(y, p.accumulate ? _mm256_add_ps(_mm256_loadu_ps(y), value) : value);
    return;
  }
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(channels), lane);
  const __m256 old = p.accumulate ? _mm256_maskload_ps(y, mask) : _mm256_setzero_ps();
  _mm256_maskstore_ps(y, mask, p.accumulate ? _mm256_add_ps(old, value) : value);
}

// One row: codes are unpacked in registers, the weights read once as a stream.
template <int kBits, int kVectors>
void OneRow(const Q4Q8Product& p) {
  constexpr int kAhead = 4096;  // bytes
  const __m256i low = _mm256_set1_epi8(15);
  __m256 total[kVectors];
  for (__m256& lanes : total) lanes = _mm256_setzero_ps();
  const uint8_t* block = p.w;
  const int8_t* x = p.x.codes;
  for (int64_t b = 0; b < p.blocks; ++b, block += BlockBytes(kBits), x += kBlockInputs) {
    const uint8_t* codes = block + p.first * 4;
    __m256i sum[kVectors];
    for (__m256i& lanes : sum) lanes = _mm256_setzero_si256();
    for (int i = 0; i < kBlockInputs; i += kBits == 4 ? 8 : 4, codes += kGroupBytes) {
      for (int line = 0; line < kVectors * 32; line += 64) {
        _mm_prefetch(reinterpret_cast<const char*>(codes + line + kAhead), _MM_HINT_T0);
      }
      const __m256i x0 = Broadcast4(x + i);
      if constexpr (kBits == 4) {
        const __m256i x1 = Broadcast4(x + i + 4);
        for (int v = 0; v < kVectors; ++v) {
          const __m256i both = Load(codes + v * 32);
          sum[v] = AddProducts<4>(sum[v], _mm256_and_si256(both, low), x0);
          sum[v] = AddProducts<4>(sum[v], _mm256_and_si256(_mm256_srli_epi16(both, 4), low), x1);
        }
      } else {
        for (int v = 0; v < kVectors; ++v) {
          sum[v] = AddProducts<8>(sum[v], Load(codes + v * 32), x0);
        }
      }
    }
    const uint8_t* scales = block + BlockCodeBytes(kBits) + p.first * 2;
    const __m256 x_scale = _mm256_set1_ps(p.x.scale[b]);
    const __m256 x_sum = _mm256_set1_ps(p.x.sum[b]);
    for (int v = 0; v < kVectors; ++v) {
      const __m256 minimum =
          kBits == 4 ? LoadHalves(scales + (kBlockChannels + v * kLanes) * 2) : _mm256_setzero_ps();
      total[v] = AddBlock<kBits>(total[v], sum[v], LoadHalves(scales + v * kLanes * 2), minimum,
                                 x_scale, x_sum);
    }
  }
  for (int v = 0; v < kVectors; ++v) Store(p, 0, v * kLanes, total[v]);
}

// Ends a block of a tile: adds its part to the totals of kRows rows from p.x's `row` on.
template <int kBits, int kRows>
inline __attribute__((always_inline)) void EndBlock(const Q4Q8Product& p, int64_t row, int64_t b,
                                                    const __m256 (&scale)[kTileVectors],
                                                    const __m256 (&minimum)[kTileVectors],
                                                    const __m256i (&sum)[kRows][kTileVectors],
                                                    __m256 (&total)[kRows][kTileVectors]) {
  for (int r = 0; r < kRows; ++r) {
    const __m256 x_scale = _mm256_set1_ps(p.x.scale[(row + r) * p.blocks + b]);
    const __m256 x_sum = _mm256_set1_ps(p.x.sum[(row + r) * p.blocks + b]);
    for (int v = 0; v < kTileVectors; ++v) {
      total[r][v] = AddBlock<kBits>(total[r][v], sum[r][v], scale[v], minimum[v], x_scale, x_sum);
    }
  }
}

// Rows [row, row + kRows) times 16 channels, `first` after p.first, unpacked in registers.
template <int kBits, int kRows>
void DirectTile(const Q4Q8Product& p, int64_t row, int first) {
  const __m256i low = _mm256_set1_epi8(15);
  __m256 total[kRows][kTileVectors];
  for (auto& lanes : total) lanes[0] = lanes[1] = _mm256_setzero_ps();
  const int64_t width = p.blocks * kBlockInputs;
  const int64_t group_bytes = p.blocks * static_cast<int64_t>(BlockBytes(kBits));
  const int channel = p.first + first;
  const int8_t* x = p.x.codes + row * width;
  const uint8_t* block = p.w;
  for (int64_t b = 0; b < p.blocks; ++b, block += BlockBytes(kBits), x += kBlockInputs) {
    __m256i sum[kRows][kTileVectors];
    for (auto& lanes : sum) lanes[0] = lanes[1] = _mm256_setzero_si256();
    const uint8_t* codes = block + channel * 4;
    for (int i = 0; i < kBlockInputs; i += kBits == 4 ? 8 : 4, codes += kGroupBytes) {
      // This line in the next group of channels.
      _mm_prefetch(reinterpret_cast<const char*>(codes + group_bytes), _MM_HINT_T0);
      const __m256i c0 = Load(codes), c1 = Load(codes + 32);
      if constexpr (kBits == 4) {
        const __m256i w00 = _mm256_and_si256(c0, low), w10 = _mm256_and_si256(c1, low);
        const __m256i w01 = _mm256_and_si256(_mm256_srli_epi16(c0, 4), low);
        const __m256i w11 = _mm256_and_si256(_mm256_srli_epi16(c1, 4), low);
        for (int r = 0; r < kRows; ++r) {
          const __m256i x0 = Broadcast4(x + r * width + i), x1 = Broadcast4(x + r * width + i + 4);
          sum[r][0] = AddProducts<4>(AddProducts<4>(sum[r][0], w00, x0), w01, x1);
          sum[r][1] = AddProducts<4>(AddProducts<4>(sum[r][1], w10, x0), w11, x1);
        }
      } else {
        for (int r = 0; r < kRows; ++r) {
          const __m256i four = Broadcast4(x + r * width + i);
          sum[r][0] = AddProducts<8>(sum[r][0], c0, four);
          sum[r][1] = AddProducts<8>(sum[r][1], c1, four);
        }
      }
    }
    const uint8_t* scales = block + BlockCodeBytes(kBits) + channel * 2;
    const __m256 scale[] = {LoadHalves(scales), LoadHalves(scales + kLanes * 2)};
    __m256 minimum[] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    if constexpr (kBits == 4) {
      minimum[0] = LoadHalves(scales + kBlockChannels * 2);
      minimum[1] = LoadHalves(scales + (kBlockChannels + kLanes) * 2);
    }
    EndBlock<kBits, kRows>(p, row, b, scale, minimum, sum, total);
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kTileVectors; ++v) Store(p, row + r, first + v * kLanes, total[r][v]);
  }
}

// A few rows: reading the codes again for every four of them is cheaper than keeping them unpacked.
constexpr int64_t kDirectRows = 8;

template <int kBits>
void FewRows(const Q4Q8Product& p) {
  constexpr int64_t kTileRows = 4;
  constexpr void (*kTiles[])(const Q4Q8Product&, int64_t, int) = {
      DirectTile<kBits, 1>, DirectTile<kBits, 2>, DirectTile<kBits, 3>, DirectTile<kBits, 4>};
  const int64_t tiles = (p.rows + kTileRows - 1) / kTileRows;
  for (int first = 0; first < p.channels; first += kTileChannels) {
    for (int64_t t = 0; t < tiles; ++t) {  // tiles of nearly equal height
      const int64_t begin = p.rows * t / tiles, end = p.rows * (t + 1) / tiles;
      kTiles[end - begin - 1](p, begin, first);
    }
  }
}

// 16 channels of the group, unpacked for tiles of many rows.
struct TileBlock {
  alignas(64) uint8_t codes[kBlockInputs / 4][kTileChannels * 4];
  float scale[kTileChannels];
  float minimum[kTileChannels];
};

template <int kBits>
void Unpack(const uint8_t* block, int channel, TileBlock& out) {
  const __m256i low = _mm256_set1_epi8(15);
  const uint8_t* codes = block + channel * 4;
  for (int v = 0; v < kTileVectors; ++v) {
    for (int group = 0; group < kBlockInputs / 4; ++group) {
      auto* to = reinterpret_cast<__m256i*>(out.codes[group] + v * 32);
      if constexpr (kBits == 4) {
        const __m256i both = Load(codes + group / 2 * kGroupBytes + v * 32);
        const __m256i shifted = group % 2 == 0 ? both : _mm256_srli_epi16(both, 4);
        _mm256_store_si256(to, _mm256_and_si256(shifted, low));
      } else {
        _mm256_store_si256(to, Load(codes + group * kGroupBytes + v * 32));
      }
    }
    const uint8_t* scales = block + BlockCodeBytes(kBits) + (channel + v * kLanes) * 2;
    _mm256_storeu_ps(out.scale + v * kLanes, LoadHalves(scales));
    if constexpr (kBits == 4) {
      _mm256_storeu_ps(out.minimum + v * kLanes, LoadHalves(scales + kBlockChannels * 2));
    }
  }
}

// Rows [row, row + kRows) times 16 unpacked channels, `first` after p.first.
template <int kBits, int kRows>
void Tile(const Q4Q8Product& p, const TileBlock* tile, int64_t row, int first) {
  __m256 total[kRows][kTileVectors];
  for (auto& lanes : total) lanes[0] = lanes[1] = _mm256_setzero_ps();
  const int64_t width = p.blocks * kBlockInputs;
  const int8_t* x = p.x.codes + row * width;
  for (int64_t b = 0; b < p.blocks; ++b, ++tile, x += kBlockInputs) {
    __m256i sum[kRows][kTileVectors];
    for (auto& lanes : sum) lanes[0] = lanes[1] = _mm256_setzero_si256();
    for (int group = 0; group < kBlockInputs / 4; ++group) {
      const __m256i w0 = Load(tile->codes[group]), w1 = Load(tile->codes[group] + 32);
      for (int r = 0; r < kRows; ++r) {
        const __m256i four = Broadcast4(x + r * width + group * 4);
        sum[r][0] = AddProducts<kBits>(sum[r][0], w0, four);
        sum[r][1] = AddProducts<kBits>(sum[r][1], w1, four);
      }
    }
    const __m256 scale[] = {_mm256_loadu_ps(tile->scale), _mm256_loadu_ps(tile->scale + kLanes)};
    __m256 minimum[] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    if constexpr (kBits == 4) {
      minimum[0] = _mm256_loadu_ps(tile->minimum);
      minimum[1] = _mm256_loadu_ps(tile->minimum + kLanes);
    }
    EndBlock<kBits, kRows>(p, row, b, scale, minimum, sum, total);
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kTileVectors; ++v) Store(p, row + r, first + v * kLanes, total[r][v]);
  }
}

// Scratch of the calling thread, which grows as needed.
TileBlock* TileScratch(int64_t blocks) {
  struct Memory {
    ~Memory() { _mm_free(data); }
    TileBlock* data = nullptr;
    int64_t size = 0;
  };
  static thread_local Memory memory;
  if (memory.size < blocks) {
    _mm_free(memory.data);
    memory.data = static_cast<TileBlock*>(_mm_malloc(blocks * sizeof(TileBlock), 64));
    memory.size = blocks;
  }
  return memory.data;
}

template <int kBits>
void ManyRows(const Q4Q8Product& p) {
  constexpr int64_t kTileRows = 6;  // 6 rows x 2 vectors = 12 sums of 16 registers
  constexpr void (*kTiles[])(const Q4Q8Product&, const TileBlock*, int64_t, int) = {
      Tile<kBits, 1>, Tile<kBits, 2>, Tile<kBits, 3>,
      Tile<kBits, 4>, Tile<kBits, 5>, Tile<kBits, 6>};
  TileBlock* tile = TileScratch(p.blocks);
  const int64_t tiles = (p.rows + kTileRows - 1) / kTileRows;
  for (int first = 0; first < p.channels; first += kTileChannels) {
    for (int64_t b = 0; b < p.blocks; ++b) {
      Unpack<kBits>(p.w + b * BlockBytes(kBits), p.first + first, tile[b]);
    }
    for (int64_t t = 0; t < tiles; ++t) {  // tiles of nearly equal height
      const int64_t begin = p.rows * t / tiles, end = p.rows * (t + 1) / tiles;
      kTiles[end - begin - 1](p, tile, begin, first);
    }
  }
}

template <int kBits>
void Multiply(const Q4Q8Product& p) {
  if (p.rows > kDirectRows) return ManyRows<kBits>(p);
  if (p.rows > 1) return FewRows<kBits>(p);
  if (p.channels > kBlockChannels / 2) return OneRow<kBits, kBlockChannels / kLanes>(p);
  OneRow<kBits, kBlockChannels / kLanes / 2>(p);
}

}  // namespace

extern const Q4Q8LinearOps kQ4Q8LinearAvx2 = {QuantizeBlocks, Multiply<4>, Multiply<8>};

}  // namespace lectern::kernels
