#include <immintrin.h>

#include "kernels/linear/block_linear_isa.h"
#include "kernels/linear/block_quantize_row.h"
#include "kernels/linear/unrolled.h"

#define LECTERN_INLINE __attribute__((always_inline))

namespace lectern::kernels {
namespace {

constexpr int kLanes = 16;       // channels of one vector
constexpr int kTileVectors = 2;  // of one tile of several rows
constexpr int kTileChannels = kTileVectors * kLanes;
constexpr int kGroups = kBlockInputs / 4;  // of four inputs, in a block

template <int kBits>
constexpr int kPartGroups = kGroups / BlockScales(kBits);

// Inline assembly for the reason given in int8_linear_avx512.cc. w is unsigned, x signed.
inline LECTERN_INLINE void DotAccumulate(__m512i& sum, __m512i w, __m512i x) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(w), "v"(x));
}

inline LECTERN_INLINE __m512i Broadcast4(const int8_t* x) {
  int32_t bytes;
  __builtin_memcpy(&bytes, x, sizeof(bytes));
  return _mm512_set1_epi32(bytes);
}

inline LECTERN_INLINE __m512i Load(const uint8_t* bytes) { return _mm512_load_si512(bytes); }

inline LECTERN_INLINE __m512 LoadHalves(const uint8_t* halves) {
  return _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(halves)));
}

// The upper bits of four inputs, above the places of the lower four bits. `words` are the vector of
// a block that holds them.
template <int kBits, int kGroup>
inline LECTERN_INLINE __m512i UpperBits(__m512i words) {
  constexpr int kUpper = kBits - 4;
  constexpr int kShift = 4 - kUpper * (kGroup % (8 / kUpper));
  const __m512i mask = _mm512_set1_epi8(((1 << kUpper) - 1) << 4);
  if constexpr (kShift > 0) words = _mm512_slli_epi32(words, kShift);
  if constexpr (kShift < 0) words = _mm512_srli_epi32(words, -kShift);
  return _mm512_and_si512(words, mask);
}

// Codes of 16 channels, from 0 on, of the groups kGroup and kGroup + 1 of four inputs. `block` is
// the block from the first of the channels on.
template <int kBits, int kGroup>
inline LECTERN_INLINE void Unpack(const uint8_t* block, __m512i& first, __m512i& second) {
  if constexpr (kBits == 8) {
    const __m512i sign = _mm512_set1_epi8(-128);  // code + 128
    first = _mm512_xor_si512(Load(block + kGroup * kBlockGroupBytes), sign);
    second = _mm512_xor_si512(Load(block + (kGroup + 1) * kBlockGroupBytes), sign);
    return;
  }
  const __m512i low = _mm512_set1_epi8(15);
  const __m512i both = Load(block + kGroup / 2 * kBlockGroupBytes);
  const __m512i shifted = _mm512_srli_epi32(both, 4);
  if constexpr (kBits == 4) {
    first = _mm512_and_si512(both, low);
    second = _mm512_and_si512(shifted, low);
  } else if constexpr (kBits < 8) {
    constexpr int kAndOr = 0xEA;  // (a & b) | c
    const __m512i words =
        Load(block + kBlockNibbleBytes + kGroup / (8 / (kBits - 4)) * kBlockGroupBytes);
    first = _mm512_ternarylogic_epi32(both, low, UpperBits<kBits, kGroup>(words), kAndOr);
    second = _mm512_ternarylogic_epi32(shifted, low, UpperBits<kBits, kGroup + 1>(words), kAndOr);
  }
}

// Asks for what Unpack of kVectors vectors reads from `block` on.
template <int kBits, int kGroup, int kVectors>
inline LECTERN_INLINE void Prefetch(const uint8_t* block) {
  constexpr int kWordGroups = kBits == 5 ? 8 : 4;
  for (int v = 0; v < kVectors; ++v) {
    const auto line = [&](int offset) LECTERN_INLINE {
      _mm_prefetch(reinterpret_cast<const char*>(block + offset + v * 64), _MM_HINT_T0);
    };
    if (kBits == 8) {
      line(kGroup * kBlockGroupBytes);
      line((kGroup + 1) * kBlockGroupBytes);
      continue;
    }
    line(kGroup / 2 * kBlockGroupBytes);
    if (kBits > 4 && kGroup % kWordGroups == 0) {
      line(kBlockNibbleBytes + kGroup / kWordGroups * kBlockGroupBytes);
    }
  }
}

// The first value of the sum of a part of a block, with which codes may be counted from 0 on. `at`
// is row * blocks + block.
template <int kBits>
inline LECTERN_INLINE __m512i StartOfSum(const BlockRows& x, int64_t at, int part) {
  if constexpr (kBits == 6) return _mm512_set1_epi32(x.minus_32[2 * at + part]);
  if constexpr (kBits == 8) {
    return _mm512_set1_epi32(4 * (x.minus_32[2 * at] + x.minus_32[2 * at + 1]));
  }
  return _mm512_setzero_si512();
}

// Bytes of 16 channels as floats.
template <bool kSigned>
inline LECTERN_INLINE __m512 LoadBytes(const uint8_t* at) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
  return _mm512_cvtepi32_ps(kSigned ? _mm512_cvtepi8_epi32(bytes) : _mm512_cvtepu8_epi32(bytes));
}

// Scales of a part of a block of 16 channels, and the minima.
struct Scales {
  __m512 scale;
  __m512 minimum;
};

// Those of part `part`. `block` and `super`, the halves of two levels, are from the first of the
// channels on.
template <BlockForm kForm>
inline LECTERN_INLINE Scales LoadScales(const uint8_t* block, const uint8_t* super, int channel,
                                        int part) {
  constexpr int kBytes = kForm.two_levels ? 1 : 2;
  const uint8_t* scales = block + BlockCodeBytes(kForm.bits) + channel * kBytes;
  const uint8_t* scale = scales + part * kBlockChannels * kBytes;
  const uint8_t* minimum = scales + kBlockChannels * kBytes;
  Scales w{_mm512_setzero_ps(), _mm512_setzero_ps()};
  if constexpr (kForm.two_levels) {
    const uint8_t* halves = super + channel * 2;
    w.scale = _mm512_mul_ps(LoadHalves(halves), LoadBytes<kForm.bits == 6>(scale));
    if constexpr (kForm.has_minimum()) {
      const __m512 x =
          _mm512_mul_ps(LoadHalves(halves + kBlockChannels * 2), LoadBytes<false>(minimum));
      w.minimum = _mm512_xor_ps(x, _mm512_set1_ps(-0.0f));
    }
  } else {
    w.scale = LoadHalves(scale);
    if constexpr (kForm.has_minimum()) w.minimum = LoadHalves(minimum);
  }
  return w;
}

// Adds a part of a block to the total, always in this order of operations.
template <int kBits>
inline LECTERN_INLINE __m512 AddPart(__m512 total, __m512i sum, const Scales& w, __m512 x_scale,
                                     __m512 x_sum) {
  total = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(w.scale, x_scale), total);
  if constexpr (BlockForm{kBits}.has_minimum()) total = _mm512_fmadd_ps(w.minimum, x_sum, total);
  return total;
}

// Writes channels [first, first + 16) after p.first of one row, as many of them as exist.
inline LECTERN_INLINE void Store(const BlockProduct& p, int64_t row, int first, __m512 value) {
  const int channels = p.channels - first;
  if (channels <= 0) return;
  const __mmask16 mask = channels >= kLanes ? 0xFFFF : (1u << channels) - 1;
  float* y = p.y + row * p.y_stride + first;
  if (p.accumulate) value = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, y), value);
  _mm512_mask_storeu_ps(y, mask, value);
}

// Rows [row, row + kRows) times kVectors vectors of channels, `first` after p.first, whose codes
// are unpacked in registers. Asks for the weights that come 4 KiB later.
template <BlockForm kForm, int kRows, int kVectors>
void DirectTile(const BlockProduct& p, int64_t row, int first) {
  constexpr int kBits = kForm.bits;
  constexpr int kParts = BlockScales(kBits);
  constexpr int kAhead = 4096;
  __m512 total[kRows][kVectors];
  Unrolled<kRows>([&](auto r) LECTERN_INLINE {
    Unrolled<kVectors>([&](auto v) LECTERN_INLINE { total[r][v] = _mm512_setzero_ps(); });
  });
  const int64_t width = p.blocks * kBlockInputs;
  const int8_t* x = p.x.codes + row * width;
  const int channel = p.first + first;
  const uint8_t* block = p.w;
  const uint8_t* super = block;
  for (int64_t b = 0; b < p.blocks; ++b, block += BlockBytes(kForm), x += kBlockInputs) {
    if (kForm.two_levels && b % kSuperBlocks == 0) {
      super = block;
      block += SuperBytes(kForm);
    }
    const int64_t at = row * p.blocks + b;
    const uint8_t* codes = block + channel * 4;
    Unrolled<kParts>([&](auto part) LECTERN_INLINE {
      __m512i sum[kRows][kVectors];
      Unrolled<kRows>([&](auto r) LECTERN_INLINE {
        const __m512i start = StartOfSum<kBits>(p.x, at + r * p.blocks, part);
        Unrolled<kVectors>([&](auto v) LECTERN_INLINE { sum[r][v] = start; });
      });
      Unrolled<kPartGroups<kBits> / 2>([&](auto pair) LECTERN_INLINE {
        constexpr int kGroup = part * kPartGroups<kBits> + 2 * pair;
        Prefetch<kBits, kGroup, kVectors>(codes + kAhead);
        __m512i w0[kVectors], w1[kVectors];
        Unrolled<kVectors>(
            [&](auto v) LECTERN_INLINE { Unpack<kBits, kGroup>(codes + v * 64, w0[v], w1[v]); });
        Unrolled<kRows>([&](auto r) LECTERN_INLINE {
          const __m512i x0 = Broadcast4(x + r * width + kGroup * 4);
          const __m512i x1 = Broadcast4(x + r * width + kGroup * 4 + 4);
          Unrolled<kVectors>([&](auto v) LECTERN_INLINE { DotAccumulate(sum[r][v], w0[v], x0); });
          Unrolled<kVectors>([&](auto v) LECTERN_INLINE { DotAccumulate(sum[r][v], w1[v], x1); });
        });
      });
      Unrolled<kVectors>([&](auto v) LECTERN_INLINE {
        const Scales w = LoadScales<kForm>(block, super, channel + v * kLanes, part);
        Unrolled<kRows>([&](auto r) LECTERN_INLINE {
          total[r][v] = AddPart<kBits>(total[r][v], sum[r][v], w,
                                       _mm512_set1_ps(p.x.scale[at + r * p.blocks]),
                                       _mm512_set1_ps(p.x.sum[at + r * p.blocks]));
        });
      });
    });
  }
  Unrolled<kRows>([&](auto r) LECTERN_INLINE {
    Unrolled<kVectors>([&](auto v)
                           LECTERN_INLINE { Store(p, row + r, first + v * kLanes, total[r][v]); });
  });
}

// A few rows: reading the codes again for every four of them is cheaper than keeping them unpacked.
constexpr int64_t kDirectRows = 8;

template <BlockForm kForm>
void FewRows(const BlockProduct& p) {
  constexpr int64_t kTileRows = 4;
  constexpr void (*kTiles[])(const BlockProduct&, int64_t, int) = {
      DirectTile<kForm, 1, kTileVectors>, DirectTile<kForm, 2, kTileVectors>,
      DirectTile<kForm, 3, kTileVectors>, DirectTile<kForm, 4, kTileVectors>};
  const int64_t tiles = (p.rows + kTileRows - 1) / kTileRows;
  for (int first = 0; first < p.channels; first += kTileChannels) {
    for (int64_t t = 0; t < tiles; ++t) {  // tiles of nearly equal height
      const int64_t begin = p.rows * t / tiles, end = p.rows * (t + 1) / tiles;
      kTiles[end - begin - 1](p, begin, first);
    }
  }
}

// A block of 32 channels, unpacked for tiles of many rows.
struct TileBlock {
  alignas(64) uint8_t codes[kGroups][kTileChannels * 4];
  alignas(64) float scales[2][kTileChannels];  // and minima, or scales of the second part
};

template <BlockForm kForm>
void UnpackBlock(const uint8_t* block, const uint8_t* super, int channel, TileBlock& out) {
  constexpr int kBits = kForm.bits;
  Unrolled<kGroups / 2>([&](auto pair) LECTERN_INLINE {
    Unrolled<kTileVectors>([&](auto v) LECTERN_INLINE {
      __m512i first, second;
      Unpack<kBits, 2 * pair>(block + channel * 4 + v * 64, first, second);
      _mm512_store_si512(out.codes[2 * pair] + v * 64, first);
      _mm512_store_si512(out.codes[2 * pair + 1] + v * 64, second);
    });
  });
  Unrolled<kTileVectors>([&](auto v) LECTERN_INLINE {
    const int at = channel + v * kLanes;
    const Scales w = LoadScales<kForm>(block, super, at, 0);
    _mm512_store_ps(out.scales[0] + v * kLanes, w.scale);
    if constexpr (BlockScales(kBits) == 2) {
      _mm512_store_ps(out.scales[1] + v * kLanes, LoadScales<kForm>(block, super, at, 1).scale);
    } else {
      _mm512_store_ps(out.scales[1] + v * kLanes, w.minimum);
    }
  });
}

// Rows [row, row + kRows) times 32 unpacked channels, `first` after p.first.
template <int kBits, int kRows>
void Tile(const BlockProduct& p, const TileBlock* tile, int64_t row, int first) {
  constexpr int kParts = BlockScales(kBits);
  __m512 total[kRows][kTileVectors];
  Unrolled<kRows>([&](auto r) LECTERN_INLINE {
    Unrolled<kTileVectors>([&](auto v) LECTERN_INLINE { total[r][v] = _mm512_setzero_ps(); });
  });
  const int64_t width = p.blocks * kBlockInputs;
  const int8_t* x = p.x.codes + row * width;
  for (int64_t b = 0; b < p.blocks; ++b, ++tile, x += kBlockInputs) {
    const int64_t at = row * p.blocks + b;
    Unrolled<kParts>([&](auto part) LECTERN_INLINE {
      __m512i sum[kRows][kTileVectors];
      Unrolled<kRows>([&](auto r) LECTERN_INLINE {
        const __m512i start = StartOfSum<kBits>(p.x, at + r * p.blocks, part);
        Unrolled<kTileVectors>([&](auto v) LECTERN_INLINE { sum[r][v] = start; });
      });
      Unrolled<kPartGroups<kBits>>([&](auto i) LECTERN_INLINE {
        constexpr int kGroup = part * kPartGroups<kBits> + i;
        const __m512i w0 = _mm512_load_si512(tile->codes[kGroup]);
        const __m512i w1 = _mm512_load_si512(tile->codes[kGroup] + 64);
        Unrolled<kRows>([&](auto r) LECTERN_INLINE {
          const __m512i four = Broadcast4(x + r * width + kGroup * 4);
          DotAccumulate(sum[r][0], w0, four);
          DotAccumulate(sum[r][1], w1, four);
        });
      });
      Unrolled<kTileVectors>([&](auto v) LECTERN_INLINE {
        Scales w{_mm512_load_ps(tile->scales[part] + v * kLanes), {}};
        if constexpr (BlockForm{kBits}.has_minimum()) {
          w.minimum = _mm512_load_ps(tile->scales[1] + v * kLanes);
        }
        Unrolled<kRows>([&](auto r) LECTERN_INLINE {
          total[r][v] = AddPart<kBits>(total[r][v], sum[r][v], w,
                                       _mm512_set1_ps(p.x.scale[at + r * p.blocks]),
                                       _mm512_set1_ps(p.x.sum[at + r * p.blocks]));
        });
      });
    });
  }
  Unrolled<kRows>([&](auto r) LECTERN_INLINE {
    Unrolled<kTileVectors>(
        [&](auto v) LECTERN_INLINE { Store(p, row + r, first + v * kLanes, total[r][v]); });
  });
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

template <BlockForm kForm>
void ManyRows(const BlockProduct& p) {
  constexpr int kBits = kForm.bits;
  constexpr int64_t kTileRows = 6;  // 6 rows x 2 vectors: 12 sums and 12 totals of 32 registers
  constexpr void (*kTiles[])(const BlockProduct&, const TileBlock*, int64_t, int) = {
      Tile<kBits, 1>, Tile<kBits, 2>, Tile<kBits, 3>,
      Tile<kBits, 4>, Tile<kBits, 5>, Tile<kBits, 6>};
  TileBlock* tile = TileScratch(p.blocks);
  const int64_t tiles = (p.rows + kTileRows - 1) / kTileRows;
  for (int first = 0; first < p.channels; first += kTileChannels) {
    const uint8_t* block = p.w;
    const uint8_t* super = block;
    for (int64_t b = 0; b < p.blocks; ++b, block += BlockBytes(kForm)) {
      if (kForm.two_levels && b % kSuperBlocks == 0) {
        super = block;
        block += SuperBytes(kForm);
      }
      UnpackBlock<kForm>(block, super, p.first + first, tile[b]);
    }
    for (int64_t t = 0; t < tiles; ++t) {  // tiles of nearly equal height
      const int64_t begin = p.rows * t / tiles, end = p.rows * (t + 1) / tiles;
      kTiles[end - begin - 1](p, tile, begin, first);
    }
  }
}

template <BlockForm kForm>
void Multiply(const BlockProduct& p) {
  if (p.rows > kDirectRows) return ManyRows<kForm>(p);
  if (p.rows > 1) return FewRows<kForm>(p);
  if (p.channels > kTileChannels) return DirectTile<kForm, 1, kBlockChannels / kLanes>(p, 0, 0);
  DirectTile<kForm, 1, kTileVectors>(p, 0, 0);
}

void MultiplyBlocks(const BlockProduct& p) {
  switch (p.form.bits) {
    case 4:
      return p.form.two_levels ? Multiply<BlockForm{4, true}>(p) : Multiply<BlockForm{4}>(p);
    case 5:
      return p.form.two_levels ? Multiply<BlockForm{5, true}>(p) : Multiply<BlockForm{5}>(p);
    case 6:
      return Multiply<BlockForm{6, true}>(p);
    default:
      return Multiply<BlockForm{8}>(p);
  }
}

}  // namespace

extern const BlockLinearOps kBlockLinearAvx512 = {QuantizeBlocks, MultiplyBlocks};

}  // namespace lectern::kernels
